#!/bin/sh
# IMAGES=folder MODEL=file [LABELS=file] demo.sh BUILD - quantizes a model of the user's on pictures of the
# user's: 32 of them to calibrate with, the others to test on.
set -eu
out=$1/demo-images
photos=$1/examples/qvit-photos
calib=${CALIB:-32}

if [ -z "${IMAGES-}" ] || [ -z "${MODEL-}" ]; then
    cat >&2 <<TEXT
make demo-images IMAGES=folder MODEL=file [LABELS=file]

  IMAGES  a folder of JPEG and PNG files; one folder inside it for each class, or else LABELS
  MODEL   a plain ViT or DeiT with timm's names, .safetensors
  LABELS  lines "relative/path.jpg label"

In the environment: SIZE=224 and CROP=0.9 as timm resizes and crops for the model, CLASSES=1000,
CALIB=32 pictures to calibrate with, N=how many others to test on.
TEXT
    exit 2
fi
mkdir -p "$out"
set -- --images "$IMAGES" --size "${SIZE:-224}" --crop "${CROP:-0.9}" --classes "${CLASSES:-1000}" \
    ${LABELS:+--labels "$LABELS"} --skip-bad
"$photos" "$@" --n "$calib" --out "$out/calib.npy" --labels-out "$out/calib_labels.npy" \
    >"$out/calib.txt"
cat "$out/calib.txt"
read=$(sed -n 's/.*: \([0-9]*\) of [0-9]* pictures.*/\1/p' "$out/calib.txt") # some may be unreadable
"$photos" "$@" --first "$calib" ${N:+--n "$N"} --out "$out/images.npy" \
    --labels-out "$out/labels.npy"

"${photos%photos}vit" eval --model "$MODEL" --images "$out/images.npy" --labels "$out/labels.npy" \
    --calib "$out/calib.npy" --calib-n "$read" --recipe minmax,ptq4vit-fast,best \
    --bits w8a8,w6a6,w4a8 --card "$out/card.json" --html "$out/page.html"

echo
echo "Layer by layer: $out/page-best-w8a8.html and its like, to look at in a browser"

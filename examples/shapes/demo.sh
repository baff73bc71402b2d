#!/bin/sh
# demo.sh BUILD - draws pictures, calibrates the model that was trained on such pictures in several ways
# and widths, runs all of them in integers, and shows what each cost and gained.
set -eu
out=$1/demo
shapes=$1/examples/qvit-shapes
mkdir -p "$out"

echo "Drawing 64 pictures to calibrate with, and 2000 others to test on."
"$shapes" --seed 3 --n 64 --images "$out/calib.npy" --labels "$out/calib_labels.npy"
"$shapes" --seed 2 --n 2000 --images "$out/images.npy" --labels "$out/labels.npy"

echo "Calibrating, quantizing and running a vision transformer of 0.8 million weights:"
"$1/examples/qvit-vit" eval --model examples/shapes/shapes.safetensors \
    --images "$out/images.npy" --labels "$out/labels.npy" \
    --calib "$out/calib.npy" --calib-n 64 --calib-rows 512 \
    --recipe minmax,cosine,ptq4vit-fast,best --bits w8a8,w6a6,w4a8,w4a4 \
    --card "$out/card.json" --html "$out/page.html" --json "$out/results.json"

cat <<TEXT

recipe       how the scales were chosen      bits         of weights and of activations
top-1        per cent right                  agreement    per cent answered as the float model does
x float      times as fast as float          weights kB   of all layers, on disk

What was chosen and what it did, layer by layer, of all sixteen:
    $out/page-best-w4a8.html and its like, to look at in a browser
    $out/card-best-w4a8.json and its like, for programs
TEXT

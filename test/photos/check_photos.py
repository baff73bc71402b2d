#!/usr/bin/env python3
"""Compares qvit-photos with PIL, byte for byte, and shows it files that cannot be read.

usage: check_photos.py QVIT_PHOTOS [SEED]

The pictures are generated. Everything counts as skipped without PIL, numpy, libjpeg or libpng. PIL and the program must
use the same libjpeg: the system's, as a distribution's own python3-pil does.
"""
import math
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib

try:
    import numpy as np
    from PIL import Image, ImageDraw
except ImportError:
    print("skip  no PIL or no numpy\n0 passed, 0 failed, 1 skipped")
    sys.exit(0)

SIZES = [(1, 1), (1, 7), (9, 1), (2, 3), (31, 17), (64, 48), (223, 225), (224, 224), (225, 301), (248, 248),
         (249, 248), (500, 375), (375, 500), (333, 1000), (1201, 799), (40, 3000)]
counts = {"ok": 0, "FAIL": 0}


def check(name, good):
    counts["ok" if good else "FAIL"] += 1
    print("%-4s  %s" % ("ok" if good else "FAIL", name))


# ---- pictures ----

def picture(rng, width, height):
    """Noise, a ramp and edges, so that weights, clipping and places all matter."""
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], 2)
    noise = rng.integers(0, 256, (height, width, 3))
    image = Image.fromarray(((ramp + noise) // 2).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for color in ("white", "black", "red", "blue"):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        right, bottom = int(rng.integers(left, width)), int(rng.integers(top, height))
        draw.rectangle((left, top, right, bottom), outline=color)
    return image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, raw, before=b"", end=True, interlaced=0):
    """A PNG file of raw rows, each without its filter byte."""
    rows = b"".join(b"\0" + bytes(r) for r in raw)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)) +
            before + chunk(b"IDAT", zlib.compress(rows)) + (chunk(b"IEND", b"") if end else b""))


def write_pictures(folder, rng):
    """Name -> the picture that is expected, where that is not what PIL says."""
    special = {}

    def at(name):
        return os.path.join(folder, name)

    for w, h in SIZES:
        image, name = picture(rng, w, h), "%dx%d" % (w, h)
        image.save(at(name + ".png"))
        image.save(at(name + ".jpg"), quality=90)
        image.save(at(name + "_444_progressive.JPEG"), quality=75, subsampling=0, progressive=True)
        image.convert("L").save(at(name + "_grey.jpg"))
        image.convert("CMYK").save(at(name + "_cmyk.jpeg"))
    image = picture(rng, 317, 271)
    pixels = np.asarray(image)
    alpha = rng.integers(0, 256, (271, 317, 1)).astype(np.uint8)
    image.convert("L").save(at("grey.png"))
    image.convert("1").save(at("bits.png"))
    image.quantize(200).save(at("palette.png"))
    image.quantize(3).save(at("palette2bits.png"))
    image.quantize(16).save(at("palette_transparent.png"), transparency=3)
    Image.fromarray(np.concatenate([pixels, alpha], 2)).save(at("alpha.png"))
    Image.fromarray(np.concatenate([pixels[:, :, :1], alpha], 2), "LA").save(at("grey_alpha.png"))
    image.save(at("transparent_colour.png"), transparency=(0, 0, 0))
    image.save(at("subsampled_422.jpg"), subsampling=1)
    exif = Image.Exif()
    exif[0x112] = 6
    image.save(at("rotated_by_exif.jpg"), exif=exif)
    image.save(at("png_named.jpg"), "PNG")
    image.save(at("JPEG_NAMED.PNG"), "JPEG")

    def put(name, *arguments, **more):
        with open(at(name), "wb") as stream:
            stream.write(png(*arguments, **more))

    noise = rng.integers(0, 65536, (75, 60, 4)).astype(">u2")
    put("16bit_rgb.png", 60, 75, 16, 2, [r.tobytes() for r in noise[:, :, :3]])
    put("16bit_rgba.png", 60, 75, 16, 6, [r.tobytes() for r in noise])
    put("16bit_grey_alpha.png", 60, 75, 16, 4, [r.tobytes() for r in noise[:, :, :2]])
    put("16bit_grey.png", 60, 75, 16, 0, [r.tobytes() for r in noise[:, :, 0]])
    special["16bit_grey.png"] = Image.fromarray((noise[:, :, 0] >> 8).astype(np.uint8))
    packed = rng.integers(0, 256, (75, 60)).astype(np.uint8)
    put("gamma.png", 60, 75, 8, 0, packed, before=chunk(b"gAMA", struct.pack(">I", 100000)))
    put("grey2bits.png", 239, 75, 2, 0, packed)
    put("grey4bits.png", 119, 75, 4, 0, packed)
    # Adam7: of 2 x 2 pixels, the passes 1, 6 and 7 have some
    put("interlaced.png", 2, 2, 8, 0, [b"\x10", b"\xf0", b"\x40\xa0"], interlaced=1)
    special["interlaced.png"] = Image.fromarray(np.array([[0x10, 0xf0], [0x40, 0xa0]], np.uint8))
    return special


# ---- what timm, torchvision and PIL make of a picture ----

def expected(image, size, crop):
    image = image.convert("RGB")
    scale = math.floor(size / crop)
    w, h = image.size
    short, long = min(w, h), max(w, h)
    new = scale, int(scale * long / short)
    w, h = new if w <= h else new[::-1]
    left, top = int(round((w - size) / 2.0)), int(round((h - size) / 2.0))
    return np.asarray(image.resize((w, h), Image.BICUBIC).crop((left, top, left + size, top + size)))


def shuffled(names):
    names, state, mask = sorted(names, key=os.fsencode), 0, (1 << 64) - 1
    for left in range(len(names), 1, -1):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        i = (z ^ z >> 31) % left
        names[i], names[left - 1] = names[left - 1], names[i]
    return names


# ---- runs ----

class Runner:
    def __init__(self, program, folder):
        self.program, self.folder = program, folder
        self.out, self.labels = os.path.join(folder, "i.npy"), os.path.join(folder, "l.npy")

    def run(self, images, *more):
        for path in (self.out, self.labels):
            if os.path.exists(path):
                os.remove(path)
        done = subprocess.run([self.program, "--images", images, "--out", self.out, "--labels-out",
                               self.labels, *more], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def left(self):
        return [f for f in os.listdir(self.folder) if ".npy" in f]

    def fails(self, title, status, words, images, *more):
        code, text = self.run(images, *more)
        good = code == status and all(w in text for w in words) and not self.left()
        check(title, good)
        if not good:
            print("      exit status %d, left %s: %s" % (code, self.left(), text))


def check_pixels(runner, folder, rng):
    root = os.path.join(folder, "pictures")
    os.makedirs(os.path.join(root, "7"))
    special = write_pictures(os.path.join(root, "7"), rng)
    names = shuffled(["7/" + n for n in os.listdir(os.path.join(root, "7"))])
    for size, crop in ((224, 0.9), (224, 0.875), (224, 1), (97, 0.95), (32, 0.33)):
        code, text = runner.run(root, "--size", str(size), "--crop", str(crop))
        if code:
            check("size %d crop %g: %s" % (size, crop, text), False)
            continue
        images, labels = np.load(runner.out), np.load(runner.labels)
        check("size %d crop %g: shape and labels" % (size, crop),
              images.shape == (len(names), size, size, 3) and images.dtype == np.uint8 and
              labels.dtype == np.int32 and labels.tolist() == [7] * len(names))
        for name, ours in zip(names, images):
            image = special.get(name[2:]) or Image.open(os.path.join(root, name))
            check("size %d crop %g: %s" % (size, crop, name), np.array_equal(ours, expected(image, size, crop)))


def check_labels(runner, folder, rng):
    root = os.path.join(folder, "classes")
    os.makedirs(os.path.join(root, "n02", "deep er"))
    for name in ("n01", "n03"):
        os.makedirs(os.path.join(root, name))
    names = ["n01/a b.png", "n01/c.png", "n02/deep er/d.png", "n02/e.PNG", "n03/f.png"]
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(os.path.join(root, name))
    open(os.path.join(root, "n03", "notes.txt"), "w").close()
    order = shuffled(names)
    runner.run(root, "--size", "8", "--crop", "1")
    check("folders count by name", np.load(runner.labels).tolist() == [int(n[2]) - 1 for n in order])
    check("each label is its picture's", np.load(runner.out)[:, 0, 0, 0].tolist() == [names.index(n) for n in order])
    runner.run(root, "--size", "8", "--crop", "1", "--first", "1", "--n", "3", "--classes", "3")
    check("--first and --n", np.load(runner.labels).tolist() == [int(n[2]) - 1 for n in order[1:4]])
    listed = os.path.join(folder, "list.txt")

    def write(text):
        with open(listed, "w", newline="") as stream:
            stream.write(text)

    write("".join("%s %d\r\n\n" % (n, 900 + i) for i, n in enumerate(names)))
    code, _ = runner.run(root, "--size", "8", "--crop", "1", "--labels", listed)
    check("--labels", code == 0 and np.load(runner.labels).tolist() == [900 + names.index(n) for n in order])
    runner.fails("folders of another number", 2, ["3 folders for 10", "--labels"], root, "--classes", "10")
    runner.fails("--first beyond", 2, ["5 pictures", "--first"], root, "--first", "5")
    runner.fails("--n beyond", 2, ["5 pictures", "--n"], root, "--n", "5", "--first", "1")
    for text, words in (("n01/c.png\n", "line 1"), ("\nn01/c.png -1", "line 2"), ("/n01/c.png 1", "relative"),
                        ("n01/c.png 99999999999", "line 1"), ("n01/c.png 1\nn01/c.png 2", "twice"),
                        ("", "no .jpg"), ("n01/c.png 3", "0 to 2"), ("n01/c.png\0 1", "line 1")):
        write(text)
        runner.fails("labels %r" % text, 2 if not text else 1, [words], root, "--labels", listed, "--classes", "3")
    runner.fails("no labels file", 1, ["No such file"], root, "--labels", listed + "x")
    runner.fails("no folder", 1, ["No such file"], root + "x")
    runner.fails("no classes", 2, ["--labels"], os.path.join(root, "n02", "deep er"))
    empty = os.path.join(folder, "empty")
    os.makedirs(os.path.join(empty, "0"))
    runner.fails("no pictures", 2, ["no .jpg"], empty)
    runner.fails("a bad crop", 2, ["--crop"], root, "--crop", "1.1")
    runner.fails("a crop that is no number", 2, ["--crop"], root, "--crop", "nan")
    os.symlink("..", os.path.join(empty, "0", "loop"))
    runner.fails("a loop of links", 1, ["too deep"], empty)


def write_unreadable(folder, rng):
    """Name -> a word that the message must have."""
    words = {}

    def put(name, data, word=""):
        with open(os.path.join(folder, name), "wb") as stream:
            stream.write(data)
        words[name] = word

    def saved(kind, image=picture(rng, 150, 100), **more):
        path = os.path.join(folder, "x")
        image.save(path, kind, **more)
        with open(path, "rb") as stream:
            data = stream.read()
        os.remove(path)
        return data

    jpeg, whole = saved("JPEG"), saved("PNG")
    progressive = saved("JPEG", progressive=True)
    for share in (4, 30, 60, 99):
        put("cut%d.jpg" % share, jpeg[:len(jpeg) * share // 100])
        put("cut%d.png" % share, whole[:len(whole) * share // 100])
        put("cut%d_progressive.jpg" % share, progressive[:len(progressive) * share // 100])
    put("no_end.jpg", jpeg[:-2], "remature end")
    put("no_end.png", png(1, 1, 8, 0, [b"a"], end=False), "ends too early")
    put("empty.jpg", b"", "empty")
    put("three_bytes.jpg", jpeg[:3])
    put("text.png", b"this is no picture\n", "neither JPEG nor PNG")
    put("gif.jpg", saved("GIF"), "neither JPEG nor PNG")
    put("bad_checksum.png", whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    put("no_width.png", png(0, 1, 8, 0, [b"a"]))
    put("bomb.png", png(900000, 900000, 1, 0, [b"a"]), "900000 x 900000")
    put("long.png", png(0x7fffffff, 1, 1, 0, [b"a"]), "2147483647 x 1")
    sof = jpeg.index(b"\xff\xc0") + 5
    put("bomb.jpg", jpeg[:sof] + struct.pack(">HH", 65000, 65000) + jpeg[sof + 4:], "65000 x 65000")
    put("no_height.jpg", jpeg[:sof] + struct.pack(">HH", 0, 100) + jpeg[sof + 4:])
    put("no_colour.png", png(2, 1, 8, 3, [b"\0\2"], before=chunk(b"PLTE", b"abcdef")), "palette")
    middle = len(jpeg) // 2
    put("damaged.jpg", jpeg[:middle] + b"\xff\xc4" * 40 + jpeg[middle + 80:])
    scan = progressive.rindex(b"\xff\xda")
    put("scans.jpg", progressive[:scan] + progressive[scan:-2] * 600 + b"\xff\xd9", "")
    os.mkfifo(os.path.join(folder, "pipe.jpg"))
    words["pipe.jpg"] = "regular"
    os.symlink("nowhere", os.path.join(folder, "nowhere.jpg"))
    words["nowhere.jpg"] = "No such file"
    if os.geteuid():
        put("forbidden.jpg", jpeg, "ermission")
        os.chmod(os.path.join(folder, "forbidden.jpg"), 0)
    return words


def check_unreadable(runner, folder, rng):
    root = os.path.join(folder, "unreadable")
    os.makedirs(os.path.join(root, "1"))
    words = write_unreadable(os.path.join(root, "1"), rng)
    runner.fails("nothing but bad ones", 1, ["no picture can be read"], root, "--skip-bad")
    Image.new("RGB", (30, 30), (9, 8, 7)).save(os.path.join(root, "1", "good.png"))
    code, text = runner.run(root, "--skip-bad", "--size", "8")
    check("--skip-bad keeps the good one", code == 0 and np.load(runner.out).shape == (1, 8, 8, 3) and
          np.load(runner.labels).tolist() == [1])
    for name, word in words.items():
        lines = [l for l in text.splitlines() if "/1/%s: " % name in l]
        good = len(lines) == 1 and word in lines[0]
        check("%s: %s" % (name, lines[0].split(": ", 2)[2] if len(lines) == 1 else text), good)
    listed = os.path.join(folder, "one.txt")
    for name, word in words.items():
        with open(listed, "w") as stream:
            stream.write("1/%s 0\n1/good.png 0\n" % name)
        runner.fails(name + " stops the run", 1, [name, word, "--skip-bad"], root, "--labels", listed)


def check_damage(runner, folder, rng):
    """Random damage: any answer will do, but not a crash."""
    root = os.path.join(folder, "damage")
    os.makedirs(os.path.join(root, "0"))
    kinds = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})]
    for i in range(150):
        path = os.path.join(root, "0", "%d.jpg" % i)
        kind, more = kinds[i % 3]
        image = picture(rng, 40, 30)
        (image.quantize(20) if kind == "PNG" and i % 2 else image).save(path, kind, **more)
        with open(path, "r+b") as stream:
            size = stream.seek(0, 2)
            for _ in range(int(rng.integers(1, 6))):
                stream.seek(int(rng.integers(3, size)))
                stream.write(bytes([int(rng.integers(0, 256))]))
    code, text = runner.run(root, "--skip-bad", "--size", "16")
    check("random damage", code == 0 and "ERROR" not in text and "runtime error" not in text)
    if code:
        print(text)


def check_outputs(runner, folder):
    root = os.path.join(folder, "classes")
    code = subprocess.run([runner.program, "--images", root, "--out", runner.out, "--labels-out", runner.out],
                          capture_output=True).returncode
    check("one file for both", code == 2)
    code = subprocess.run([runner.program, "--images", root, "--out", runner.out, "--labels-out",
                           os.path.join(folder, "none", "l.npy")], capture_output=True).returncode
    check("an output that cannot be written", code == 1 and not runner.left())


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    usage = subprocess.run([sys.argv[1], "--help"], capture_output=True, text=True, check=True).stdout
    if "built without" in usage:
        print("skip  the program was built without libjpeg or libpng\n0 passed, 0 failed, 1 skipped")
        return
    seed = int(sys.argv[2]) if len(sys.argv) == 3 else time.time_ns() % 2**32
    print("%s seed %d" % (sys.argv[0], seed))
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(os.path.abspath(sys.argv[1]), folder)
        check_pixels(runner, folder, rng)
        check_labels(runner, folder, rng)
        for path in (runner.out, runner.labels):
            if os.path.exists(path):
                os.remove(path)
        check_outputs(runner, folder)
        check_unreadable(runner, folder, rng)
        check_damage(runner, folder, rng)
    print("%d passed, %d failed, 0 skipped" % (counts["ok"], counts["FAIL"]))
    sys.exit(counts["FAIL"] > 0)


if __name__ == "__main__":
    main()

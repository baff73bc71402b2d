#!/usr/bin/env python3
"""Compares what `qvit-vit eval --trace BLOCK FOLDER` wrote with an independent forward pass.

usage: check_oracle.py ORACLE.py MODEL.safetensors IMAGES.npy BLOCK FOLDER

ORACLE.py computes two things from the first image: what comes into the block, and what the block
makes of what came into ours. The latter rather than its own, for the rounding of two float32 models
drifts apart from block to block (the oracle's own reaches 6e-5 in the middle of a ViT-Tiny, against
double precision) and would hide the errors of this block. Every tensor must have the oracle's shape
and lie within 1e-5 of it, relative to the tensor's largest value. Exit status 1 if not.
"""
import importlib.util
import os
import sys

import numpy as np

BOUND = 1e-5
TENSORS = "x ln1 qkv scores probs context proj ln2 fc1 gelu fc2 y".split()


def load_module(path):
    spec = importlib.util.spec_from_file_location("oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected(oracle, model, images, number, x):
    tensors, metadata = oracle.load_safetensors(model)
    chain, block = {}, {}
    oracle.forward(tensors, metadata, np.load(images, mmap_mode="r")[:1], number, chain)
    oracle.block(tensors, number, x, x.shape[-1] // 64, block)
    return dict(block, x=chain["x"])


def error_of(ours, theirs):
    if ours.shape != theirs.shape:
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - theirs)
    return difference.max() / np.abs(theirs).max()


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    oracle, model, images, number, folder = sys.argv[1:]
    ours = {name: np.load(os.path.join(folder, name + ".npy")) for name in TENSORS}
    theirs = expected(load_module(oracle), model, images, int(number), ours["x"])
    failed = 0
    for name in TENSORS:
        error = error_of(ours[name], theirs[name])
        good = error <= BOUND  # false for a NaN
        failed += not good
        print("%-4s  block %s %-8s %.2e" % ("ok" if good else "FAIL", number, name, error))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

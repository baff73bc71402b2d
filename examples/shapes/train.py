#!/usr/bin/python3
"""Trains the small vision transformer of shapes.safetensors on the pictures of shapes.c.

    OPENBLAS_NUM_THREADS=1 ./train.py

A plain pre-norm ViT with timm's names: 64x64 pictures, patches of 8, width 128, two heads. No
picture is seen twice. It is tested on pictures that are a little harder than those it was trained
on, else too few of its answers would be wrong. The defaults made the committed file; on other
machines, and with another BLAS, sums round differently, so the weights will be others and the
accuracy about the same. Needs PyTorch, numpy and a C compiler. With Debian's PyTorch install
libopenblas0 too: the reference BLAS is ten times slower.
"""

import argparse
import ctypes
import json
import math
import os
import struct
import subprocess
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
SIDE, PATCH, CLASSES = 64, 8, 12
HIDDEN = 4  # of the MLP, / width
MEAN = STD = 0.5
TRAIN_SEED, TEST_SEED = 1, 2  # of the pictures
TEST_COUNT, TEST_DIFFICULTY = 10000, 0.85  # SHAPES_DIFFICULTY of shapes.h


class Shapes:
    """The generator, compiled into a temporary library."""

    def __init__(self):
        with tempfile.TemporaryDirectory() as folder:
            library = os.path.join(folder, "shapes.so")
            subprocess.run(["cc", "-std=c11", "-O3", "-ffp-contract=off", "-fPIC", "-shared",
                            os.path.join(HERE, "shapes.c"), "-o", library, "-lm"], check=True)
            self.library = ctypes.CDLL(library)
        self.library.shapes_draw.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t,
                                             ctypes.c_float, ctypes.c_void_p, ctypes.c_void_p]
        self.library.shapes_draw.restype = None

    def draw(self, seed, first, count, difficulty):
        """uint8 [count, 64, 64, 3] and int32 [count]."""
        pixels = np.empty((count, SIDE, SIDE, 3), np.uint8)
        labels = np.empty(count, np.int32)
        self.library.shapes_draw(seed, first, count, difficulty, pixels.ctypes.data,
                                 labels.ctypes.data)
        return pixels, labels


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.heads = width // 64
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, outputs):
        """Of the first `outputs` tokens, which look at all."""
        n, _, width = x.shape
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(x[:, :outputs], weight[:width] / 8, bias[:width] / 8)  # 8: sqrt(head dim)
        k, v = F.linear(x, weight[width:], bias[width:]).chunk(2, -1)
        q, k, v = (t.reshape(n, -1, self.heads, 64).transpose(1, 2) for t in (q, k, v))
        attended = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(attended.transpose(1, 2).reshape(n, outputs, width))


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, HIDDEN * width)
        self.fc2 = nn.Linear(HIDDEN * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x, outputs):
        x = x[:, :outputs] + self.attn(self.norm1(x), outputs)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


def first_positions(width):
    """Waves along x and y, from which training goes on: at first neighbours are alike."""
    side = SIDE // PATCH
    angles = torch.arange(side)[:, None] * math.pi / side * torch.arange(1, width // 4 + 1) / 4
    waves = torch.cat([angles.sin(), angles.cos()], 1)  # [side, width / 2]
    rows, columns = waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)
    patches = torch.cat([rows, columns], 2).reshape(side * side, width)
    return 0.5 * torch.cat([torch.zeros(1, width), patches])[None]


class ViT(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(first_positions(width))
        self.patch_embed = PatchEmbed(width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, CLASSES)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif name == "cls_token" or name.startswith(("blocks", "head")) and "norm" not in name:
                nn.init.trunc_normal_(p, std=0.02)

    def forward(self, pixels):
        """uint8 [n, 64, 64, 3] to logits [n, CLASSES]."""
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks[:-1]:
            x = block(x, x.shape[1])
        x = self.blocks[-1](x, 1)  # nothing looks at the other tokens any more
        return self.head(self.norm(x[:, 0]))


def write_safetensors(path, tensors, metadata):
    """float16 tensors; the format is a length, JSON, and the data."""
    header, chunks, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        data = tensor.detach().numpy().astype("<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def optimizer_of(model, options):
    """Weight decay is for matrices only."""
    matrices = [p for n, p in model.named_parameters() if n.endswith("weight") and p.ndim > 1]
    others = [p for n, p in model.named_parameters() if not (n.endswith("weight") and p.ndim > 1)]
    groups = [{"params": matrices, "weight_decay": options.weight_decay},
              {"params": others, "weight_decay": 0}]
    return torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), foreach=True)


def learning_rate(step, options):
    """A linear warm-up, the peak, and half a cosine down to 1 % of it over the last steps."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    share = max(0, step - (options.steps - options.decay)) / options.decay
    return options.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def difficulty(step, options):
    """At first far less: from hard pictures alone the training takes long to learn anything."""
    return min(options.difficulty, 0.1 + 0.9 * step / 1000)


@torch.no_grad()
def accuracy(model, shapes, count, difficulty):
    """Share of the test pictures whose largest logit is right."""
    right = 0
    for first in range(0, count, 250):
        pixels, labels = shapes.draw(TEST_SEED, first, min(250, count - first), difficulty)
        right += (model(torch.from_numpy(pixels)).argmax(1).numpy() == labels).sum()
    return right / count


def train(model, shapes, options, log):
    optimizer = optimizer_of(model, options)
    start, losses, hits = time.time(), [], []
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        pixels, labels = shapes.draw(TRAIN_SEED, step * options.batch, options.batch,
                                     difficulty(step, options))
        labels = torch.from_numpy(labels).long()
        logits = model(torch.from_numpy(pixels))
        loss = F.cross_entropy(logits, labels, label_smoothing=options.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        hits.append((logits.argmax(1) == labels).float().mean().item())
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            log(f"step {step + 1:6d}  difficulty {difficulty(step, options):.2f}  "
                f"loss {np.mean(losses):.4f}  accuracy {100 * np.mean(hits):6.2f} %  "
                f"{time.time() - start:6.0f} s")
            losses, hits = [], []


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=128, help="a multiple of 64")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=100, help="steps")
    parser.add_argument("--decay", type=int, default=800, help="last steps, of a falling rate")
    parser.add_argument("--difficulty", type=float, default=0.75,
                        help="of the pictures in the end")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--smoothing", type=float, default=0.0, help="of the labels")
    parser.add_argument("--seed", type=int, default=1, help="of the first weights")
    parser.add_argument("--every", type=int, default=250, help="steps a line of the log")
    parser.add_argument("--out", default=os.path.join(HERE, "shapes.safetensors"))
    parser.add_argument("--log", default=os.path.join(HERE, "train.log"))
    return parser.parse_args()


def main():
    options = parse_options()
    start = time.time()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    shapes, model = Shapes(), ViT(options.width, options.depth)
    with open(options.log, "w") as file:
        def log(line):
            print(line, flush=True)
            print(line, file=file, flush=True)

        log(f"{sum(p.numel() for p in model.parameters())} weights, width {options.width}, depth "
            f"{options.depth}; {options.steps} steps of {options.batch} pictures")
        train(model, shapes, options, log)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p.half())  # what the file holds
        colour = f"{MEAN},{MEAN},{MEAN}", f"{STD},{STD},{STD}"
        write_safetensors(options.out, model.state_dict(), {"mean": colour[0], "std": colour[1]})
        for hardness in (options.difficulty, TEST_DIFFICULTY):
            share = accuracy(model, shapes, TEST_COUNT, hardness)
            log(f"float16 weights, difficulty {hardness:.2f}: {100 * share:.2f} % of {TEST_COUNT} "
                "test pictures right")
        log(f"{time.time() - start:.0f} s in all")


if __name__ == "__main__":
    main()

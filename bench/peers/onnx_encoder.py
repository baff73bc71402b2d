"""A vision transformer as an ONNX model, and ONNX Runtime's quantized forms of it.

The architecture of bench/encoder.c: 224 x 224 pixels in patches of 16, that come as rows; a class token;
12 blocks with their norms before; GELU by erf; a head on the class token.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static)

from onnx_layer import make_model

TOKENS, PATCH_INPUTS, DEPTH, HEAD_DIM, CLASSES = 197, 768, 12, 64, 1000
MICROSOFT = "com.microsoft"


@dataclass
class Graph:
    """Nodes in order, and their constants. Each method adds one step and returns its output's name."""

    nodes: list = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def normal(self, shape: tuple, deviation: float, mean: float = 0) -> str:
        return self.constant(self.rng.normal(mean, deviation, shape).astype(np.float32))

    def weights(self, inputs: int, outputs: int) -> str:
        return self.normal((inputs, outputs), inputs**-0.5)

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(
            kind, list(inputs), names, f"n{len(self.nodes)}", domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self.op("MatMul", x, self.weights(inputs, outputs))
        return self.op("Add", product, self.normal((outputs,), 0.1))

    def norm(self, x: str, width: int) -> str:
        gamma, beta = self.normal((width,), 0.1, 1), self.normal((width,), 0.1)
        return self.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-6)

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.constant(np.array(shape, np.int64)))


def _embed(g: Graph, x: str, width: int, batch: int) -> str:
    patches = g.linear(x, PATCH_INPUTS, width)
    tokens = g.op("Concat", g.normal((batch, 1, width), 1), patches, axis=1)
    return g.op("Add", tokens, g.normal((1, TOKENS, width), 1))


# ---- the standard's operators ----


def _attention(g: Graph, x: str, width: int, batch: int) -> str:
    parts = g.op("Split", g.linear(x, width, 3 * width), outputs=3, axis=-1, num_outputs=3)
    query, key, value = (
        g.op("Transpose", g.reshape(part, batch, TOKENS, width // HEAD_DIM, HEAD_DIM), perm=order)
        for part, order in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])))
    scores = g.op("Mul", g.op("MatMul", query, key), g.constant(np.float32(HEAD_DIM**-0.5)))
    context = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
    return g.reshape(g.op("Transpose", context, perm=[0, 2, 1, 3]), batch, TOKENS, width)


def _standard_blocks(g: Graph, x: str, width: int, batch: int) -> str:
    for _ in range(DEPTH):
        context = _attention(g, g.norm(x, width), width, batch)
        x = g.op("Add", x, g.linear(context, width, width))
        hidden = g.op("Gelu", g.linear(g.norm(x, width), width, 4 * width))
        x = g.op("Add", x, g.linear(hidden, 4 * width, width))
    return g.norm(g.op("Gather", x, g.constant(np.int64(0)), axis=1), width)


# ---- ONNX Runtime's own, fused operators ----


def _add_and_norm(g: Graph, product: str, x: str, width: int) -> tuple[str, str]:
    """x + product + bias, and its norm."""
    gamma, beta, bias = (g.normal((width,), 0.1, mean) for mean in (1, 0, 0))
    normed, _, _, total = g.op("SkipLayerNormalization", product, x, gamma, beta, bias, outputs=4,
                               domain=MICROSOFT, epsilon=1e-6)
    return normed, total


def _fused_blocks(g: Graph, x: str, width: int, _batch: int) -> str:
    normed = g.norm(x, width)
    for _ in range(DEPTH):
        context = g.op("Attention", normed, g.weights(width, 3 * width),
                       g.normal((3 * width,), 0.1), domain=MICROSOFT, num_heads=width // HEAD_DIM)
        product = g.op("MatMul", context, g.weights(width, width))
        normed, x = _add_and_norm(g, product, x, width)
        product = g.op("MatMul", normed, g.weights(width, 4 * width))
        hidden = g.op("BiasGelu", product, g.normal((4 * width,), 0.1), domain=MICROSOFT)
        product = g.op("MatMul", hidden, g.weights(4 * width, width))
        normed, x = _add_and_norm(g, product, x, width)
    return g.op("Gather", normed, g.constant(np.int64(0)), axis=1)


# ---- models ----


def encoder_model(width: int, batch: int, fused: bool) -> onnx.ModelProto:
    g = Graph()
    blocks = _fused_blocks if fused else _standard_blocks
    features = blocks(g, _embed(g, "patches", width, batch), width, batch)
    logits = g.linear(features, width, CLASSES)
    shapes = {"patches": [batch, TOKENS - 1, PATCH_INPUTS], logits: [batch, CLASSES]}
    inputs, outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                       for name, shape in shapes.items())
    return make_model(g.nodes, [inputs], [outputs], g.constants)


def random_patches(batch: int, seed: int = 0) -> np.ndarray:
    shape = (batch, TOKENS - 1, PATCH_INPUTS)
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


class _Patches(CalibrationDataReader):
    """What ranges are measured on."""

    def __init__(self, batch: int):
        self._samples = iter([{"patches": random_patches(batch, seed)} for seed in (1, 2)])

    def get_next(self):
        return next(self._samples, None)


def quantize_static_form(model: Path, out: Path, batch: int, operators: list[str] | None) -> None:
    """u8 activations; s8 weights of 7 bits, so that sums do not saturate, a scale for each output."""
    quantize_static(
        str(model), str(out), _Patches(batch), quant_format=QuantFormat.QDQ, per_channel=True,
        reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        op_types_to_quantize=operators)


def quantize_dynamic_form(model: Path, out: Path, unsigned: bool = False) -> None:
    """
    The same weights; activations get their scale while the model runs. unsigned: u8 weights of 8 bits,
    whose kernels do not saturate.
    """
    quantize_dynamic(
        str(model), str(out), per_channel=True, reduce_range=not unsigned,
        weight_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
        extra_options={"DefaultTensorType": TensorProto.FLOAT})  # behind ONNX Runtime's operators

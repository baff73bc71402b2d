"""A linear layer as an ONNX model: float Gemm, or QGemm of codes."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from layer import Layer

OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
IR_VERSION = 10


def make_model(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]):
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION)


def empty_model() -> onnx.ModelProto:
    """Does next to nothing: what a call costs."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    return make_model([helper.make_node("Neg", ["x"], ["y"])], value[:1], value[1:], {})


def _io(layer: Layer, kind: int) -> tuple[list, list]:
    return ([helper.make_tensor_value_info("x", kind, [layer.m, layer.k])],
            [helper.make_tensor_value_info("y", kind, [layer.m, layer.n])])


def float_model(layer: Layer) -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    constants = {"w": np.ascontiguousarray(layer.weights.T), "b": layer.bias}
    return make_model([node], *_io(layer, TensorProto.FLOAT), constants)


def code_model(layer: Layer, unsigned: bool) -> onnx.ModelProto:
    """unsigned: weights as u8, 128 for zero. The bias is a multiple of both scales' product."""
    zero = np.full(layer.n, 128 if unsigned else 0, np.uint8 if unsigned else np.int8)
    weights = (layer.weights.T.astype(np.int16) + zero.astype(np.int16)).astype(zero.dtype)
    unit = np.float32(layer.input_scale) * layer.scales
    constants = {
        "xs": np.float32(layer.input_scale), "xz": np.uint8(layer.input_zero),
        "w": np.ascontiguousarray(weights), "ws": layer.scales, "wz": zero,
        "b": np.round(layer.bias / unit).astype(np.int32),
        "ys": np.float32(layer.output_scale), "yz": np.uint8(layer.output_zero)}
    names = ["x", "xs", "xz", "w", "ws", "wz", "b", "ys", "yz"]
    constants = {name: np.asarray(value) for name, value in constants.items()}
    node = helper.make_node("QGemm", names, ["y"], domain="com.microsoft")
    return make_model([node], *_io(layer, TensorProto.UINT8), constants)

"""ONNX Runtime's contestants: a session with its inputs and outputs bound once."""

import numpy as np
import onnx
import onnxruntime as ort


class Session:
    """`output` is what it writes to. Every call goes through Python, which costs microseconds."""

    def __init__(self, model: onnx.ModelProto | str, feed: dict[str, np.ndarray],
                 output: np.ndarray, threads: int, optimize: bool = True):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL)
        source = model if isinstance(model, str) else model.SerializeToString()
        self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._binding = self._session.io_binding()
        self.output = output
        for name, value in feed.items():
            self._bind(self._binding.bind_input, name, value)
        self._bind(self._binding.bind_output, self._session.get_outputs()[0].name, output)
        self._keep = feed
        self.description = f"ONNX Runtime {ort.__version__}"

    @staticmethod
    def _bind(bind, name: str, value: np.ndarray) -> None:
        bind(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)

    def run(self, calls: int) -> None:
        run, binding = self._session.run_with_iobinding, self._binding
        for _ in range(calls):
            run(binding)

    def close(self) -> None:
        del self._binding, self._session

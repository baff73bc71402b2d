"""A linear layer of random content, and what it must give."""

from dataclasses import dataclass, field

import numpy as np

ARCHITECTURES = {"tiny": 192, "small": 384, "base": 768}
LAYERS = {"qkv": (3, 1), "proj": (1, 1), "fc1": (4, 1), "fc2": (1, 4)}  # outputs, inputs per width


@dataclass
class Layer:
    """input [m, k], weights [n, k]; bits 8, 7 or 4 of the weights' codes, 32: floats."""

    m: int
    n: int
    k: int
    bits: int
    input: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)
    scales: np.ndarray = field(repr=False)
    input_scale: float = 1 / 32
    output_scale: float = 1 / 16
    input_zero: int = 128
    output_zero: int = 128

    def reference(self) -> np.ndarray:
        """In double; codes not yet rounded."""
        if self.bits == 32:
            return self.input.astype(np.float64) @ self.weights.T.astype(np.float64) + self.bias
        sums = (self.input.astype(np.float64) - self.input_zero) @ self.weights.T.astype(np.float64)
        result = sums * (self.input_scale * self.scales.astype(np.float64)) + self.bias
        return np.clip(result / self.output_scale + self.output_zero, 0, 255)

    def error(self, output: np.ndarray, reference: np.ndarray) -> float:
        """
        The largest, where 1 is the most that is allowed: a code, or, of floats, sixteen times what
        rounding to float32 does to a sum of k random products.
        """
        worst = float(np.abs(output.astype(np.float64) - reference).max())
        return worst / (1e-6 * self.k**0.5) if self.bits == 32 else worst


def random_layer(m: int, n: int, k: int, bits: int) -> Layer:
    """Outputs of deviation 2.3, or 1 for floats. Codes are spread evenly: sums are large."""
    rng = np.random.default_rng(m + n + k + bits)
    bias = rng.normal(0, 0.1, n).astype(np.float32)
    if bits == 32:
        inputs = rng.normal(0, 1, (m, k)).astype(np.float32)
        weights = rng.normal(0, k**-0.5, (n, k)).astype(np.float32)
        return Layer(m, n, k, bits, inputs, weights, bias, np.ones(n, np.float32))
    most = 2 ** (bits - 1) - 1
    inputs = rng.integers(0, 256, (m, k), np.uint8)
    weights = rng.integers(-most, most + 1, (n, k), np.int8)
    scales = (1 + 0.01 * (np.arange(n) % 16)) / (most / 3**0.5 * k**0.5)
    return Layer(m, n, k, bits, inputs, weights, bias, scales.astype(np.float32))

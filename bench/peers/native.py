"""Contestants written in C: what peer.h declares, through ctypes."""

import ctypes
from pathlib import Path

import numpy as np

from layer import Layer


class PeerLayer(ctypes.Structure):
    """struct peer_layer."""

    _fields_ = [
        ("m", ctypes.c_size_t),
        ("n", ctypes.c_size_t),
        ("k", ctypes.c_size_t),
        ("bits", ctypes.c_int32),
        ("input", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("input_scale", ctypes.c_float),
        ("output_scale", ctypes.c_float),
        ("input_zero", ctypes.c_int32),
        ("output_zero", ctypes.c_int32),
    ]


class Peer:
    """One contestant; `output` is what it writes to, if it is a layer."""

    def __init__(self, library: ctypes.CDLL, handle: int, keep: tuple, output: np.ndarray | None):
        self._library, self._handle, self._keep = library, handle, keep
        self.output = output
        self.description = library.peer_describe(handle).decode()

    def run(self, calls: int) -> None:
        self._library.peer_run(self._handle, calls)

    def close(self) -> None:
        self._library.peer_destroy(self._handle)


class Library:
    """A shared object with peer.h's functions."""

    def __init__(self, path: Path):
        self._library = library = ctypes.CDLL(str(path))
        library.peer_create_layer.restype = ctypes.c_void_p
        library.peer_create_layer.argtypes = [
            ctypes.POINTER(PeerLayer), ctypes.c_char_p, ctypes.c_size_t]
        library.peer_run.restype = None
        library.peer_run.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        library.peer_describe.restype = ctypes.c_char_p
        library.peer_describe.argtypes = [ctypes.c_void_p]
        library.peer_destroy.argtypes = [ctypes.c_void_p]

    def layer(self, layer: Layer, form: str, threads: int) -> Peer | None:
        """None where there is no such form."""
        output = np.zeros((layer.m, layer.n), layer.input.dtype)
        described = PeerLayer(
            layer.m, layer.n, layer.k, layer.bits, layer.input.ctypes.data,
            layer.weights.ctypes.data, output.ctypes.data, layer.bias.ctypes.data,
            layer.scales.ctypes.data, layer.input_scale, layer.output_scale,
            layer.input_zero, layer.output_zero)
        handle = self._library.peer_create_layer(described, form.encode(), threads)
        return Peer(self._library, handle, (layer,), output) if handle else None

    def encoder(self, width: int, batch: int, bits: str, twin: bool, threads: int) -> Peer:
        """libqvit's only."""
        create = self._library.peer_create_encoder
        create.restype = ctypes.c_void_p
        create.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int,
                           ctypes.c_size_t]
        handle = create(width, batch, bits.encode(), twin, threads)
        return Peer(self._library, handle, (), None)

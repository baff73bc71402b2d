"""Whole transformers of random weights, patches to logits."""

import tempfile
from pathlib import Path

import numpy as np
import onnx

from layer import ARCHITECTURES
from native import Library
from onnx_encoder import (
    CLASSES, encoder_model, quantize_dynamic_form, quantize_static_form, random_patches)
from ort import Session
from timing import Row, measure

OWN_FORMS = [("w8a8 plain", "w8a8", False), ("w8a8 twin", "w8a8", True),
             ("w4a8 plain", "w4a8", False), ("f32", "f32", False)]
LEAST_COSINE = 0.98  # of a quantized form's logits with the float model's


def _own_rows(libqvit: Library, arch: str, options) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for name, bits, twin in OWN_FORMS:
        encoder = libqvit.encoder(ARCHITECTURES[arch], options.batch, bits, twin, options.threads)
        rival = None if bits == "f32" else rows.get("w8a8 plain")
        rows[name] = Row(f"libqvit {name}", encoder, rival, arch)
    return rows


class _Sessions:
    """ONNX Runtime's rows of one architecture; models lie in a folder while they are made."""

    def __init__(self, arch: str, options, own: dict[str, Row]):
        self._arch, self._options, self._own = arch, options, own
        self._patches = random_patches(options.batch)
        self.rows: list[Row] = []

    def add(self, name: str, model: Path, truth: Row | None, optimize: bool = True) -> Row:
        """truth: the float form of the same weights; None if this is one itself."""
        output = np.zeros((self._options.batch, CLASSES), np.float32)
        session = Session(str(model), {"patches": self._patches}, output, self._options.threads,
                          optimize)
        rival = self._own["w8a8 plain" if truth else "f32"]
        row = Row(f"ORT {name}", session, rival, self._arch)
        session.run(1)
        if truth:
            row.error = 1 - _cosine(output, truth.contestant.output)
            if row.error > 1 - LEAST_COSINE:
                raise SystemExit(f"bench-peers: {self._arch}, {row.name}: logits are wrong")
        self.rows.append(row)
        return row


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def _ort_rows(arch: str, options, own: dict[str, Row], folder: Path) -> list[Row]:
    sessions = _Sessions(arch, options, own)
    standard, fused, quantized = (folder / f"{n}.onnx" for n in ("standard", "fused", "quantized"))
    for path in (standard, fused):
        onnx.save(encoder_model(ARCHITECTURES[arch], options.batch, path == fused), path)
    sessions.add("f32, not optimized", standard, None, optimize=False)
    f32 = sessions.add("f32", standard, None)
    f32_fused = sessions.add("f32, fused operators", fused, None)
    for name, operators in [("int8 QDQ, all operators", None), ("int8 QDQ, MatMul only", ["MatMul"])]:
        quantize_static_form(standard, quantized, options.batch, operators)
        sessions.add(name, quantized, f32)
    for name, model, truth, unsigned in [
            ("int8 dynamic", standard, f32, False),
            ("int8 dynamic, u8 weights", standard, f32, True),
            ("int8 dynamic, fused operators", fused, f32_fused, False)]:
        quantize_dynamic_form(model, quantized, unsigned)
        sessions.add(name, quantized, truth)
    return sessions.rows


def _print_table(rows: list[Row]) -> None:
    print(f"  {'':32s}{'ms':>9s}{'median':>9s}{'x libqvit':>11s}{'x median':>10s}")
    for row in rows:
        print(f"  {row.name:32s}{row.least() * 1e3:9.2f}{row.median() * 1e3:9.2f}"
              f"{row.ratio():11.2f}{row.ratio_of_medians():10.2f}")


def _print_best(rows: list[Row], rival: Row) -> None:
    peers = [row for row in rows if row.rival is rival and row.name.startswith("ORT")]
    best = min(peers, key=Row.least)
    print(f"  the fastest against {rival.name}: {best.name}, {best.ratio():.2f} times as long"
          f" (medians {best.ratio_of_medians():.2f})")


def _bench_architecture(libqvit: Library, arch: str, options) -> list[Row]:
    own = _own_rows(libqvit, arch, options)
    with tempfile.TemporaryDirectory() as folder:
        ort = _ort_rows(arch, options, own, Path(folder))
    floats = [row for row in ort if row.rival is own["f32"]]
    codes = [row for row in ort if row.rival is not own["f32"]]
    *own_codes, own_f32 = own.values()
    rows = [*own_codes, *codes, own_f32, *floats]
    measure(rows, options.rounds, options.threads)
    _print_table(rows)
    _print_best(rows, own["w8a8 plain"])
    _print_best(rows, own["f32"])
    for row in rows:
        row.contestant.close()
    return rows


def bench_encoder(libqvit: Library, options) -> list[Row]:
    rows: list[Row] = []
    for arch in options.arch:
        print(f"\nencoder {arch}, batch {options.batch}; x libqvit: w8a8 plain, or f32")
        rows += _bench_architecture(libqvit, arch, options)
    return rows

"""Linear layers of the transformers' shapes: codes to codes, and floats to floats."""

import math
from dataclasses import dataclass
from typing import Callable

import numpy as np

from layer import ARCHITECTURES, LAYERS, Layer, random_layer
from native import Library
from onnx_layer import code_model, empty_model, float_model
from ort import Session
from timing import Contestant, Row, measure

ONEDNN_FORMS = ("matmul", "ip", "conv")
WRONG = 1.0  # see Layer.error


@dataclass
class Peer:
    """A way to compute a layer; None where there is none."""

    name: str
    make: Callable[[Layer], Contestant | None]


def _session(model: Callable, threads: int) -> Callable[[Layer], Session]:
    def make(layer: Layer) -> Session:
        output = np.zeros((layer.m, layer.n), layer.input.dtype)
        return Session(model(layer), {"x": layer.input}, output, threads)
    return make


def _session_of_nothing(threads: int) -> Session:
    one = np.ones(1, np.float32)
    return Session(empty_model(), {"x": one}, np.zeros_like(one), threads)


def _onednn_peers(onednn: Library | None, threads: int) -> list[Peer]:
    if onednn is None:
        return []
    return [Peer(f"oneDNN {form}", lambda layer, form=form: onednn.layer(layer, form, threads))
            for form in ONEDNN_FORMS]


def _error(contestant: Contestant, layer: Layer, reference: np.ndarray) -> float:
    contestant.run(1)
    return layer.error(contestant.output, reference)


def usable_bits(peer: Peer) -> int | None:
    """8, or 7 where sums of 8-bit weights saturate: nobody is timed computing something else."""
    for bits in (8, 7):
        layer = random_layer(32, 64, 768, bits)
        contestant = peer.make(layer)
        if contestant is None:
            print(f"  {peer.name}: there is none")
            return None
        error = _error(contestant, layer, layer.reference())
        contestant.close()
        if error <= WRONG:
            return bits
        print(f"  {peer.name}, {bits}-bit weights: wrong by up to {error:.0f} codes, not timed")
    return None


def _plan(libqvit: Library, onednn: Library | None, threads: int) -> list[tuple[str, int, Peer]]:
    """Every column: its title, the bits of its weights, and who computes it."""
    own = Peer("libqvit", lambda layer: libqvit.layer(layer, "", threads))
    signed = Peer("ORT QGemm s", _session(lambda layer: code_model(layer, False), threads))
    unsigned = Peer("ORT QGemm u", _session(lambda layer: code_model(layer, True), threads))
    columns = [(f"libqvit s{bits}", bits, own) for bits in (8, 7, 4)]
    for peer in [*_onednn_peers(onednn, threads), signed, unsigned]:
        bits = usable_bits(peer)
        if bits:
            name = peer.name if peer in (signed, unsigned) else peer.name + " s"
            columns.append((f"{name}{bits}", bits, peer))
    floats = [own, *_onednn_peers(onednn, threads), Peer("ORT Gemm", _session(float_model, threads))]
    return columns + [(f"{peer.name} f32", 32, peer) for peer in floats]


def _rows_of(shape: str, size: tuple[int, int, int], columns: list, empty: Row) -> list[Row]:
    """All contestants of one shape. Codes compete with libqvit's 8-bit weights."""
    rows: list[Row] = []
    rivals: dict[bool, Row] = {}
    layers = {bits: random_layer(*size, bits) for bits in {bits for _, bits, _ in columns}}
    references = {bits: layer.reference() for bits, layer in layers.items()}
    for title, bits, peer in columns:
        contestant = peer.make(layers[bits])
        if contestant is None:
            continue
        row = Row(title, contestant, rivals.get(bits == 32), shape)
        row.error = _error(contestant, layers[bits], references[bits])
        if row.error > WRONG:
            raise SystemExit(f"bench-peers: {shape}, {title}: wrong by {row.error:.1f}")
        row.overhead = empty if isinstance(contestant, Session) else None
        rivals.setdefault(bits == 32, row)
        rows.append(row)
    return rows


def _mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _line(label: str, values: list[str]) -> None:
    print(f"  {label:17s}" + "".join(f"{value:>11s}" for value in values))


def _print_table(rows: list[Row], titles: list[str]) -> None:
    """The first column is libqvit's, in microseconds; the others are multiples of it."""
    columns = {title: [row for row in rows if row.name == title] for title in titles}
    titles = [title for title in titles if columns[title]]  # not every form does floats
    _line("", [title.split()[0] for title in titles])
    _line("", [title.split(" ", 1)[1] for title in titles])
    for i, first in enumerate(columns[titles[0]]):
        ratios = [f"{columns[title][i].ratio():.2f}" for title in titles[1:]]
        _line(first.work, [f"{first.least() * 1e6:.0f} us", *ratios])
    for label, of, pick in [("geometric mean", _mean, Row.ratio), ("least", min, Row.ratio),
                            ("most", max, Row.ratio),
                            ("mean of medians", _mean, Row.ratio_of_medians)]:
        _line(label, ["", *(f"{of([pick(row) for row in columns[title]]):.2f}"
                            for title in titles[1:])])
    print()


def bench_gemm(libqvit: Library, onednn: Library | None, options) -> list[Row]:
    print(f"\ngemm, {options.m} rows: time, as a multiple of libqvit's in the first column")
    columns = _plan(libqvit, onednn, options.threads)
    empty = Row("empty call", _session_of_nothing(options.threads))
    rows: list[Row] = []
    for arch in options.arch:
        for name, (n, k) in LAYERS.items():
            width = ARCHITECTURES[arch]
            size = (options.m, n * width, k * width)
            rows += _rows_of(f"{arch}.{name}", size, columns, empty)
    measure([empty, *rows], options.rounds, options.threads)
    for row in {row.name: row for row in rows}.values():
        print(f"  {row.name}: {row.contestant.description}")
    print(f"  an empty call of ORT, {empty.fastest * 1e6:.1f} us, is subtracted from its times\n")
    for floats in (False, True):
        _print_table(rows, [title for title, bits, _ in columns if (bits == 32) == floats])
    for row in [empty, *rows]:
        row.contestant.close()
    return rows

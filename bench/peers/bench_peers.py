"""bench_peers.py - libqvit beside oneDNN and ONNX Runtime; see bench/README.md. Run by make bench-peers."""

import argparse
import json
import logging
import os
from pathlib import Path


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-peers ARGS=...")
    parser.add_argument("benchmark", nargs="?", choices=["gemm", "encoder"], help="both if left out")
    parser.add_argument("--arch", choices=["tiny", "small", "base"], help="shapes of one model only")
    parser.add_argument("--m", type=int, default=197, help="gemm: rows (%(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="encoder: images (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=7,
                        help="how often everyone is measured (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, too")
    parser.add_argument("--libqvit", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--onednn", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in ("m", "batch", "threads", "rounds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: at least 1")
    options.arch = [options.arch] if options.arch else ["tiny", "small", "base"]
    return options


def machine() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return "unknown"


def write_json(path: Path, rows: list, options: argparse.Namespace) -> None:
    written = [{
        "work": row.work, "name": row.name, "description": row.contestant.description,
        "seconds": row.least(), "seconds_median": row.median(),
        "ratio": row.ratio(), "ratio_median": row.ratio_of_medians(), "error": row.error,
    } for row in rows]
    head = {"machine": machine(), "threads": options.threads, "rounds": options.rounds,
            "m": options.m, "batch": options.batch}
    path.write_text(json.dumps({**head, "rows": written}, indent=1) + "\n")


def main() -> None:
    options = parse_arguments()
    # Read when the libraries are loaded. NumPy's threads must not wait for work beside contestants.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer advises on every model
    from bench_encoder import bench_encoder
    from bench_gemm import bench_gemm
    from native import Library

    libqvit = Library(options.libqvit)
    onednn = Library(options.onednn) if options.onednn else None
    print(f"{machine()}, {options.threads} thread{'s' if options.threads > 1 else ''}, "
          f"{options.rounds} rounds, {'processor' if options.threads == 1 else 'wall'} time")
    if onednn is None:
        print("oneDNN is left out: no dnnl.h; install libdnnl-dev, or say ONEDNN=its prefix")
    rows = []
    if options.benchmark != "encoder":
        rows += bench_gemm(libqvit, onednn, options)
    if options.benchmark != "gemm":
        rows += bench_encoder(libqvit, options)
    if options.json:
        write_json(options.json, rows, options)


if __name__ == "__main__":
    main()

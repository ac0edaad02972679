"""Non-negative factorisation of a float32 Zarr array, by leptonhpc and by scikit-learn.

python benchmarks/nmf.py --rows 200000 --columns 1000 --rank 20 --memory 1GB --peers sklearn
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import options
import zarr
from contest import Contest, run_contest
from rows import Row
from tables import print_rows

PEERS = ("leptonhpc-compressed", "sklearn", "sklearn-minibatch")
TINY = {"rows": 2000, "columns": 60, "rank": 5, "chunk_rows": 500, "memory": 400_000_000,
        "gemm_size": 256}  # fmt: skip
SIZES = ("rows", "columns", "rank", "chunk_rows", "noise")


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    sizes = {name: getattr(arguments, name) for name in SIZES}
    x = planted(arguments.data, **sizes)
    answers = arguments.data / "nmf-answers"
    answers.mkdir(exist_ok=True)
    contest = Contest(
        subject="nmf",
        work="nmf",
        dtype="float32",
        sizes=sizes,
        options={
            "x": str(x), "rank": arguments.rank, "memory": arguments.memory,
            "answers": str(answers),
        },
        input_nbytes=arguments.rows * arguments.columns * 4,
        judge=lambda answer: relative_error(x, answer),
    )  # fmt: skip
    rows = run_contest(contest, arguments)
    title = f"rank-{arguments.rank} NMF of {arguments.rows} x {arguments.columns} float32"
    print_rows(f"{title}, {arguments.memory / 1e9:g} GB; error is |X - WH| / |X|", rows)
    return rows


def planted(
    folder: Path, *, rows: int, columns: int, rank: int, chunk_rows: int, noise: float
) -> Path:
    """Give a Zarr array of gamma variates W H with noise, clipped at zero, if it is not there."""
    path = folder / f"nonnegative-{rows}x{columns}-{rank}-{chunk_rows}-{noise:g}.zarr"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    h = rng.gamma(0.5, size=(rank, columns))
    partial = path.with_suffix(".partial")
    array = zarr.create_array(
        partial, shape=(rows, columns), dtype="f4", chunks=(chunk_rows, columns), overwrite=True
    )
    for low in range(0, rows, chunk_rows):
        count = min(chunk_rows, rows - low)
        exact = rng.gamma(0.5, size=(count, rank)) @ h
        band = exact + noise * rng.standard_normal(exact.shape)
        array[low : low + count] = np.maximum(band, 0).astype("f4")
    return partial.rename(path)


def relative_error(x: Path, answer: Mapping[str, Any]) -> float:
    """Compute |X - WH|_F / |X|_F from the factors, in double precision, band by band."""
    with np.load(answer["modes"]) as kept:
        w, h = kept["w"].astype(float), kept["h"].astype(float)
    Path(answer["modes"]).unlink()
    if min(w.min(), h.min()) < 0:
        return float("inf")
    array, left, whole = zarr.open_array(x, mode="r"), 0.0, 0.0
    for low in range(0, array.shape[0], array.chunks[0]):
        band = array[low : low + array.chunks[0]].astype(float)
        left += float(np.sum((band - w[low : low + len(band)] @ h) ** 2))
        whole += float(np.sum(band**2))
    return (left / whole) ** 0.5


def _parser() -> argparse.ArgumentParser:
    made = options.parser("nmf", __doc__ or "", PEERS)
    made.add_argument("--rows", type=int, default=200_000)
    made.add_argument("--columns", type=int, default=1000)
    made.add_argument("--rank", type=int, default=20)
    made.add_argument("--chunk-rows", type=int, default=4096, help="chunks have all columns")
    made.add_argument("--noise", type=float, default=0.1, help="deviation; entries are about one")
    made.add_argument("--memory", type=options.nbytes, default="1GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()

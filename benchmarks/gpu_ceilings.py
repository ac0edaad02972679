"""What the GPU, its link and the disk allow, measured in the run that is held against it."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from leptonhpc.kernels import primitives_of
from leptonhpc.kernels.fold import Blas


def say(name: str, value: float | None = None, unit: str = "", **more: Any) -> None:
    """Print a row; with ``ceiling``, what part of it was reached."""
    row: dict[str, Any] = {"name": name}
    if value is not None:
        row |= {"value": value, "unit": unit}
    options, ceiling = more.pop("options", None), more.pop("ceiling", None)
    if ceiling is not None:
        known = ceiling_of(options, ceiling)
        if known and value is not None:
            row |= {"fraction": value / known, "of": ceiling}
    print(json.dumps({**row, **more}), flush=True)


def ceiling_of(options: dict[str, Any], name: str) -> float:
    """Give what a step before this one measured; 0 if it did not."""
    found = [r.get("value", 0.0) for r in options["rows"] if r["name"] == f"ceiling: {name}"]
    return found[-1] if found else 0.0


def attempt(name: str, work: Callable[..., None], *arguments: Any) -> None:
    """Do a part of a step; if it fails a row says so, and the other parts are done."""
    try:
        work(*arguments)
    except Exception as error:
        traceback.print_exc()  # all of it is kept beside the rows
        say(name, failed=f"{type(error).__name__}: {error}"[:300])


def ceilings(options: dict[str, Any]) -> None:
    """Measure products, factorisations, copies and reading, each for about a second."""
    sizes, blas = options["sizes"], primitives_of(options["kind"])
    n, seconds = sizes["ceiling"], sizes["seconds"]
    for precision in ("float64", "float32", "tf32")[: 2 + blas.has_tf32]:
        attempt(f"ceiling: gemm {precision}", _gemm, blas, seconds, n, precision)
    attempt("ceiling: skinny gemm float32", _skinny, blas, seconds, 2 * n, sizes["columns"])
    attempt("ceiling: potrf float64", _potrf, blas, seconds, sizes["potrf"])
    attempt("ceiling: qr float64", _geqrf, blas, seconds, sizes["potrf"])
    attempt("ceiling: copies", _copies, blas, seconds, sizes["copy_nbytes"])
    for compression, name in (("none", "read and decode"), ("fast", "read and decompress")):
        folder = Path(options["folder"]) / compression
        attempt(f"ceiling: {name}", _reading, folder, sizes["copy_nbytes"], compression, name)


def _gemm(blas: Blas, seconds: float, n: int, precision: Any) -> None:
    dtype = "float64" if precision == "float64" else "float32"
    rate = _product(blas.computing(precision), seconds, n, n, dtype)
    say(f"ceiling: gemm {precision}", 2e-12 * n**3 * rate, "TFLOP/s")


def _skinny(blas: Blas, seconds: float, rows: int, columns: int) -> None:
    rate = _product(blas, seconds, rows, 32, "float32", inner=columns, at_once=16)
    say("ceiling: skinny gemm float32", 2e-12 * rows * columns * 32 * rate, "TFLOP/s")


def _per_second(blas: Blas, seconds: float, work: Callable[[], Any], *, at_once: int = 1) -> float:
    """Repeat work for some time; what it gives is waited for, after so many at once."""

    def some() -> None:
        for _ in range(at_once - 1):
            work()
        blas.get(work()[:1, :1])

    some()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        some()
        count += at_once
    return count / (time.perf_counter() - began)


def _product(
    blas: Blas, seconds: float, rows: int, columns: int, dtype: str, *, inner: int | None = None,
    at_once: int = 1,
) -> float:  # fmt: skip
    depth = inner or rows
    a, b = (blas.put(_noise(shape, dtype)) for shape in ((rows, depth), (depth, columns)))
    c = blas.zeros((rows, columns), dtype)

    def work() -> Any:
        blas.gemm(c, a, b)
        return c

    return _per_second(blas, seconds, work, at_once=at_once)


def _noise(shape: tuple[int, int], dtype: str) -> Any:
    """Give a million numbers over and over: no faster to compute with, and soon drawn."""
    drawn = np.random.default_rng(0).standard_normal(1_000_003, dtype=np.dtype(dtype).type)
    return np.resize(drawn, shape)


def _potrf(blas: Blas, seconds: float, n: int) -> None:
    powers = 0.99 ** np.abs(np.arange(-n + 1, n)).astype(float)
    definite = blas.put(np.lib.stride_tricks.sliding_window_view(powers, n)[::-1])

    def potrf() -> Any:
        a = definite + 0
        blas.potrf(a)
        return a

    say("ceiling: potrf float64", 1e-12 * n**3 / 3 * _per_second(blas, seconds, potrf), "TFLOP/s",
        note=f"n={n}")  # fmt: skip


def _geqrf(blas: Blas, seconds: float, n: int) -> None:
    width = max(16, n // 16)
    tall = blas.put(_noise((2 * n, width), "float64"))

    def geqrf() -> Any:
        a = tall + 0
        blas.geqrf(a)
        return a

    flops = 2.0 * width**2 * (2 * n - width / 3)
    say("ceiling: qr float64", 1e-12 * flops * _per_second(blas, seconds, geqrf), "TFLOP/s",
        note=f"{2 * n} x {width}")  # fmt: skip


def _copies(blas: Blas, seconds: float, nbytes: int) -> None:
    columns = 1 << 12
    shape = (max(1, nbytes // columns // 8), columns)
    host = np.ones(shape)
    dtype, size = np.dtype("f8"), 1e-9 * host.nbytes

    def from_page_locked() -> Any:
        return blas.stage(shape, dtype, lambda out: out)  # what lies there is copied

    there = blas.put(host)
    rate = size * _per_second(blas, seconds, from_page_locked)
    say("ceiling: copy in, page-locked", rate, "GB/s")
    rate = size * _per_second(blas, seconds, lambda: blas.put(host))
    say("ceiling: copy in, pageable", rate, "GB/s", note="through the ring")
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        blas.get(there)
        count += 1
    say("ceiling: copy out", size * count / (time.perf_counter() - began), "GB/s",
        note="through the ring")  # fmt: skip


def _reading(folder: Path, nbytes: int, compression: Any, name: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from leptonhpc import store
    from leptonhpc.runtime.cores import usable_cores

    block = np.random.default_rng(0).standard_normal((1 << 9, 1 << 11)).astype("f4")
    count = max(1, nbytes // block.nbytes)
    array = store.create_array(
        folder, shape=(count * len(block), block.shape[1]), dtype="f4", chunks=block.shape,
        compression=compression,
    )  # fmt: skip
    for number in range(count):
        array.write_units((number, 0), block)

    def read(number: int) -> None:
        rows = (number * len(block), (number + 1) * len(block))
        array.read((rows, (0, block.shape[1])), np.empty_like(block))

    with ThreadPoolExecutor(usable_cores()) as pool:
        began = time.perf_counter()
        assert all(done is None for done in pool.map(read, range(count)))
        took = time.perf_counter() - began
    say(f"ceiling: {name}", 1e-9 * count * block.nbytes / took, "GB/s",
        note="from the page cache, where it fits")  # fmt: skip


def numpy_gemm(n: int) -> None:
    """Multiply with NumPy on all cores."""
    a = np.random.default_rng(0).standard_normal((n, n))
    began = time.perf_counter()
    _ = a @ a
    seconds = time.perf_counter() - began
    say("peer: NumPy on all cores", 2e-12 * n**3 / seconds, "TFLOP/s", note=f"n={n}")

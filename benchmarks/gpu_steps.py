"""The steps of gpu_check: each reads options from stdin and prints a row of JSON as it is known."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gpu_ceilings import attempt, ceiling_of, ceilings, numpy_gemm, say

import leptonhpc as lh
from leptonhpc.kernels import primitives_of
from leptonhpc.runtime.cores import usable_cores

HERE = Path(__file__).parent


def machine(options: dict[str, Any]) -> None:
    """Say what all else was measured on."""
    from importlib.metadata import version

    import psutil

    names = ("leptonhpc", "numpy", "scipy", "zarr", "dask")
    attempt("versions", lambda: say("versions", note=", ".join(f"{n} {version(n)}" for n in names)))
    memory = f"{psutil.virtual_memory().total / 1e9:.0f} GB"
    say("host", note=f"{usable_cores()} cores, {memory}, Python {sys.version.split()[0]}")
    if options["kind"].startswith("cuda"):
        attempt("GPU", _say_gpu)
    planned = (primitives_of(options["kind"]).capacity_nbytes or 0) / 1e9
    say("memory of the device, planned with", planned, "GB")


def _say_gpu() -> None:
    import cupy

    runtime = cupy.cuda.runtime
    found = runtime.getDeviceProperties(0)
    name, nbytes = found["name"].decode(), found["totalGlobalMem"]
    cuda = f"CUDA {runtime.runtimeGetVersion()}, driver for {runtime.driverGetVersion()}"
    say("GPU", note=f"{name}, {nbytes / 1e9:.0f} GB, CuPy {cupy.__version__}, {cuda}")


def tests(options: dict[str, Any]) -> None:
    """Run the tests of devices; with a GPU they run on it too."""
    folder = HERE.parent / "tests" / "kernels"
    names = ("cupy_names", "staging", "accelerated", "tall_devices")
    files = [folder / f"test_{name}.py" for name in names]
    on_gpu = options["kind"].startswith("cuda")
    wanted = "cupy or (cuda and not cuda_double)" if on_gpu else "cuda_double and float32"
    environment = {k: v for k, v in os.environ.items() if k != "LEPTONHPC_DEVICE"}
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "--tb=short", "-p", "no:cacheprovider"]
    limit = max(1, options["limit"] - 5)
    try:
        done = subprocess.run(  # it ends before this process is ended: nothing goes on beside
            [*command, "-k", wanted, *files], cwd=HERE.parent, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        told = expired.stdout or b""
        told = told.decode(errors="replace") if isinstance(told, bytes) else told
        print(told, file=sys.stderr)
        count = {name: told.count(sign) for name, sign in (("passed", "."), ("failed", "F"))}
        say("tests", failed=f"not done after {limit:.0f} s; until then about {count}")
        return
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        say("tests", failed=last)
        return
    say("tests", note=last)


def gemm(options: dict[str, Any]) -> None:
    """Multiply matrices in the host's memory that stream through the GPU."""
    n, blas = options["sizes"]["gemm"], primitives_of(options["kind"])
    rng = np.random.default_rng(0)
    windows = np.lib.stride_tricks.sliding_window_view(rng.standard_normal(2 * n), n)[:n]
    a, b = (_filled(windows, s) for s in (1.0, 0.5))
    lh.matmul(a[: n // 8, : n // 8], b[: n // 8, : n // 8])  # libraries, page-locked buffers
    picked = rng.integers(0, n, 4)
    exact = a[picked] @ b
    for precision, factors in _in_precisions(a, b, tf32=blas.has_tf32):
        attempt(f"gemm out of core, {precision}", _gemm, precision, factors, picked, exact, options)
    _peers_of_gemm(a, b, options["kind"])
    attempt("peer: NumPy on all cores", numpy_gemm, options["sizes"]["numpy"])


def _gemm(
    precision: Any, factors: tuple[Any, Any], picked: Any, exact: Any, options: dict[str, Any]
) -> None:
    seconds, result = _timed(functools.partial(lh.matmul, *factors, precision=precision))
    c = np.asarray(result.product)
    error = float(np.max(np.abs(c[picked] - exact)) / np.max(np.abs(exact)))
    rate = 2e-12 * len(c) ** 3 / seconds
    say(f"gemm out of core, {precision}", rate, "TFLOP/s", ceiling=f"gemm {precision}", wanted=0.9,
        options=options, seconds=seconds, error=error,
        report=str(result.certificate))  # fmt: skip


def _in_precisions(a: Any, b: Any, *, tf32: bool) -> Iterator[tuple[Any, tuple[Any, Any]]]:
    """Give each precision that the device has, and factors that are in it."""
    yield "float64", (a, b)
    single = _filled(a, 1.0, "f4"), _filled(b, 1.0, "f4")
    yield from ((precision, single) for precision in ("float32", "tf32")[: 1 + tf32])


def _peers_of_gemm(a: Any, b: Any, kind: str) -> None:
    n = len(a)

    def in_memory() -> None:
        import cupy

        cupy.asnumpy(cupy.asarray(a) @ cupy.asarray(b))
        cupy.get_default_memory_pool().free_all_blocks()

    def on_dask() -> None:
        import cupy
        import dask.array as da

        x, y = (da.from_array(m, n // 4, name=False).map_blocks(cupy.asarray) for m in (a, b))
        (x @ y).map_blocks(cupy.asnumpy).compute(scheduler="synchronous")

    peers = {"CuPy, all on the GPU": in_memory, "dask.array with CuPy": on_dask}
    for name, work in peers.items():
        if not kind.startswith("cuda"):
            say(f"peer: {name}", note="not run: CuPy computes on a GPU only")
            continue
        try:
            seconds, _ = _timed(work)
        except Exception as error:  # a peer that fails does not end what is measured of ours
            say(f"peer: {name}", note=f"not run: {type(error).__name__}: {error}"[:200])
        else:
            rate = 2e-12 * n**3 / seconds
            say(f"peer: {name}", rate, "TFLOP/s", ceiling="gemm float64", seconds=seconds)


def svd(options: dict[str, Any]) -> None:
    """Stream a float32 Zarr array through the GPU: the first pass reads, the others compute."""
    rows, columns = options["sizes"]["rows"], options["sizes"]["columns"]
    path = Path(options["folder"]) / "x.zarr"
    _write_low_rank(path, rows, columns)
    attempt("svd, in all", _svd, path, rows, columns, options)
    attempt("peer: NumPy on all cores", _svd_peer, options)


def _svd(path: Path, rows: int, columns: int, options: dict[str, Any]) -> None:
    # libraries, kernels, page-locked buffers
    lh.svd(lh.open(path)[: max(rows // 16, columns)], rank=20, method="krylov")
    seconds, result = _timed(lambda: lh.svd(path, rank=20, method="krylov"))
    stages = [s for s in result.report.stages if s.name.startswith("pass")]
    known = [ceiling_of(options, name) for name in ("read and decode", "copy in, page-locked")]
    first = 1e-9 * rows * columns * 4 / stages[0].seconds
    part = {"fraction": first / min(known), "of": "the slower of reading and copying"}
    say("svd, pass 1", first, "GB/s", wanted=0.8, seconds=stages[0].seconds,
        **(part if all(known) else {}))  # fmt: skip
    later = stages[1:]
    if later:
        rate = 1e-12 * sum(s.flops for s in later) / sum(s.seconds for s in later)
        say("svd, passes after", rate, "TFLOP/s", ceiling="skinny gemm float32", wanted=0.7,
            options=options)  # fmt: skip
    certificate = result.certificate
    say("svd, in all", seconds, "s", report=str(certificate), note="the worst residual, of |A|",
        converged=bool(certificate.converged),
        error=max(certificate.residuals) / certificate.norm)  # fmt: skip


def _svd_peer(options: dict[str, Any]) -> None:
    """Do the same with NumPy on all cores, on an eighth of the rows, all in memory."""
    rows, columns = options["sizes"]["rows"] // 8, options["sizes"]["columns"]
    x = np.asarray(lh.open(Path(options["folder"]) / "x.zarr")[:rows])

    def by_gram() -> None:
        _, v = np.linalg.eigh(x.T @ x)
        _ = x @ v[:, -20:]

    seconds, _ = _timed(by_gram)
    say("peer: NumPy on all cores", seconds, "s", seconds=seconds,
        note=f"by Gram matrix, an eighth of the rows: {rows} x {columns}")  # fmt: skip


def _write_low_rank(path: Path, rows: int, columns: int) -> None:
    """Write 30 modes that fall by a fifth each, and noise, band by band."""
    from leptonhpc import store

    rng = np.random.default_rng(0)
    right = rng.standard_normal((30, columns)).astype("f4") * 0.8 ** np.arange(30)[:, None]
    height = max(1, (32 << 20) // (columns * 4))
    array = store.create_array(
        path, shape=(rows, columns), dtype="f4", chunks=(height, columns), compression="none"
    )
    noise = rng.standard_normal((height, columns)).astype("f4") * np.float32(1e-5)
    for number, low in enumerate(range(0, rows, height)):
        left = rng.standard_normal((min(height, rows - low), 30)).astype("f4")
        band = left @ right.astype("f4") + noise[: len(left)]
        array.write_units((number, 0), band)


def cholesky(options: dict[str, Any]) -> None:
    """Factor a matrix whose factor is known: rho^|i - j|."""
    n, rho = options["sizes"]["cholesky"], 0.999
    powers = rho ** np.abs(np.arange(-n + 1, n)).astype(float)
    # row i is powers of |j - i|: a window of one vector
    a = _filled(np.lib.stride_tricks.sliding_window_view(powers, n)[::-1])
    attempt(f"cholesky, n={n}", _cholesky, a, n, rho, options)
    attempt("peer: NumPy on all cores", _cholesky_peer, a, options["sizes"]["numpy"])


def _cholesky(a: Any, n: int, rho: float, options: dict[str, Any]) -> None:
    lh.cholesky(a[: n // 16, : n // 16])  # libraries, kernels, page-locked buffers
    seconds, result = _timed(lambda: lh.cholesky(a))
    lower = np.asarray(result.l)
    picked = np.unique(np.linspace(0, n - 1, 5).astype(int))
    known = np.stack(
        [np.where(np.arange(n) <= i, row, 0) for i, row in zip(picked, a[picked], strict=True)]
    )
    known[:, 1:] *= np.sqrt(1 - rho**2)
    error = float(np.max(np.abs(lower[picked] - known)))
    rate = 1e-12 * n**3 / 3 / seconds
    say(f"cholesky, n={n}", rate, "TFLOP/s", ceiling="potrf float64", wanted=0.8, options=options,
        seconds=seconds, error=error, report=str(result.certificate))  # fmt: skip


def _cholesky_peer(a: Any, n: int) -> None:
    small = a[:n, :n]
    seconds, _ = _timed(lambda: np.linalg.cholesky(small))
    say("peer: NumPy on all cores", 1e-12 * len(small) ** 3 / 3 / seconds, "TFLOP/s",
        note=f"n={len(small)}", seconds=seconds)  # fmt: skip


def _filled(view: Any, factor: float = 1.0, dtype: str = "f8") -> Any:
    """Give a view by a factor as an array, filled on all cores: one would take half a minute."""
    out = np.empty(view.shape, dtype)

    def fill(low: int) -> None:
        rows = slice(low, low + 256)
        np.multiply(view[rows], factor, out=out[rows], casting="same_kind")

    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(fill, range(0, len(view), 256)):
            pass
    return out


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


STEPS = {
    "machine": machine, "tests": tests, "ceilings": ceilings, "gemm": gemm, "svd": svd,
    "cholesky": cholesky,
}  # fmt: skip

if __name__ == "__main__":
    STEPS[sys.argv[1]](json.load(sys.stdin))

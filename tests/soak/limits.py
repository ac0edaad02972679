"""Every driver on workers that cannot have more memory than they were given: the kernel refuses.

python tests/soak/limits.py

Arrays are larger than what the budget leaves for them and what the limit allows beside. On two
workers of Dask, and on a mixed cluster of a double of a GPU and of cores.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

ORDER, TILE = 4096, 256
TALL = (1 << 20, 64)
"""Both are of 134 MB and more: of numbers in double and in single precision."""
BUDGET = 200_000_000
BESIDE_NBYTES = 64 << 20
"""The limit counts address space: stacks and arenas of threads that a small job did not begin."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "svd": ("tall", {"rank": 4}),
    "svd gram": ("square", {"rank": 4, "method": "gram"}),
    "svd mixed": ("square", {"rank": 4, "method": "mixed"}),
    "qr": ("tall", {}),
    "lstsq": ("tall", {}),
    "lsmr": ("square", {}),
    "pinv": ("tall", {}),
    "polar": ("tall", {}),
    "nmf": ("tall", {"rank": 3, "init": "random", "most_sweeps": 2}),
    "norm": ("tall", {}),
    "cond": ("tall", {}),
    "matrix_rank": ("tall", {}),
    "matmul": ("square", {}),
    "cholesky": ("square", {}),
    "lu": ("square", {}),
    "solve": ("square", {}),
    "inv": ("square", {}),
    "eigh": ("square", {"k": 3}),
    "cg": ("square", {}),
    "slogdet": ("square", {}),
}


def keep_inputs(folder: Path) -> None:
    """Store a matrix of many equal tiles that is positive definite, a tall one, and sides."""
    rng = np.random.default_rng(0)
    tile = rng.standard_normal((TILE, TILE))
    tile = (tile + tile.T) / 2
    square = _links(folder / "square", (ORDER, ORDER), tile)
    for number in range(ORDER // TILE):
        place = slice(number * TILE, (number + 1) * TILE)
        (folder / "square" / "c" / str(number) / str(number)).unlink()
        square[place, place] = tile + 1000 * np.eye(TILE)
    _links(folder / "tall", TALL, rng.random((TALL[0] // 32, TALL[1]), dtype="f4"))
    for name, rows in (("square", ORDER), ("tall", TALL[0])):
        side = np.ones((rows, 2), dtype="f4" if name == "tall" else "f8")
        zarr.create_array(folder / f"{name} side", data=side, chunks=(rows // 32, 2))


def _links(path: Path, shape: tuple[int, int], chunk: np.ndarray[Any, Any]) -> Any:
    """Store an array whose chunks are links to one file: reading knows no difference."""
    array = zarr.create_array(
        path, shape=shape, dtype=chunk.dtype, chunks=chunk.shape, compressors=None
    )
    first = None
    for i in range(shape[0] // chunk.shape[0]):
        (path / "c" / str(i)).mkdir(parents=True)
        for j in range(shape[1] // chunk.shape[1]):
            file = path / "c" / str(i) / str(j)
            if first is None:
                file.write_bytes(chunk.tobytes())
                first = file
            else:
                os.link(first, file)
    return array


def limit(room_nbytes: int) -> int:
    """Have the kernel refuse this process more memory than it has now, and so much."""
    import resource

    line = next(line for line in open("/proc/self/status") if line.startswith("VmData"))  # noqa: SIM115
    most = int(line.split()[1]) * 1024 + room_nbytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
    return os.getpid()


def unlimit() -> None:
    """Let this process have what it asks for."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def smallest(driver: str, arrays: Sequence[Path], options: dict[str, Any]) -> int:
    """Give the budget, or the smallest that a driver names where that cannot suffice."""
    import leptonhpc as lh
    from leptonhpc.errors import MemoryBudgetError

    try:
        lh.plan(driver, *arrays, memory=BUDGET, **options)
    except MemoryBudgetError as error:
        (megabytes,) = re.findall(r"memory='([0-9]+) MB'", str(error))
        return int(megabytes) * 10**6
    return BUDGET


def run(client: Any, names: Sequence[str], folder: Path) -> list[str]:
    """Run drivers on limited workers, which all live on; give those that took more than planned."""
    import leptonhpc as lh
    from leptonhpc.planning.costs import LIBRARIES_NBYTES

    over: list[str] = []
    for name in names:
        shape, options = CASES[name]
        driver, arrays = name.split()[0], [folder / shape]
        if name in ("solve", "lstsq", "cg", "lsmr"):
            arrays.append(folder / f"{shape} side")
        elif name == "matmul":
            arrays *= 2
        options = {"memory": smallest(driver, arrays, options), **options}
        out = {} if name in ("norm", "cond", "matrix_rank", "slogdet") else {"out": folder / "r"}
        small = np.random.default_rng(0).random((300, 64)) + np.eye(300, 64)
        lh.svd(small, rank=2, memory=options["memory"])  # libraries have begun their threads
        room = options["memory"] - LIBRARIES_NBYTES + BESIDE_NBYTES
        before = client.run(limit, room)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                r = getattr(lh, driver)(*arrays, **options, **out, progress=False)
        except MemoryError as error:
            over.append(name)
            print(f"{name:<12}OVER: {error}", flush=True)
            continue
        finally:
            client.run(unlimit)
            shutil.rmtree(folder / "r", ignore_errors=True)
            shutil.rmtree(folder / "r.partial", ignore_errors=True)
        report = r.report
        size = sum(lh.open(path).nbytes for path in arrays)
        assert size > room or options["memory"] > BUDGET, name
        assert client.run(os.getpid) == before, f"{name}: a worker was started anew"
        planned = report.predicted_peak_nbytes
        kept = report.peak_nbytes <= planned <= report.memory_nbytes <= options["memory"]
        over += [] if kept else [name]
        words = (
            f"{name:<12}{report.seconds:6.1f} s  read {report.read_nbytes / 1e6:7.0f} MB, "
            f"peak {report.peak_nbytes / 1e6:4.0f} MB of {options['memory'] / 1e6:.0f}, "
            f"planned {planned / 1e6:.0f}{'' if kept else '  OVER'}"
        )
        print(words, flush=True)
    return over


@contextlib.contextmanager
def cluster(kind: str) -> Iterator[Any]:
    """Give a client of two workers."""
    if kind == "mixed":
        from leptonhpc.cluster import mixed

        with mixed([0], "500 MB", workers=1, device="leptonhpc.testing.strict_device") as client:
            yield client
        return
    import dask
    from distributed import Client, LocalCluster

    with dask.config.set({"distributed.worker.profile.enabled": False}), LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
    ) as workers, Client(workers) as client:  # fmt: skip
        yield client


def main() -> None:
    """Try all drivers on both kinds of cluster."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drivers", nargs="*", help="default: all")
    parser.add_argument("--kinds", nargs="*", default=["distributed", "mixed"])
    arguments = parser.parse_args()
    folder, over = Path(tempfile.mkdtemp()), list[str]()
    try:
        keep_inputs(folder)
        for kind in arguments.kinds:
            print(f"{kind}:")
            with cluster(kind) as client:
                over += run(client, arguments.drivers or list(CASES), folder)
    finally:
        shutil.rmtree(folder)
    sys.exit(f"more than planned: {', '.join(over)}" if over else None)


if __name__ == "__main__":
    main()

"""Two workers of unlike speed: how close to the ideal makespan, beside Dask's own placement.

A worker is slowed by stopping it most of the time, as cpulimit does. The ideal is that of the
measured speeds: one alone takes t, so with another at a share f of its speed it is t / (1 + f).

python benchmarks/placement.py --order 8192 --rows 400000 --slow 0.25,0.02
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import data
import numpy as np
import options
import rows
import zarr
from rows import Row
from tables import print_table

import leptonhpc as lh
from leptonhpc.testing.slowing import slowed

TINY = {"order": 768, "chunk": 128, "rows": 6000, "columns": 64, "chunk_rows": 500, "slow": [0.25]}

Job = Callable[[], Any]


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure products and decompositions on workers of unlike speed."""
    arguments = options.parse(_parser(), argv, TINY)
    shared = {**rows.describe_run(), "subject": "placement"}
    found: list[Row] = []
    for work in arguments.works:
        case = _Case(work, arguments)
        for row in case.run():
            found.append({**shared, "work": work, "sizes": case.sizes, **row})
            rows.append_rows(arguments.out, found[-1:])
            print(f"{work}: {row['contestant']}: {row['seconds']:.3g} s", flush=True)
    print_table(
        "two workers, one slowed",
        ("work", "contestant", "seconds", "x ideal", "simulated", "off owner", "error"),
        [
            (
                row["work"], row["contestant"], f"{row['seconds']:.3g}",
                _shown(row, "of_ideal", ".2f"), _shown(row, "simulated_seconds", ".3g"),
                _shown(row, "off_owner", "d"), _shown(row, "error", ".1e"),
            )
            for row in found
        ],
    )  # fmt: skip
    return found


class _Case:
    """One kind of work, by both contestants, on workers of several speeds."""

    def __init__(self, work: str, arguments: argparse.Namespace) -> None:
        self._arguments, self._work = arguments, work
        self._out = arguments.data / f"placement-{os.getpid()}.zarr"
        if work == "matmul":
            n = arguments.order
            self.sizes: dict[str, int] = {"order": n}
            self._inputs = [
                data.square_matrix(arguments.data, n=n, chunk=arguments.chunk, seed=seed)
                for seed in (0, 1)
            ]
        else:
            self.sizes = {k: getattr(arguments, k) for k in ("rows", "columns", "rank")}
            self._inputs = [
                data.tall_matrix(
                    arguments.data, rows=arguments.rows, columns=arguments.columns,
                    chunk_rows=arguments.chunk_rows,
                )
            ]  # fmt: skip

    def run(self) -> Iterator[Row]:
        """Give a row for each contestant: alone, then together."""
        with _cluster(1) as (client, _):
            self._warm(client)
            alone = self._timed(self._ours)
            yield {**alone, "contestant": "leptonhpc, one alone"}
        with _cluster(2) as (client, pids):
            self._warm(client)
            yield {**self._timed(self._ours), "contestant": "leptonhpc, both fast"}
            yield {**self._timed(self._dask), "contestant": "dask, both fast"}
            for share in self._arguments.slow:
                with slowed(pids[0], to=share):
                    lh.probe(save=False)
                    for name, job in (("leptonhpc", self._ours), ("dask", self._dask)):
                        if share >= _LEAST_OF_DASK or name == "leptonhpc":
                            row = self._timed(job)
                            text = f"{name}, one at {share:g}"
                            if name == "leptonhpc":
                                row["of_ideal"] = row["seconds"] * (1 + share) / alone["seconds"]
                            yield {**row, "contestant": text}

    def _timed(self, job: Job) -> Row:
        shutil.rmtree(self._out, ignore_errors=True)
        began = time.perf_counter()
        result = job()
        seconds = time.perf_counter() - began
        row: Row = {"status": "ok", "seconds": seconds, "error": self._error(result)}
        report = getattr(result, "report", None)
        if report is not None:
            placed = [s.placement for s in report.stages if s.placement is not None]
            row["off_owner"] = report.off_owner
            row["simulated_seconds"] = sum(p.simulated_seconds for p in placed)
            row["placed_seconds"] = sum(p.seconds for p in placed)
        shutil.rmtree(self._out, ignore_errors=True)
        return row

    def _warm(self, client: Any) -> None:
        """Import on workers what jobs need, off the clock."""
        lh.norm(np.ones((64, 64)))
        client.run(_imports)

    def _ours(self) -> Any:
        memory = self._arguments.memory
        if self._work == "matmul":
            return lh.matmul(*self._inputs, memory=memory, out=self._out)
        return lh.svd(self._inputs[0], rank=self._arguments.rank, memory=memory)

    def _dask(self) -> Any:
        import dask.array as da

        if self._work == "matmul":
            a, b = (da.from_zarr(str(path)) for path in self._inputs)
            (a @ b).to_zarr(str(self._out))
            return None
        x = da.from_zarr(str(self._inputs[0]))
        return da.compute(
            *da.linalg.svd_compressed(x, self._arguments.rank, n_power_iter=2, iterator="QR")
        )

    def _error(self, result: Any) -> float:
        if self._work == "matmul":
            a, b, c = (zarr.open_array(path, mode="r")[...] for path in (*self._inputs, self._out))
            x = np.random.default_rng(0).standard_normal((b.shape[1], 3))
            right = a @ (b @ x)
            return float(np.linalg.norm(c @ x - right) / np.linalg.norm(right))
        values = np.asarray(result.s if hasattr(result, "s") else result[1])
        exact = data.exact_singular_values(self._inputs[0])[: len(values)]
        return data.worst_relative_error(values, exact)


_LEAST_OF_DASK = 0.1
"""With a worker that is slower than this Dask would take many minutes."""


@contextmanager
def _cluster(workers: int) -> Iterator[tuple[Any, list[int]]]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=0, host="127.0.0.1",
            dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client, [pid for _, pid in sorted(client.run(os.getpid).items())]


def _imports() -> None:
    import dask.array
    import scipy.linalg  # noqa: F401

    assert dask.array is not None


def _shown(row: Row, name: str, form: str) -> str:
    return format(row[name], form) if name in row else ""


def _shares(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    made = options.parser("placement", __doc__ or "", peers=())
    made.add_argument("--works", type=options.names(("matmul", "svd")), default=["matmul", "svd"])
    made.add_argument("--order", type=int, default=8192)
    made.add_argument("--chunk", type=int, default=1024, help="of the product's factors")
    made.add_argument("--rows", type=int, default=400_000)
    made.add_argument("--columns", type=int, default=2048)
    made.add_argument("--rank", type=int, default=10)
    made.add_argument("--chunk-rows", type=int, default=4096)
    made.add_argument("--slow", type=_shares, default=[0.25, 0.02], help="parts of full speed")
    made.add_argument("--memory", type=options.nbytes, default="1GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()

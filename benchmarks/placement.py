"""Two workers of unlike speed: the makespan beside what is ideal, what was predicted, and Dask.

A worker is slowed by cpulimit, or by stopping it most of the time as cpulimit does. The ideal is
that of the measured speeds: one alone takes t, so with another at a share f of its speed it is
t / (1 + f). Predicted are the seconds that a job's report has: of the plan, of each stage on its
workers when it began, and of all stages.

python benchmarks/placement.py --order 8192 --rows 400000 --slow 0.25,0.02 --slow-by cpulimit
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
    for row in _measured([_Case(work, arguments) for work in arguments.works], arguments):
        found.append({**shared, **row})
        rows.append_rows(arguments.out, found[-1:])
        print(f"{row['work']}: {row['contestant']}: {row['seconds']:.3g} s", flush=True)
    print_table(
        "two workers, one slowed",
        (
            "work", "contestant", "seconds", "x ideal", "simulated", "took", "simulated / took",
            "planned / took", "off owner", "error",
        ),
        [
            (
                row["work"], row["contestant"], f"{row['seconds']:.3g}",
                _shown(row, "of_ideal", ".2f"), _shown(row, "simulated_seconds", ".3g"),
                _shown(row, "placed_seconds", ".3g"), _shown(row, "simulated_of_actual", ".2f"),
                _shown(row, "planned_of_actual", ".2f"), _shown(row, "off_owner", "d"),
                _shown(row, "error", ".1e"),
            )
            for row in found
        ],
    )  # fmt: skip
    return found


def _measured(cases: Sequence[_Case], arguments: argparse.Namespace) -> Iterator[Row]:
    """Give a row for each kind of work and contestant: alone, on two workers, with one slowed."""
    alone: dict[str, float] = {}
    dask = "dask" in arguments.peers
    with _cluster(1) as (client, _):
        _warm(client)
        lh.probe(save=False)
        for case in cases:
            row = case.ours("leptonhpc, one alone")
            alone[case.work] = row["seconds"]
            yield row
    with _cluster(2) as (client, pids):
        _warm(client)
        lh.probe(save=False)
        for case in cases:
            yield case.ours("leptonhpc, both fast")
            if dask:
                yield case.dask("dask, both fast")
        for share in arguments.slow:
            with _SLOWING[arguments.slow_by](pids[0], share):
                lh.probe(save=False)
                for case in cases:
                    row = case.ours(f"leptonhpc, one at {share:g}")
                    yield {**row, "of_ideal": row["seconds"] * (1 + share) / alone[case.work]}
                    if dask and share >= _LEAST_OF_DASK:
                        yield case.dask(f"dask, one at {share:g}")


def _by_signals(pid: int, share: float) -> AbstractContextManager[None]:
    return slowed(pid, to=share)


@contextmanager
def _by_cpulimit(pid: int, share: float) -> Iterator[None]:
    command = ["cpulimit", "--pid", str(pid), "--limit", str(round(100 * share))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as limit:
        time.sleep(1.0)  # it looks for the process, and begins
        if limit.poll() is not None:
            raise RuntimeError(f"cpulimit of process {pid} ended at once")
        try:
            yield
        finally:
            limit.send_signal(signal.SIGINT)  # it lets the process go on


_SLOWING: dict[str, Callable[[int, float], AbstractContextManager[None]]] = {
    "signals": _by_signals,
    "cpulimit": _by_cpulimit,
}


def _warm(client: Any) -> None:
    """Import on workers what jobs need, off the clock."""
    lh.norm(np.ones((64, 64)))
    client.run(_imports)


class _Case:
    """One kind of work, by both contestants."""

    def __init__(self, work: str, arguments: argparse.Namespace) -> None:
        self._arguments, self.work = arguments, work
        self._out = arguments.data / f"placement-{os.getpid()}.zarr"
        if work == "matmul":
            n = arguments.order
            self.sizes: dict[str, int] = {"order": n}
            self._inputs = [
                data.square_matrix(arguments.data, n=n, chunk=arguments.chunk, seed=seed)
                for seed in (0, 1)
            ]
        elif work == "cholesky":
            n = arguments.order
            self.sizes = {"order": n}
            self._inputs = [data.positive_matrix(arguments.data, n=n, chunk=arguments.chunk)]
        else:
            self.sizes = {k: getattr(arguments, k) for k in ("rows", "columns", "rank")}
            self._inputs = [
                data.tall_matrix(
                    arguments.data, rows=arguments.rows, columns=arguments.columns,
                    chunk_rows=arguments.chunk_rows,
                )
            ]  # fmt: skip

    def ours(self, contestant: str) -> Row:
        """Give the row of leptonhpc."""
        return self._timed(self._ours, contestant)

    def dask(self, contestant: str) -> Row:
        """Give the row of Dask's own placement."""
        return self._timed(self._dask, contestant)

    def _timed(self, job: Job, contestant: str) -> Row:
        shutil.rmtree(self._out, ignore_errors=True)
        began = time.perf_counter()
        result = job()
        seconds = time.perf_counter() - began
        row: Row = {
            "work": self.work, "sizes": self.sizes, "contestant": contestant,
            "status": "ok", "seconds": seconds, "error": self._error(result),
        }  # fmt: skip
        report = getattr(result, "report", None)
        if report is not None:
            row |= _predictions(report)
        shutil.rmtree(self._out, ignore_errors=True)
        return row

    def _ours(self) -> Any:
        memory = self._arguments.memory
        if self.work == "matmul":
            return lh.matmul(*self._inputs, memory=memory, out=self._out)
        if self.work == "cholesky":
            return lh.cholesky(self._inputs[0], memory=memory, out=self._out)
        return lh.svd(self._inputs[0], rank=self._arguments.rank, memory=memory)

    def _dask(self) -> Any:
        import dask.array as da

        if self.work == "matmul":
            a, b = (da.from_zarr(str(path)) for path in self._inputs)
            (a @ b).to_zarr(str(self._out))
            return None
        x = da.from_zarr(str(self._inputs[0]))
        if self.work == "cholesky":
            da.linalg.cholesky(x, lower=True).to_zarr(str(self._out / "l"))
            return None
        return da.compute(
            *da.linalg.svd_compressed(x, self._arguments.rank, n_power_iter=2, iterator="QR")
        )

    def _error(self, result: Any) -> float:
        if self.work == "matmul":
            a, b, c = (zarr.open_array(path, mode="r")[...] for path in (*self._inputs, self._out))
            x = np.random.default_rng(0).standard_normal((b.shape[1], 3))
            right = a @ (b @ x)
            return float(np.linalg.norm(c @ x - right) / np.linalg.norm(right))
        if self.work == "cholesky":
            stored = (self._inputs[0], self._out / "l")
            a, lower = (zarr.open_array(path, mode="r")[...] for path in stored)
            x = np.random.default_rng(0).standard_normal((a.shape[1], 3))
            right = a @ x
            return float(np.linalg.norm(lower @ (lower.T @ x) - right) / np.linalg.norm(right))
        values = np.asarray(result.s if hasattr(result, "s") else result[1])
        exact = data.exact_singular_values(self._inputs[0])[: len(values)]
        return data.worst_relative_error(values, exact)


def _predictions(report: Any) -> Row:
    """Give what a report says was predicted, beside what was."""
    stages = [(s.name, s.placement) for s in report.stages if s.placement is not None]
    simulated, took = report.simulated_seconds, report.placed_seconds
    return {
        "off_owner": report.off_owner,
        "planned_seconds": report.predicted_seconds,
        "planned_of_actual": report.predicted_seconds / report.seconds,
        "simulated_seconds": simulated,
        "placed_seconds": took,
        "simulated_of_actual": simulated / took,
        "stages": [
            {
                "name": name, "policy": p.policy, "simulated_seconds": p.simulated_seconds,
                "seconds": p.seconds, "dealt_again": p.dealt_again,
                "devices": [[d.tasks, d.seconds] for d in p.devices],
            }
            for name, p in stages
        ],
    }  # fmt: skip


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
    made.add_argument(
        "--peers", type=options.names(("dask",)), default=["dask"], help="who else runs, or none"
    )  # fmt: skip
    works = ("matmul", "svd", "cholesky")
    made.add_argument("--works", type=options.names(works), default=list(works))
    made.add_argument("--slow-by", choices=list(_SLOWING), default="signals", help="how")
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

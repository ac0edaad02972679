"""Runs: the same numbers wherever, each chunk once a pass, reports that tell what happened."""

import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, WrapperStore

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, NonFiniteError, OptionError, WorkerError
from leptonhpc.planning.costs import kept_seconds
from leptonhpc.runtime import resources_of
from leptonhpc.runtime.compile import compile_stage
from leptonhpc.runtime.execute import Context
from leptonhpc.runtime.memory import resident_nbytes
from leptonhpc.testing import put, rounding
from leptonhpc.testing.strategies import grids, matrices

JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "gram": ("svd", {"rank": 5, "method": "gram"}),
    "krylov": ("svd", {"rank": 5, "method": "krylov", "accuracy": 1e-6, "most_passes": 20}),
    "sketch": ("svd", {"rank": 5, "method": "sketch"}),
    "centred": ("svd", {"rank": 5, "center": True, "scale": "std"}),
    "product": ("matmul", {}),
    "norm": ("norm", {"ord": 1}),
}
every_job = pytest.mark.parametrize("job", JOBS)


@pytest.fixture(autouse=True)
def _sketches_may_warn(recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    from leptonhpc.errors import NotConvergedWarning

    warnings.simplefilter("ignore", NotConvergedWarning)


def run(job: str, path: Any, **more: Any) -> Any:
    driver, options = JOBS[job]
    x = lh.open(path)
    arrays = (x.H, x) if driver == "matmul" else (x,)
    return lh.plan(driver, *arrays, memory="1 GB", **options).run(**more)


def numbers(result: Any) -> list[np.ndarray]:
    if isinstance(result, lh.SvdResult):
        return [np.asarray(result.u), result.s, np.asarray(result.vh)]
    return [np.asarray(getattr(result, "product", getattr(result, "value", None)))]


@every_job
def test_the_same_seed_gives_the_same_bits_twice(job: str, stored: Path) -> None:
    for first, second in zip(numbers(run(job, stored)), numbers(run(job, stored)), strict=True):
        assert np.array_equal(first, second)


@every_job
def test_a_cluster_gives_what_threads_give(job: str, stored: Path, client: Client) -> None:
    there = numbers(run(job, stored))
    client.close()
    here = numbers(run(job, stored))
    a = np.asarray(lh.open(stored))
    # vectors turn by rounding / gap: neighbouring values are 7 % apart, five of them down to 0.7
    c = 1.0 if job in ("product", "norm") else 2 / 0.05
    allowed = c * rounding(a, float, terms=len(a))
    for first, second in zip(here, there, strict=True):
        assert np.max(np.abs(first - second)) <= allowed


@settings(max_examples=12)
@given(data=st.data())
def test_no_matrix_and_no_grid_tells_threads_from_processes(
    cluster: LocalCluster, data: st.DataObject
) -> None:
    a = data.draw(matrices(most=90))
    chunks = data.draw(grids(a.shape))
    method = data.draw(st.sampled_from(["gram", "sketch"]))
    rank = data.draw(st.integers(1, min(a.shape)))
    with tempfile.TemporaryDirectory() as folder:
        x = lh.open(put(a, Path(folder) / "a.zarr", chunks=chunks))
        with Client(cluster):
            there = lh.svd(x, rank=rank, method=method), np.asarray(lh.matmul(x.H, x))
        here = lh.svd(x, rank=rank, method=method), np.asarray(lh.matmul(x.H, x))
    assert there[0].report.workers == 2 or min(a.shape) == 1
    # values are backward stable, their vectors are not: what they say of A is compared
    allowed = 8 * rounding(a, a.dtype, terms=max(a.shape))
    assert np.max(np.abs(here[0].s - there[0].s)) <= allowed
    for r in (here[0], there[0]):
        assert r.certificate.frobenius_error <= here[0].certificate.frobenius_error + allowed
    assert np.max(np.abs(here[1] - there[1])) <= allowed * np.linalg.norm(a)


def test_another_seed_gives_other_bits_of_the_same_answer(stored: Path) -> None:
    options = {"rank": 5, "method": "krylov", "accuracy": 1e-6, "most_passes": 20, "memory": "1 GB"}
    one, two = (lh.svd(stored, seed=seed, **options) for seed in (0, 1))
    assert not np.array_equal(np.asarray(one.u), np.asarray(two.u))
    # a Ritz value is below the true one by at most residual^2 / (s gap) <= residual
    assert np.all(np.abs(one.s - two.s) <= 1e-6 * one.s)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_lanes_changes_rounding_only(threads: int, stored: Path) -> None:
    from dataclasses import replace

    from leptonhpc.linalg import plan_svd
    from leptonhpc.linalg.operator import Conditioning
    from leptonhpc.linalg.svd_shared import SvdOptions
    from leptonhpc.runtime import run_job

    resources = replace(resources_of(10**9), threads=threads)
    job = plan_svd(
        lh.open(stored), resources, options=SvdOptions(rank=5), conditioning=Conditioning(),
        method="gram",
    )  # fmt: skip
    outcome, workspace, report = run_job(job)
    a = np.asarray(lh.open(stored))
    true = np.linalg.svd(a, compute_uv=False)[:5]
    assert np.all(np.abs(outcome.fields["s"] - true) <= rounding(a, float))
    assert report.threads == threads
    workspace.close()


class Counting(WrapperStore):
    """Counts how often each object is asked for."""

    gets: Counter[str] = Counter()

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        self.gets[key] += 1
        return await self._store.get(key, *args, **options)


@every_job
def test_each_chunk_is_read_at_most_once_a_pass_from_a_store(job: str, stored: Path) -> None:
    array = zarr.open_array(Counting(LocalStore(stored, read_only=True)), mode="r")
    Counting.gets.clear()
    report = run(job, array).report
    chunks = {key: n for key, n in Counting.gets.items() if key.startswith("c/")}
    assert len(chunks) == 40
    assert max(chunks.values()) <= np.ceil(report.passes)
    assert sum(chunks.values()) == pytest.approx(40 * report.passes)
    assert report.reads_per_chunk == 1


_opened: list[Counter[str]] = []


def _note(event: str, arguments: Any) -> None:
    for counter in _opened[-1:] if event == "open" else ():  # other threads may open, too
        counter.update([str(arguments[0])])


sys.addaudithook(_note)


@every_job
def test_each_chunk_file_is_opened_at_most_once_a_pass(job: str, stored: Path) -> None:
    _opened.append(Counter())
    report = run(job, stored).report
    chunks = {name: n for name, n in _opened.pop().items() if name.startswith(f"{stored}/c")}
    assert len(chunks) == 40
    assert max(chunks.values()) <= np.ceil(report.passes)
    assert sum(chunks.values()) == pytest.approx(40 * report.passes)


PARTS = {
    "rows off the grid": lambda x: x[25:1985],
    "columns off the grid": lambda x: x[:, 7:100],
    "sum": lambda x: x + x,
    "transposed": lambda x: x.T,
}


@pytest.mark.parametrize("part", PARTS)
def test_expressions_read_each_chunk_once_a_pass_for_each_mention(part: str, stored: Path) -> None:
    _opened.append(Counter())
    x = PARTS[part](lh.open(stored))
    report = lh.svd(x, rank=5, method="gram", memory="300 MB", compute_uv=False).report
    chunks = {name: n for name, n in _opened.pop().items() if name.startswith(f"{stored}/c")}
    mentions = 2 if part == "sum" else 1
    # a band that begins inside a chunk shares it with the band before
    assert sum(chunks.values()) <= 1.1 * 40 * mentions * np.ceil(report.passes)


def test_a_sum_of_unlike_chunks_reads_each_chunk_once_a_pass(tmp_path: Path, stored: Path) -> None:
    array = zarr.create_array(tmp_path / "y", shape=(2000, 120), dtype="f8", chunks=(30, 120))
    array[...] = 1.0
    _opened.append(Counter())
    lh.norm(lh.open(stored) + lh.open(tmp_path / "y"), memory="300 MB")
    opened = _opened.pop()
    for path, count in ((stored, 40), (tmp_path / "y", 67)):
        assert sum(n for name, n in opened.items() if name.startswith(f"{path}/c")) <= 1.1 * count


@every_job
def test_tasks_travel(job: str, stored: Path) -> None:
    driver, options = JOBS[job]
    x = lh.open(stored)
    plan = lh.plan(driver, *((x.H, x) if driver == "matmul" else (x,)), memory="1 GB", **options)
    for stage in _stages(plan.job):
        context = Context(
            "job", stage.name, dict(plan.job.sources), frozenset(plan.job.sources), None, None, 1,
            chained=True, prefetch=None,
        )  # fmt: skip
        graph, key = compile_stage(stage, context, {"dtype": "f8"}, done={})
        again = pickle.loads(pickle.dumps(graph))
        assert key in again
        assert len(again) == len(graph)


def _stages(job: Any) -> list[Any]:
    collected = []

    def collect(stage: Any, small: Any) -> Any:
        collected.append(stage)
        raise StopIteration

    with pytest.raises(StopIteration):
        job.run(collect)
    return collected


@every_job
def test_reports_tell_what_happened_beside_what_was_predicted(job: str, stored: Path) -> None:
    before, began = resident_nbytes(), time.perf_counter()
    report = run(job, stored).report
    assert 0 < report.seconds < time.perf_counter() - began
    assert report.predicted_seconds > 0
    assert report.peak_nbytes > 50e6
    assert report.peak_nbytes < before + 1e9  # this process holds pytest, too
    assert 0 < report.predicted_peak_nbytes <= report.memory_nbytes == 10**9
    assert report.flops > 0
    assert report.read_nbytes >= 2000 * 120 * 8
    assert (report.workers, report.threads) == (1, resources_of(None).threads)
    assert sum(s.read_nbytes for s in report.stages) == report.read_nbytes
    assert sum(s.flops for s in report.stages) == report.flops
    assert not any(s.resumed or s.resumed_tasks for s in report.stages)
    json.dumps(report.to_dict())
    for word in ("predicted", "peak", "read", "wrote"):
        assert word in str(report)


def test_readings_of_chunks_are_told_of_only_where_there_are_chunks(stored: Path) -> None:
    assert "each chunk at most 1 times a pass" in str(run("gram", stored).report)
    # of rank 1: what has no mode is made orthogonal again, from scratch and not from the input
    report = lh.svd(np.ones((300, 20)), rank=2, method="gram", memory="1 GB").report
    assert report.read_nbytes > report.passes * 300 * 20 * 8
    assert 1 <= report.passes <= report.predicted_passes
    assert "chunk" not in str(report)


def test_stages_are_predicted_as_planned_and_a_little_longer_with_an_output(
    stored: Path, tmp_path: Path
) -> None:
    plan = lh.plan("svd", stored, rank=3, method="gram", memory="1 GB")
    here, kept = plan.run().report, plan.run(out=tmp_path / "r").report
    planned = [stage["seconds"] for stage in plan.explanation.stages]
    assert [stage.predicted_seconds for stage in here.stages] == pytest.approx(planned)
    more = kept_seconds(1)
    assert [s.predicted_seconds for s in kept.stages] == pytest.approx([p + more for p in planned])
    assert here.predicted_seconds == plan.explanation.seconds
    assert kept.predicted_seconds == pytest.approx(here.predicted_seconds + more * len(planned))


def test_reports_of_a_cluster_name_its_workers(stored: Path, client: Client) -> None:
    report = run("gram", stored).report
    assert (report.workers, report.threads) == (2, 1)
    assert 50e6 < report.peak_nbytes < 1e9


def test_a_cluster_is_left_as_it_was(stored: Path, client: Client) -> None:
    run("krylov", stored)
    before = left_on(client)
    run("gram", stored)
    assert left_on(client) == before
    assert before[0] == 0


def left_on(client: Client) -> tuple[int, list[str]]:
    """Tasks and plugins of the scheduler; it hears a moment later that futures were let go."""
    deadline = time.monotonic() + 300
    while True:
        tasks, plugins = client.run_on_scheduler(
            lambda dask_scheduler: (len(dask_scheduler.tasks), sorted(dask_scheduler.plugins))
        )
        if not tasks or time.monotonic() > deadline:
            return tasks, plugins
        time.sleep(0.05)


def test_errors_come_back_from_workers_as_they_are(
    stored: Path, client: Client, tmp_path: Path
) -> None:
    a = np.ones((100, 10))
    a[77, 3] = np.nan
    array = zarr.create_array(tmp_path / "x", shape=a.shape, dtype="f8", chunks=(10, 10))
    array[...] = a
    with pytest.raises(NonFiniteError, match="77"):
        lh.svd(tmp_path / "x", rank=2, memory="1 GB", out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
    # and the cluster still works
    assert run("norm", stored).value > 0


def test_what_workers_cannot_see_is_refused(client: Client) -> None:
    from zarr.storage import MemoryStore

    store = MemoryStore()
    zarr.create_array(store, shape=(20, 4), dtype="f8", chunks=(5, 4))[...] = 1
    with pytest.raises(WorkerError, match="memory"):
        lh.svd(store, rank=1, memory="1 GB")
    with pytest.raises(WorkerError, match="memory"):
        lh.svd(lh.open(store) + 1.0, rank=1, memory="1 GB")


def test_a_cluster_without_workers_is_refused(stored: Path) -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty,
        Client(empty),
        pytest.raises(WorkerError, match="no workers"),
    ):
        lh.svd(stored, rank=2)


def test_limits_of_workers_are_kept(stored: Path) -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
            memory_limit="400 MB",
        ) as small,  # fmt: skip
        Client(small),
    ):
        assert lh.plan("svd", stored, rank=2).explanation.memory_nbytes <= 400_000_000
        with pytest.raises(MemoryBudgetError, match="worker's limit"):
            lh.svd(stored, rank=2, memory="1 GB")


def test_a_device_that_a_worker_does_not_have_is_refused_before_anything_runs(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        monkeypatch.setenv("LEPTONHPC_DEVICE", "no_such_accelerator")
        with pytest.raises(OptionError, match="worker inproc://.*'no_such_accelerator'"):
            lh.svd(stored, rank=2, out=tmp_path / "r")
        assert list(tmp_path.iterdir()) == []


def test_importing_starts_and_imports_nothing_heavy() -> None:
    program = (
        "import sys, leptonhpc; "
        "print([m for m in ('dask', 'distributed', 'zarr', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.strip() == "[]"

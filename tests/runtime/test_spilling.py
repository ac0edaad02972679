"""Dask never writes what tasks gave to disk: a plan keeps to its memory by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from dask.sizeof import sizeof
from distributed import Client, LocalCluster
from distributed.protocol import deserialize, serialize

import leptonhpc as lh
from leptonhpc.runtime.adding import sum_accumulators
from leptonhpc.runtime.kept import Kept
from leptonhpc.runtime.memory import OF_LIMIT

LIMIT = 400_000_000
MANAGED, PROCESS = 0.6, 0.7
"""Dask spills when results on a worker, or its process, reach these parts of its limit."""


@pytest.fixture(scope="module")
def small() -> Iterator[Client]:
    """Give a worker that would spill: with Dask's own settings, and little memory."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, memory_limit=LIMIT, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
    ) as cluster, Client(cluster) as client:  # fmt: skip
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tall matrix as large as the limit, one whose sum is large beside its bands, and one
    whose sum and chunks are each a twelfth of the limit."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    shapes = {"tall": (500_000, 100, 5000), "wide": (4000, 1000, 500), "chunky": (8000, 2000, 2000)}
    for name, (rows, columns, height) in shapes.items():
        array = zarr.create_array(
            folder / name, shape=(rows, columns), dtype="f8", chunks=(height, columns)
        )
        assert array.nbytes >= LIMIT or name != "tall"
        for number in range(1 if name == "chunky" else 8):  # the others are zero: no disk
            part = slice(number * array.chunks[0], (number + 1) * array.chunks[0])
            array[part] = rng.standard_normal((array.chunks[0], columns))
    return folder


@pytest.mark.parametrize(
    ("name", "driver", "options"),
    [
        ("wide", "svd", {"rank": 4, "method": "gram"}),
        ("tall", "svd", {"rank": 4, "method": "krylov", "accuracy": 0.5}),
        ("tall", "qr", {}),
        ("chunky", "svd", {"rank": 5, "method": "gram"}),
    ],
    ids=["gram", "krylov", "qr", "chunks"],
)
def test_no_job_makes_a_worker_go_over_its_plan_spill_or_pause(
    name: str, driver: str, options: dict[str, Any], small: Client, folder: Path, tmp_path: Path
) -> None:
    """With all the memory that a job takes unasked."""
    ((_, before, _),) = small.run(_spilled).values()
    report = getattr(lh, driver)(folder / name, out=tmp_path / "r", **options).report
    assert (report.workers, report.memory_nbytes) == (1, int(OF_LIMIT * LIMIT))
    assert report.peak_nbytes <= report.predicted_peak_nbytes <= report.memory_nbytes
    ((fractions, written, paused),) = small.run(_spilled).values()
    assert fractions == (MANAGED, PROCESS), "the worker could spill if it had to"
    assert (written - before, paused) == (0, False)
    # Dask's profiler, which is on by default, keeps nothing of tasks: it would grow beside the plan
    assert "run_task" not in _functions(small.profile())


def _functions(profile: dict[str, Any]) -> set[str]:
    """Give the names of all functions in what Dask's profiler saw."""
    found: set[str] = set()
    for child in profile["children"].values():
        found |= {child["description"]["name"]} | _functions(child)
    return found


def _spilled(dask_worker: Any) -> tuple[tuple[float, float], float, bool]:
    """Say where a worker spills, how much it wrote to disk since it began, whether it paused."""
    manager, metrics = dask_worker.memory_manager, dask_worker.data.cumulative_metrics
    written = sum(value for key, value in metrics.items() if "disk-write" in key)
    paused = any("Pausing" in message for _, message in dask_worker.get_logs())
    fractions = manager.memory_target_fraction, manager.memory_spill_fraction
    return fractions, float(written), paused


def test_dask_does_not_count_what_a_lane_hands_on() -> None:
    """It would twice: for a moment two results have the same arrays."""
    part = {"gram": np.ones((400, 400)), "steps": frozenset({1})}
    total = sum_accumulators([part, {**part, "steps": frozenset({2})}])
    for kept in (Kept(part), total):
        assert sizeof(dict(kept)) >= 8 * 400**2
        assert sizeof(kept) < 8 * 400**2 / 100
    np.testing.assert_array_equal(total["gram"], 2.0)


@pytest.mark.parametrize("protocol", [4, 5])
def test_what_a_lane_hands_on_travels_without_a_copy(protocol: int) -> None:
    """Also to the scheduler, for which Dask pickles by a protocol that copies each array twice."""
    kept = Kept(gram=np.arange(1e6).reshape(1000, 1000), steps=frozenset({("gram", 3)}))
    header, frames = serialize(kept, context={"pickle-protocol": protocol})
    assert any(np.shares_memory(np.frombuffer(frame), kept["gram"]) for frame in frames[1:])
    there = deserialize(header, [frames[0], *map(bytearray, frames[1:])])
    assert type(there) is Kept
    np.testing.assert_array_equal(there["gram"], kept["gram"])
    assert there["gram"].flags.writeable
    assert there["steps"] == kept["steps"]

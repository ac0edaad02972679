"""Who did what of a stage on a cluster, and when the deaths of workers are a task's own fault."""

import numpy as np
import pytest

from leptonhpc.errors import WorkerError
from leptonhpc.planning import Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.runtime.adding import sum_afresh
from leptonhpc.runtime.monitor import Monitor
from leptonhpc.runtime.record import Record
from leptonhpc.testing.machines import stage_of


def told(task: str, address: str) -> dict[str, object]:
    return {"task": task, "address": address, "seconds": 0.5, "read_nbytes": 0, "ended": 1.0}


def monitor_of(stage: Stage) -> Monitor:
    plan = explain("svd", ["x"], [stage], Resources(10**9, 1, 1), method="", why="")
    monitor = Monitor(plan)
    monitor.begin(stage, 0)
    return monitor


def test_tasks_off_their_owner_are_counted_and_progress_counts_each_once() -> None:
    seen: list[int] = []
    stage = stage_of(1.0, 1.0)
    monitor = monitor_of(stage)
    monitor.on_task = lambda: seen.append(1)
    record = Record(stage, monitor)
    record.sent("t0", "a")
    record.sent("t1", "b")
    for task, address in (("t0", "a"), ("t1", "a"), ("t1", "b")):
        record.hear(told(task, address))
    assert len(seen) == 2
    assert record.is_complete()
    assert record._off_owner == 1


def test_a_task_at_which_workers_die_again_and_again_ends_the_job() -> None:
    record = Record(stage_of(1.0), monitor_of(stage_of(1.0)))
    for _ in range(3):
        record.died("t0")
    with pytest.raises(WorkerError, match="4 workers died while they did task t0"):
        record.died("t0")


def test_a_sum_leaves_its_parts_as_they_are_for_another_try() -> None:
    parts = [
        {"gram": np.ones(3), "steps": frozenset({1})},
        {"gram": np.ones(3), "steps": frozenset({2}), "late": np.ones(2)},
        {"gram": np.ones(3), "steps": frozenset({3}), "late": np.ones(2)},
    ]
    for _ in range(2):  # a worker was lost, and it is summed again
        total = sum_afresh(parts)
        assert np.array_equal(total["gram"], np.full(3, 3.0))
        assert np.array_equal(total["late"], np.full(2, 2.0))
        assert total["steps"] == {1, 2, 3}
    assert all(np.array_equal(part["gram"], np.ones(3)) for part in parts)

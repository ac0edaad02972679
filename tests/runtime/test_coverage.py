"""An accumulator that took a band twice, or missed one, is an error and not a result."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import CoverageError
from leptonhpc.planning import Stage, Step, Task
from leptonhpc.runtime import run_job
from leptonhpc.runtime.adding import sum_accumulators
from leptonhpc.runtime.execute import Context, run_task


@dataclass(frozen=True)
class Listed:
    """Steps as a list that a test has changed."""

    steps: tuple[Step, ...]
    operands: tuple[str, ...]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def without_last(task: Task) -> Task:
    return replace(task, steps=Listed(tuple(task.steps)[:-1], task.steps.operands))


class Tampered:
    """A job whose stages are changed before they run."""

    def __init__(self, job: Any, change: Any) -> None:
        self._job, self._change = job, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def run(self, execute: Any) -> Any:
        return self._job.run(lambda stage, small: execute(self._change(stage), small))


def job_of(stored: Path, driver: str) -> Any:
    x = lh.open(stored)
    arrays = (x.H, x) if driver == "matmul" else (x,)
    options = {"rank": 3, "method": "gram"} if driver == "svd" else {}
    return lh.plan(driver, *arrays, memory="1 GB", **options).job


def with_step_twice(stage: Stage) -> Stage:
    """Let the last lane fold the first lane's first step once more."""
    first, *_, last = stage.tasks
    steps = Listed((*last.steps, next(iter(first.steps))), last.steps.operands)
    return replace(stage, tasks=(*stage.tasks[:-1], replace(last, steps=steps)))


@pytest.mark.parametrize("driver", ["svd", "norm"])
def test_a_band_that_two_lanes_fold_is_caught(driver: str, stored: Path) -> None:
    with pytest.raises(CoverageError, match="twice"):
        run_job(Tampered(job_of(stored, driver), with_step_twice))


@pytest.mark.parametrize("driver", ["svd", "norm", "matmul"])
def test_a_band_that_no_lane_folds_is_caught(
    driver: str, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leptonhpc.runtime import compile as compiling

    def lazy(task: Task, *rest: Any) -> Any:
        return run_task(without_last(task), *rest)

    monkeypatch.setattr(compiling, "run_task", lazy)
    with pytest.raises(CoverageError, match=r"folded \d+ of \d+ steps"):
        run_job(job_of(stored, driver))


def test_a_band_that_is_left_out_after_a_resume_is_caught(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal with marks must not switch the check off for the tasks that do run."""
    from leptonhpc.runtime import compile as compiling
    from leptonhpc.store import Journal

    x = lh.open(stored)
    b = lh.open(np.ones((120, 3000)))
    plan = lh.plan("matmul", x, b, memory="230 MB")
    assert len(plan.job.stage.tasks) >= 2
    killed = _Killed(monkeypatch, Journal)
    with pytest.raises(KeyError):
        plan.run(out=tmp_path / "r")
    killed.undo()

    def lazy(task: Task, *rest: Any) -> Any:
        return run_task(without_last(task), *rest)

    monkeypatch.setattr(compiling, "run_task", lazy)
    with pytest.raises(CoverageError):
        plan.run(out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


class _Killed:
    """Stops a job after its first mark."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, journal: Any) -> None:
        self._patch, self._mark, self._journal = monkeypatch, journal.mark, journal

        def mark(this: Any, task: str, result: Any) -> None:
            self._mark(this, task, result)
            raise KeyError("stopped")

        monkeypatch.setattr(journal, "mark", mark)

    def undo(self) -> None:
        self._patch.setattr(self._journal, "mark", self._mark)


def test_a_task_that_is_run_again_over_its_own_accumulator_adds_nothing(stored: Path) -> None:
    job = job_of(stored, "norm")
    stages: list[Any] = []

    def collect(stage: Stage, small: Any) -> Any:
        stages.append((stage, small))
        raise StopIteration

    with pytest.raises(StopIteration):
        job.run(collect)
    stage, small = stages[0]
    context = Context(
        "once", stage.name, dict(job.sources), frozenset(job.sources), None, None, 1,
        chained=True, prefetch=None,
    )  # fmt: skip
    once = run_task(stage.tasks[0], context, small, None)
    square = {k: np.copy(v) for k, v in once.items() if k not in ("steps",)}
    again = run_task(stage.tasks[0], context, small, once)
    assert all(np.array_equal(again[k], v) for k, v in square.items())
    with pytest.raises(CoverageError, match="changed already"):
        run_task(stage.tasks[0], context, small, once)


def test_summing_lanes_keeps_every_step(stored: Path) -> None:
    parts = [{"square": float(i), "steps": frozenset({i}), "max_error": i / 10} for i in range(5)]
    total = sum_accumulators(parts)
    assert total == {"square": 10.0, "steps": frozenset(range(5)), "max_error": 0.4}

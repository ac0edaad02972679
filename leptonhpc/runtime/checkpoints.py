"""Long passes are run in parts, and what they summed up to then is kept after each part.

A pass over an array may take hours and leaves nothing but its sum. The parts are the same whenever
the stage is run, so that a job that was stopped gives the numbers of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from leptonhpc.kernels import Accumulator
from leptonhpc.planning import Stage, Task
from leptonhpc.store import Journal

EVERY_SECONDS = 60.0
"""As predicted; a part costs a wait for its slowest lane."""
_CHEAP_NBYTES = 1 << 26
"""A sum of so much is written in well under a second; a larger one as much less often."""

Part = tuple[Mapping[str, Any], list[str]]
"""What a journal kept of a stage: a sum, and the keys of its tasks."""
Run = Callable[[Stage, Accumulator | None], Accumulator]
"""Runs tasks that go on with a sum."""


def has_parts(stage: Stage) -> bool:
    """Say whether a stage is long, and each of its tasks may go on with any sum."""
    free = stage.chained and not any(task.at or task.needs for task in stage.tasks)
    return free and stage.seconds > EVERY_SECONDS and len(stage.tasks) > stage.lanes


def run_in_parts(stage: Stage, journal: Journal, kept: Part | None, run: Run) -> Accumulator:
    """Run a stage, part after part.

    Parameters
    ----------
    stage : Stage
        One for which `has_parts`.
    journal : Journal
        Keeps the sum after each part but the last.
    kept : Part, optional
        What it kept of this stage.
    run : callable
        Runs a part.

    Returns
    -------
    dict
        The accumulator; steps, bytes and units are those of this run.
    """
    total: Accumulator | None = None
    done: list[str] = []
    if kept is not None:
        total = {**kept[0], "steps": frozenset(), "read_nbytes": 0, "units": 0}
        done = list(kept[1])
    rounds, count = _rounds(stage), _rounds_of_part(stage, {})
    while rounds:
        tasks = [task for row in rounds[:count] for task in row if task.key not in done]
        rounds = rounds[count:]
        if tasks:
            total = run(_part(stage, tasks), total)
        assert total is not None
        count = _rounds_of_part(stage, total)  # the first part tells how large the sum is
        if not tasks:
            continue
        done += [task.key for task in tasks]
        if rounds:
            journal.save_part(stage.name, what_is_kept(total), done)
    assert total is not None
    return total


def what_is_kept(total: Accumulator) -> dict[str, Any]:
    """Give the arrays and numbers of a sum, without what counts what this run did."""
    return {k: v for k, v in total.items() if k not in ("steps", "read_nbytes", "units")}


def _rounds(stage: Stage) -> list[list[Task]]:
    """Give the first tasks of all lanes, then the second ones, and so on."""
    lanes: dict[int, list[Task]] = {}
    for task in stage.tasks:
        lanes.setdefault(task.lane, []).append(task)
    longest = max(map(len, lanes.values()))
    return [[tasks[i] for tasks in lanes.values() if i < len(tasks)] for i in range(longest)]


def _rounds_of_part(stage: Stage, total: Accumulator) -> int:
    """Say how many rounds are worth a checkpoint of what is summed up."""
    seconds = stage.seconds * stage.lanes / len(stage.tasks)
    nbytes = sum(value.nbytes for value in total.values() if isinstance(value, np.ndarray))
    every = EVERY_SECONDS * max(1.0, nbytes / _CHEAP_NBYTES)
    return max(1, round(every / max(seconds, 1e-9)))


def _part(stage: Stage, tasks: list[Task]) -> Stage:
    share = len(tasks) / len(stage.tasks)
    return replace(stage, tasks=tuple(tasks), seconds=stage.seconds * share)

"""From a stage to a Dask graph that runs on threads of this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask.task_spec import DataNode, List, Task, TaskRef

from leptonhpc.kernels import Accumulator
from leptonhpc.planning import Stage
from leptonhpc.runtime.adding import sum_accumulators
from leptonhpc.runtime.execute import run_task
from leptonhpc.runtime.reading import Context

_FAN_IN = 8


def compile_stage(
    stage: Stage,
    context: Context,
    small: Mapping[str, Any],
    *,
    done: Mapping[str, Mapping[str, Any]],
    total: Accumulator | None = None,
) -> tuple[dict[str, Any], str]:
    """Give the graph of a stage and the key of its summed accumulator.

    Parameters
    ----------
    stage : Stage
        The stage.
    context : Context
        What its tasks share.
    small : mapping
        Its small arrays.
    done : mapping
        Accumulators of tasks that an earlier run finished; they are not run again.
    total : dict, optional
        What the first lane goes on with, and changes.

    Returns
    -------
    tuple of (dict, str)
        Graph and key.
    """
    prefix = f"{context.job}-{stage.name}".replace(" ", "-")
    shared, arrays = f"context-{prefix}", f"small-{prefix}"
    graph: dict[str, Any] = {
        shared: DataNode(shared, context),
        arrays: DataNode(arrays, dict(small)),
    }
    begun: Any = None
    if total is not None:
        begun = TaskRef(f"total-{prefix}")
        graph[begun.key] = DataNode(begun.key, total)
    results: dict[str, str] = {}
    last: dict[int, str] = {}
    for task in stage.tasks:
        # the prefix before the last dash names the kernel on Dask's dashboard
        key = f"{task.kernel}-{prefix}-{task.key}"
        results[task.key] = key
        if f"{stage.name}/{task.part_of}" in done:
            del results[task.key]
            continue
        if f"{stage.name}/{task.key}" in done:
            numbers = {**done[f"{stage.name}/{task.key}"], "steps": frozenset()}
            numbers |= {"read_nbytes": 0, "units": 0}  # this run reads nothing for it
            graph[key] = DataNode(key, numbers)
            continue
        before = begun
        if task.after in results:
            before = TaskRef(results[task.after])
        else:
            begun = None  # it is the first lane's
        needed = List(*(TaskRef(results[name]) for name in task.needs))
        call = (run_task, DataNode(None, task), TaskRef(shared), TaskRef(arrays), before, needed)
        graph[key] = Task(key, *call)
        last[task.lane] = key
    ended = [results[task.key] for task in stage.tasks if task.key in results and not task.part_of]
    ends = list(last.values()) if stage.chained else ended
    return _sum_tree(graph, ends, f"sum-{prefix}")


def _sum_tree(graph: dict[str, Any], keys: list[str], name: str) -> tuple[dict[str, Any], str]:
    level = 0
    while len(keys) > 1 or level == 0:
        groups = [keys[i : i + _FAN_IN] for i in range(0, len(keys), _FAN_IN)]
        keys = []
        for number, group in enumerate(groups):
            key = f"{name}-{level}-{number}"
            graph[key] = Task(key, sum_accumulators, List(*map(TaskRef, group)))
            keys.append(key)
        level += 1
    return graph, keys[0]

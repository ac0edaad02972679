"""Tasks that know their owner, and the scheduler plugin that obeys.

Annotations do not survive Dask's optimisation and restrictions by name break when a worker comes
back; an attribute of the task does survive, and the plugin sets the restriction before any
transition. When an owner dies its tasks may run anywhere.
"""

from __future__ import annotations

from typing import Any

from dask.task_spec import Task
from distributed.diagnostics.plugin import SchedulerPlugin


class PlacedTask(Task):
    """A task that belongs to one worker.

    Parameters
    ----------
    key, func, *args, **kwargs : see dask.task_spec.Task
        The call.
    owner : str
        Address of the worker.
    """

    __slots__ = ("owner",)

    def __init__(self, key: Any, func: Any, /, *args: Any, owner: str, **kwargs: Any) -> None:
        self.owner = owner
        super().__init__(key, func, *args, **kwargs)


class Placer(SchedulerPlugin):
    """Restricts placed tasks to their owner while it lives."""

    name = "leptonhpc-placer"
    idempotent = True

    def update_graph(self, scheduler: Any, *, tasks: Any, **_: Any) -> None:
        """Restrict new tasks to their owners."""
        for key in tasks:
            state = scheduler.tasks.get(key)
            spec = None if state is None else state.run_spec
            if isinstance(spec, PlacedTask) and spec.owner in scheduler.workers:
                state.worker_restrictions = {spec.owner}

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Free the tasks of a worker that is gone."""
        for state in list(scheduler.tasks.values()):
            if state.worker_restrictions and worker in state.worker_restrictions:
                state.worker_restrictions = None
                if state.state == "no-worker":
                    scheduler.transitions({state.key: "processing"}, f"owner-{worker}-left")

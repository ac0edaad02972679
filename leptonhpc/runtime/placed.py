"""Tasks that know their owner, and the scheduler plugin that obeys.

Annotations do not survive Dask's optimisation and restrictions by name break when a worker comes
back; an attribute of the task does survive, and the plugin sets the restriction before any
transition. A task whose owner is gone runs nowhere: the client that sent it, which knows what else
was on that worker, deals it anew. Were it free to run, it would take the memory of another lane.
"""

from __future__ import annotations

from typing import Any

from dask.task_spec import Task
from distributed.diagnostics.plugin import SchedulerPlugin

_NOBODY = "leptonhpc-nobody"
"""No worker's address."""


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

    def _get_token(self) -> str:
        """Keys are unique: Dask need not look into what a task has."""
        return str(self.key)


class Placer(SchedulerPlugin):
    """Restricts placed tasks to their owner."""

    name = "leptonhpc-placer"
    idempotent = True

    def update_graph(self, scheduler: Any, *, tasks: Any, **_: Any) -> None:
        """Restrict new tasks to their owners."""
        for key in tasks:
            state = scheduler.tasks.get(key)
            spec = None if state is None else state.run_spec
            if isinstance(spec, PlacedTask):
                state.worker_restrictions = {spec.owner}

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Keep what a worker had from another process that may come to have its address."""
        for state in scheduler.tasks.values():
            spec = state.run_spec
            if isinstance(spec, PlacedTask) and spec.owner == worker:
                state.worker_restrictions = {_NOBODY}


async def remove_silent(dask_scheduler: Any, addresses: list[str]) -> None:
    """Give up workers that say nothing more: a stopped process holds its tasks for ever.

    Parameters
    ----------
    dask_scheduler : distributed.Scheduler
        Given by `Client.run_on_scheduler`.
    addresses : list of str
        The workers.
    """
    for address in addresses:
        await dask_scheduler.remove_worker(
            address, stimulus_id=f"leptonhpc-silent-{address}", expected=False, close=True
        )

"""For what an unfinished job was laid out: it goes on so, whatever is here when it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from leptonhpc import store
from leptonhpc.errors import StoreError
from leptonhpc.planning import Rates, Resources
from leptonhpc.store.locations import Location
from leptonhpc.store.retrying import may_pass

_RESOURCES = "resources"
_NOT_THERE = (FileNotFoundError, NotADirectoryError)


class Begun(int):
    """The bytes of a worker's budget, for a job that was begun before."""

    resources: Resources
    """With what it was planned."""

    def __new__(cls, memory_nbytes: int, resources: Resources) -> Begun:  # noqa: D102
        it = super().__new__(cls, memory_nbytes)
        it.resources = resources
        return it

    def laid_out(self, now: Resources) -> Resources:
        """Give what the job is planned with, so that its blocks and lanes are those that it had.

        Parameters
        ----------
        now : Resources
            What is here, within this budget.

        Returns
        -------
        Resources
            Workers, cores and speeds as they were. Where threads went on with what a cluster
            began, or the reverse, the budget would mean another thing: then those of now.
        """
        if now.distributed != self.resources.distributed:
            return now
        return replace(
            self.resources, memory_nbytes=now.memory_nbytes, precision=now.precision,
            tf32_workers=now.tf32_workers,
        )  # fmt: skip


def attributes_of(resources: Resources) -> dict[str, Any]:
    """Give what an unfinished output remembers of its plan, as JSON can hold it."""
    return {_RESOURCES: asdict(resources)}


def resources_at(partial: Location) -> Resources | None:
    """Give with what an unfinished output was planned; None if there is none.

    Parameters
    ----------
    partial : str or path
        Where it is.

    Returns
    -------
    Resources or None
        As they were.

    Raises
    ------
    StoreError
        If the store fails: what is there is not known then, and nothing of it is removed.
    """
    if not store.exists(partial):
        return None
    try:
        kept: Mapping[str, Any] = store.read_attributes(partial)[_RESOURCES]
        rates = Rates(**kept["rates"])
        return Resources(**{**kept, "rates": rates, "speeds": tuple(kept["speeds"])})
    except (StoreError, AttributeError, KeyError, TypeError) as error:
        cause = error.__cause__
        there = isinstance(cause, OSError) and not isinstance(cause, _NOT_THERE)
        if there or may_pass(error):
            raise
        return None

"""What a call of several passes or drivers keeps, so that the same call goes on after a stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import leptonhpc
from leptonhpc import store
from leptonhpc.api.destinations import attributes_at
from leptonhpc.errors import (
    DTypeError,
    LinAlgError,
    MemoryBudgetError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from leptonhpc.store.making import MARK
from leptonhpc.store.standing import Standing

REFUSED = (DTypeError, LinAlgError, NonFiniteError, ShapeError)
"""What the numbers do not allow, however often it is tried."""


class KeptParts:
    """A group of outputs of drivers, bound to the call that they are of.

    Parameters
    ----------
    place : str or None
        The group, made if it is not there; None: nothing is kept.
    inputs : mapping
        What is read, as JSON can hold it.
    question : mapping
        What is asked of it.
    overwrite : bool
        Forget what is there.

    Raises
    ------
    JobMismatchError
        If what is there was left by another call.
    """

    def __init__(
        self, place: str | None, inputs: Mapping[str, Any], question: Mapping[str, Any], *,
        overwrite: bool,
    ) -> None:  # fmt: skip
        self._place = place
        self.is_empty = place is not None and (overwrite or not store.exists(place))
        """Whether nothing that was kept is finished."""
        self._journal: store.Journal | None = None
        self._standing, self._saved, self._outputs = Standing(None), 0, 0
        if place is None:
            return
        if overwrite or MARK not in attributes_at(place):
            store.remove(place)
            store.create_group(place, attributes={MARK: True})
        job = {
            "inputs": dict(inputs), "parameters": dict(question), "version": leptonhpc.__version__,
        }  # fmt: skip
        self._journal = store.Journal(place, job)
        self._journal.begin()
        self._standing = Standing(self._journal)

    def at(self, name: str) -> str | None:
        """Give the place of one output, or None where nothing is kept.

        Parameters
        ----------
        name : str
            Of the output.

        Returns
        -------
        str or None
            What a driver takes as ``out=``.
        """
        self._outputs += 1
        self.is_empty &= self._outputs == 1  # who asks for a second one has the first
        return None if self._place is None else str(store.join(self._place, name))

    def load(self, name: str) -> dict[str, Any] | None:
        """Give small arrays that an earlier call kept.

        Parameters
        ----------
        name : str
            Of them.

        Returns
        -------
        dict of str to array, or None
            As they were saved.
        """
        return None if self._journal is None else self._journal.load_stage(name)

    def save(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Keep small arrays, in place of those of that name.

        Parameters
        ----------
        name : str
            Of them.
        arrays : mapping of str to array
            In memory.
        """
        if self._journal is not None:
            self._journal.save_stage(name, arrays)
            self._saved, self.is_empty = self._saved + 1, False
            self._standing.tell(lambda: {"stage": name, "tasks": 0, "done": self._saved})

    @contextmanager
    def working(self) -> Iterator[None]:
        """Say to whoever asks that this process works here; keep nothing of what is refused."""
        self._standing.tell(lambda: {"stage": None, "tasks": 0, "done": 0}, now=True)
        try:
            yield
        except (*REFUSED, MemoryBudgetError, OptionError) as error:
            # with another budget the call goes on with what is finished
            if self._place is not None and (self.is_empty or isinstance(error, REFUSED)):
                self._standing = Standing(None)
                store.remove(self._place)
            raise
        finally:
            self._standing.end()

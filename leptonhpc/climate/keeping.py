"""What a call keeps so that the same call goes on after a stop; nothing, if it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leptonhpc import store
from leptonhpc.api.kept import KeptParts
from leptonhpc.errors import (
    DTypeError,
    LinAlgError,
    MemoryBudgetError,
    NonFiniteError,
    OptionError,
    ShapeError,
)

_REFUSED = (DTypeError, LinAlgError, NonFiniteError, ShapeError)
"""What the numbers of the field do not allow, however often it is tried."""


class KeptFields(KeptParts):
    """What is found of fields, while the call works on them.

    Parameters
    ----------
    place, inputs, question, overwrite : as for `KeptParts`
        The call.

    Raises
    ------
    JobMismatchError
        If what is there was left by another call.
    """

    def __init__(
        self, place: str | None, inputs: Mapping[str, Any], question: Mapping[str, Any], *,
        overwrite: bool,
    ) -> None:  # fmt: skip
        self._begun_here = place is not None and (overwrite or not store.exists(place))
        self._outputs = 0
        super().__init__(place, inputs, question, overwrite=overwrite)

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
        return super().at(name)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Say to whoever asks that this process works here; keep nothing of what is refused."""
        try:
            with super().working():
                yield
        except _REFUSED:
            self._forget()
            raise
        except (MemoryBudgetError, OptionError):
            # with another budget the call goes on with what is finished
            if self._begun_here and self._saved == 0 and self._outputs < 2:
                self._forget()
            raise

    def _forget(self) -> None:
        if self._place is not None:
            store.remove(self._place)

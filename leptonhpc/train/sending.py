"""Exceptions of the user's functions: given back as what they are, also by a worker."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cloudpickle

from leptonhpc.errors import WorkerError


class AsRaised:
    """Lets a StopIteration that came out of a generator be what it was.

    Python makes a RuntimeError of it there [1]_, also where a user's array raised it.

    References
    ----------
    .. [1] PEP 479, Change StopIteration handling inside generators.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
            raise error.__cause__ from None


@dataclass(frozen=True, slots=True)
class Sendable:
    """Calls what a worker does; what it raises can be sent, and does not end the worker."""

    main: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        """Call it.

        Parameters
        ----------
        *arguments : object
            Its arguments.

        Returns
        -------
        object
            What it gave.

        Raises
        ------
        WorkerError
            In place of what would end the process, or cannot be pickled; with its text.
        BaseException
            All else that it raised, as it is.
        """
        try:
            return self.main(*arguments)
        except SystemExit:
            raise  # who calls this knows of it
        except BaseException as error:
            if _is_sendable(error):
                raise
            said = "".join(traceback.format_exception(error)).rstrip()
        # out here: an error is sent with what it was raised for
        raise WorkerError(f"training raised on a worker what cannot be sent as it is:\n{said}")


def _is_sendable(error: BaseException) -> bool:
    if isinstance(error, KeyboardInterrupt):  # it ends workers
        return False
    from tblib import pickling_support  # type: ignore[import-untyped]

    pickling_support.install(*_with_causes(error))  # as distributed sends it
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:  # what is not pickled says so in many ways
        return False
    return True


def _with_causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__) is not None and cause not in found:
        found.append(cause)
    return found

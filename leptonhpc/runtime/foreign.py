"""Errors of a device's library, in words: who gets them may not have that library.

An exception travels with all that it came of. A client that cannot unpickle one of these gets
another error, which says nothing of what happened.
"""

from __future__ import annotations

import sys

from leptonhpc.errors import MemoryBudgetError, WorkerError

_EVERYWHERE = frozenset({"leptonhpc", "numpy", "numcodecs", "zarr", "dask", "distributed"})
"""Libraries that every client and worker has, beside Python's own."""


def in_words(error: Exception, device: str, what: str) -> Exception:
    """Give what to raise, outside of the handler, for an error of work on a device.

    Parameters
    ----------
    error : Exception
        What was raised.
    device : str
        The kind of device.
    what : str
        What it was doing.

    Returns
    -------
    Exception
        The error itself where everybody has its class, without what it came of where not; else a
        `MemoryBudgetError` or a `WorkerError` that names device, worker and work.
    """
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        said: Exception = MemoryBudgetError(
            f"{what}: the device ({device}) of {_where()} has no memory left: {error}. "
            "Others may use it; a smaller memory= needs less"
        )
    elif _is_foreign(error) or type(error) is RuntimeError:
        said = WorkerError(
            f"{what} failed on the device ({device}) of {_where()}: {_text(error)}. If the device "
            "is lost, end that worker; with out= the same call then goes on where it was"
        )
    else:
        said = error
        if any(_is_foreign(each) for each in _behind(error)):
            said.__cause__ = said.__context__ = None
    return said.with_traceback(error.__traceback__)


def _is_foreign(error: BaseException) -> bool:
    library = type(error).__module__.partition(".")[0]
    return library not in sys.stdlib_module_names and library not in _EVERYWHERE


def _behind(error: BaseException) -> list[BaseException]:
    """Give all that an error came of."""
    found, look = list[BaseException](), [error]
    while look:
        each = look.pop()
        behind = [e for e in (each.__cause__, each.__context__) if e is not None]
        look += [e for e in behind if e not in found]
        found += behind
    return found


def _text(error: Exception) -> str:
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}: {error}".removeprefix("builtins.")


def _where() -> str:
    distributed = sys.modules.get("distributed")
    try:
        return f"worker {distributed.get_worker().address}" if distributed else "this process"
    except ValueError:  # no task of Dask's
        return "this process"

"""What is not installed with leptonhpc itself: asked for in time, and counted as memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import connected_client

Nbytes = int | float | str | None

TABLES_NBYTES = 130_000_000
"""xarray and what it brings (pandas, Dask's arrays, Numba where it is installed), beside the
libraries that the engine counts: up to 120 MB measured."""


def require_xarray() -> None:
    """Refuse to begin what could not be given back.

    Raises
    ------
    OptionError
        If xarray is not installed.
    """
    try:
        import xarray  # noqa: F401
    except ImportError as error:
        message = "results are xarray datasets; it is missing: pip install 'leptonhpc[genomics]'"
        raise OptionError(message) from error


@contextmanager
def beside_tables(memory: Nbytes) -> Iterator[int | None]:
    """Give what a budget leaves to a driver of `leptonhpc` in a process that has xarray loaded.

    Parameters
    ----------
    memory : int, float, str or None
        Budget of each worker.

    Yields
    ------
    int or None
        The rest; on a cluster the whole, as its workers do without xarray.

    Raises
    ------
    MemoryBudgetError
        If the driver needs more; the message says what is taken before it.
    """
    budget = parse_nbytes(memory)
    if budget is None or connected_client() is not None:
        yield budget
        return
    try:
        yield max(1, budget - TABLES_NBYTES)
    except MemoryBudgetError as error:
        taken = f"{TABLES_NBYTES // 10**6} MB"
        message = f"{error}. Give {taken} more than that: xarray takes them of memory={memory!r}"
        raise MemoryBudgetError(message) from error

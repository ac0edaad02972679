"""What a budget leaves beside xarray, and beside what is held of fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from leptonhpc.errors import MemoryBudgetError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import connected_client

if TYPE_CHECKING:
    from leptonhpc.climate.gappy import Fit
    from leptonhpc.climate.prepared import Prepared

XARRAY_NBYTES = 240_000_000
"""xarray and what it brings (pandas and pyarrow, Dask's arrays and distributed, readers of files),
beside the libraries that the engine counts: 240 MB measured where all of them are installed."""


@contextmanager
def room(memory: Any, prepared: Sequence[Prepared | Fit] = ()) -> Iterator[int | None]:
    """Give what a budget leaves to a driver of `leptonhpc` in a process that has xarray loaded.

    Parameters
    ----------
    memory : int, float, str or None
        Budget of each worker.
    prepared : sequence of Prepared or Fit
        Fields of which something is held in memory.

    Yields
    ------
    int or None
        The rest; on a cluster xarray is not counted, as its workers do without most of it.

    Raises
    ------
    MemoryBudgetError
        If the driver needs more; the message says what is taken before it.
    """
    budget = parse_nbytes(memory)
    if budget is None:
        yield None
        return
    held = sum(one.held_nbytes for one in prepared)
    taken = held + (XARRAY_NBYTES if connected_client() is None else 0)
    try:
        yield budget - taken
    except MemoryBudgetError as error:
        what = "xarray, and what is held of each cell," if held else "xarray"
        message = f"{error}. Give {-(-taken // 10**6)} MB more than that: {what}"
        if not taken:
            raise
        raise MemoryBudgetError(f"{message} takes them of memory={memory!r}") from error

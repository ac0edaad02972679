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
def room(
    memory: Any, prepared: Sequence[Prepared | Fit] = (), *, here_nbytes: int = 0
) -> Iterator[int | None]:
    """Give what a budget leaves to a driver of `leptonhpc` in a process that has xarray loaded.

    Parameters
    ----------
    memory : int, float, str or None
        Budget of each worker.
    prepared : sequence of Prepared or Fit
        Fields of which something is held in memory.
    here_nbytes : int
        What this process holds beside the driver, or computes with its result: EOFs found before,
        and matrices as small as there are EOFs.

    Yields
    ------
    int or None
        The rest; on a cluster xarray is not counted, as its workers do without most of it, nor
        what this process holds, which is none of them.

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
    each = {"what is held of each cell": held}
    if connected_client() is None:
        each |= {
            "xarray": XARRAY_NBYTES,
            "what is made of EOFs (a smaller eofs= takes less)": here_nbytes,
        }
    taken = sum(each.values())
    try:
        yield max(1, budget - taken)
    except MemoryBudgetError as error:
        if not taken:
            raise
        what = ", ".join(f"{-(-n // 10**6)} MB for {name}" for name, n in each.items() if n)
        message = f"{error}. Beside it memory={memory!r} has to hold {what}"
        more = -(-taken // 10**6)
        raise MemoryBudgetError(f"{message}: give {more} MB more than that") from error

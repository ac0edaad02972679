"""Threads of a lane for what BLAS does not do well by its own: moving numbers, and large products.

A product by BLAS is one piece for each of its threads, and who is done spins until the last one is.
Readers that decode on the same cores take them from one thread at a time: of a product of order
8192 an eighth of the processor time was spent spinning. In more pieces than threads nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST_NBYTES = 1 << 23
"""Less is moved before threads have started."""

_PIECES = 4
"""Of a product, for each thread."""
_LEAST_FLOPS = 1 << 28
"""A smaller product is one piece: it takes some milliseconds."""
_LEAST_WIDTH = 256
"""Of a piece: BLAS packs both factors anew for each."""

_allowed = 1
_cuts = False


def allow(threads: int, *, cut_products: bool = False) -> None:
    """Let kernels of this process use so many threads each.

    Parameters
    ----------
    threads : int
        Cores of a lane.
    cut_products : bool
        Large products are cut for them, because BLAS has one thread.
    """
    global _allowed, _cuts  # noqa: PLW0603  (as the pools of BLAS, they belong to the process)
    _allowed, _cuts = threads, cut_products


def pieces_of(width: int, flops: float) -> list[slice]:
    """Give the pieces in which a product is made.

    Parameters
    ----------
    width : int
        Rows or columns of what is cut.
    flops : float
        Of the product.

    Returns
    -------
    list of slice
        One, or several for each thread.
    """
    pieces = min(_PIECES * _allowed, width // _LEAST_WIDTH)
    if not _cuts or _allowed == 1 or flops < _LEAST_FLOPS or pieces < 2:
        return [slice(0, width)]
    edges = np.linspace(0, width, pieces + 1).astype(int).tolist()
    return [slice(*pair) for pair in zip(edges, edges[1:], strict=False)]


def do_all(calls: Sequence[Callable[[], None]]) -> None:
    """Make calls that release the GIL, on as many threads as a lane has."""
    with ThreadPoolExecutor(_allowed) as pool:
        for done in [pool.submit(call) for call in calls]:
            done.result()


def over_parts(
    function: Callable[[NDArray[Any]], None], a: NDArray[Any], *, axis: int, moved_nbytes: int
) -> None:
    """Run a function that changes its argument on parts of a matrix.

    Parameters
    ----------
    function : callable
        Releases the GIL where it moves numbers.
    a : array of shape (m, n)
        Overwritten.
    axis : {0, 1}
        Parts are rows or columns.
    moved_nbytes : int
        How much is moved: threads are used where that is a lot.
    """
    if _allowed == 1 or moved_nbytes < _LEAST_NBYTES:
        function(a)
        return
    edges = np.linspace(0, a.shape[axis], _allowed + 1).astype(int).tolist()
    spans = [slice(*pair) for pair in zip(edges, edges[1:], strict=False)]
    parts = [a[span] if axis == 0 else a[:, span] for span in spans]
    with ThreadPoolExecutor(_allowed) as pool:
        for done in pool.map(function, parts):
            assert done is None


def clear(a: NDArray[Any]) -> None:
    """Write zeros; memory that is touched for the first time comes much faster to several threads.

    Parameters
    ----------
    a : array of shape (m, n)
        Overwritten.
    """

    def zero(part: NDArray[Any]) -> None:
        part[...] = 0

    over_parts(zero, a, axis=0, moved_nbytes=a.nbytes)

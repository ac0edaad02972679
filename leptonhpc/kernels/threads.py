"""Threads of a lane for what BLAS does not do in parallel: moving numbers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST_NBYTES = 1 << 23
"""Less is moved before threads have started."""

_allowed = 1


def allow(threads: int) -> None:
    """Let kernels of this process use so many threads each.

    Parameters
    ----------
    threads : int
        Cores of a lane.
    """
    global _allowed  # noqa: PLW0603  (as the pools of BLAS, it belongs to the process)
    _allowed = threads


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

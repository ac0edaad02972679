"""How many threads BLAS takes while lanes run, and what it took before.

NumPy and SciPy each bring a BLAS with a pool of its own, whose threads spin for a while after each
call. Kernels call SciPy's: it gets the lane's cores. If NumPy's had as many, its spinning threads
would take those cores from the next product: 8192^2 took 21 s instead of 13.7 s on two cores.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from leptonhpc.kernels import threads as lane_threads

_SMALL_NBYTES = 2 << 20
"""Of arrays that one core does as soon as several: 512 x 512."""
_lock = threading.Lock()
_before: list[tuple[Any, int]] = []
_set_to: tuple[int, bool] | None = None
_found: tuple[int, list[Any]] = (0, [])
"""How many modules were imported when BLAS was looked for, and what was found."""


def limit(threads: int, *, cut_products: bool = False) -> None:
    """Give kernels so many threads, by their BLAS, and every other one; undone by `restore`.

    Parameters
    ----------
    threads : int
        Of a lane.
    cut_products : bool
        Not by BLAS, but by cutting products.
    """
    global _set_to  # noqa: PLW0603  (the pools belong to the process too)
    wanted = (threads, cut_products and threads > 1)
    if _set_to == wanted:
        return
    with _lock:
        if _set_to == wanted:
            return
        libraries = _libraries()
        own = [lib for lib in libraries if "scipy.libs" in lib.filepath] or libraries
        if not _before:
            _before.extend((lib, lib.num_threads) for lib in libraries)
        for lib in libraries:
            _set(lib, threads if lib in own and not wanted[1] else 1)
        lane_threads.allow(threads, cut_products=wanted[1])
        _set_to = wanted


def _libraries() -> list[Any]:
    """Give every BLAS; looked for (up to 10 ms) if modules came since, which bring libraries."""
    global _found  # noqa: PLW0603
    import scipy.linalg.cython_blas  # noqa: F401  (its BLAS must be loaded to be limited)
    from threadpoolctl import ThreadpoolController

    if _found[0] != len(sys.modules):
        found = ThreadpoolController().select(user_api="blas").lib_controllers
        _found = (len(sys.modules), found)
    return _found[1]


def between_stages(result: Mapping[str, Any]) -> None:
    """Give every BLAS the threads that it had, if what a stage gave is worth them.

    After a small problem they would spin into the next stage, for 25 ms that its lanes lack.

    Parameters
    ----------
    result : mapping
        What the stage gave: the next problem is about as large.
    """
    if sum(v.nbytes for v in result.values() if isinstance(v, np.ndarray)) > _SMALL_NBYTES:
        restore()


def restore() -> None:
    """Give every BLAS the threads that it had."""
    global _set_to  # noqa: PLW0603
    with _lock:
        for lib, threads in _before:
            _set(lib, threads)
        _before.clear()
        lane_threads.allow(1)
        _set_to = None


def _set(library: Any, threads: int) -> None:
    """Set a library's threads from whatever thread this is.

    threadpoolctl (from 3.8) listens only to the first thread that ever asked, while that is alive.
    """
    release = getattr(library, "clear_controlling_thread", lambda **_: None)
    release(force=True)
    library.set_num_threads(threads)
    release(force=True)

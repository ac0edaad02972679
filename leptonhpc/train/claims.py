"""The store of a run has one living maker: two would go on from each other's checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from leptonhpc.store.leasing import Lease, require_nobody

NAME = ".leptonhpc-trainer"
"""Of the object in the run's store that says who trains there."""


@contextlib.contextmanager
def claimed(place: str, prepare: Callable[[], None]) -> Iterator[None]:
    """Be the one who trains in a store.

    Parameters
    ----------
    place : str
        Of the run's store; nothing need be there.
    prepare : callable
        Makes the store, or takes up what is there; called when nobody trains there.

    Yields
    ------
    None
        While it is claimed.

    Raises
    ------
    OutputExistsError
        If a living process trains there, of this machine or of another one.
    StoreError
        If somebody else removed or replaced it meanwhile.
    """
    lease = Lease(place, NAME)
    require_nobody(lease.living_owner(), place)  # before anything is removed
    prepare()
    require_nobody(lease.take(), place)
    try:
        yield
        lease.require()
    finally:
        lease.release()

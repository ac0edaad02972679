"""What tasks leave on a worker for the next: memory that the plan counts, and Dask must not."""

from __future__ import annotations

import pickle
from typing import Any

from dask.sizeof import sizeof
from distributed.protocol.serialize import dask_deserialize, dask_serialize

_ENTRY_NBYTES = 1000


class Kept(dict[str, Any]):
    """An accumulator that is no work for Dask's spilling.

    A task changes the arrays of the one before and hands them on: for a moment both have them, and
    Dask would count them twice. At three fifths of a worker's limit it would write some to disk,
    through a copy in memory that no plan knows of.
    """


def _nbytes(kept: Kept) -> int:
    """Give next to nothing: the arrays are in the plan's bound."""
    return _ENTRY_NBYTES


def _dump(kept: Kept) -> tuple[dict[str, Any], list[Any]]:
    """Send arrays from where they are: to the scheduler, Dask pickles by a protocol that copies."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(kept, protocol=5, buffer_callback=buffers.append)
    return {}, [pickled, *(buffer.raw() for buffer in buffers)]


def _load(_: dict[str, Any], frames: list[Any]) -> Kept:
    pickled, *buffers = frames
    kept: Kept = pickle.loads(pickled, buffers=buffers)
    return kept


sizeof.register(Kept, _nbytes)
dask_serialize.register(Kept)(_dump)
dask_deserialize.register(Kept)(_load)

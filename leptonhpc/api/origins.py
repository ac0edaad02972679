"""What factors remember of their matrix: enough to measure solutions against it, if it is there."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from typing import Any

from leptonhpc import store
from leptonhpc.blocks import BlockedArray, MemorySource, Source, StoredSource
from leptonhpc.errors import LeptonError


class Origin:
    """A stored array, or one in memory for as long as somebody else keeps it.

    Parameters
    ----------
    source : Source, optional
        The matrix. Others than stored ones and those in memory are not remembered: to read them
        may be to compute them.
    identity : mapping, optional
        What a stored result says of its input.
    """

    def __init__(
        self, source: Source | None = None, identity: Mapping[str, Any] | None = None
    ) -> None:
        self.source = source if isinstance(source, StoredSource) else None
        self.identity = identity
        in_memory = isinstance(source, MemorySource)
        self._array = weakref.ref(source.array) if in_memory else None  # type: ignore[union-attr]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without what is in memory."""
        return Origin, (self.source, self.identity)

    def matrix(self) -> BlockedArray | None:
        """Give the matrix, if it can be reached and is the one that it was.

        Returns
        -------
        BlockedArray or None
            The matrix. Of one that was not stored elsewhere it is not known whether its numbers
            were changed since.
        """
        if self.source is not None:
            return BlockedArray(self.source)
        array = self._array() if self._array is not None else None
        if array is not None:
            return BlockedArray(MemorySource(array))
        location = (self.identity or {}).get("location")
        if location is None:
            return None
        try:
            found = StoredSource(store.open_array(location))
            known = json.loads(json.dumps(found.identity(), default=str))
        except (LeptonError, OSError):
            return None
        return BlockedArray(found) if known == self.identity else None

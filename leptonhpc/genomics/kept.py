"""Blocks of a pass kept in a store, so that the same call goes on after a stop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.api.kept import REFUSED, KeptParts
from leptonhpc.blocks.sources import Source

Arrays = dict[str, NDArray[Any]]


class KeptBlocks(KeptParts):
    """What a pass gave of the variants that are done.

    Parameters
    ----------
    place : str
        A Zarr group: made if it is not there.
    source : Source
        What is read.
    question : mapping
        What is asked of it, as JSON can hold it: other questions have other answers.
    overwrite : bool
        Forget what is there.

    Raises
    ------
    JobMismatchError
        If what is there was left by another call.
    """

    def __init__(
        self, place: str, source: Source, question: Mapping[str, Any], *, overwrite: bool
    ) -> None:
        super().__init__(place, {"calls": source.identity()}, question, overwrite=overwrite)
        self.place = place

    def get(self, part: str, columns: tuple[int, int]) -> Arrays | None:
        """Give what is kept of a block of variants.

        Parameters
        ----------
        part : str
            Of which pass, where there are several.
        columns : tuple of int
            First variant and the one after the last.

        Returns
        -------
        dict of str to array, or None
            As it was put.
        """
        return self.load(_name(part, columns))

    def put(self, part: str, columns: tuple[int, int], arrays: Arrays) -> None:
        """Keep what was found of a block.

        Parameters
        ----------
        part : str
            Of which pass.
        columns : tuple of int
            First variant and the one after the last.
        arrays : dict of str to array
            Numbers.
        """
        self.save(_name(part, columns), arrays)


class KeptArrays:
    """Blocks for which a pass gives a tuple of arrays.

    Parameters
    ----------
    kept : KeptBlocks
        Where they are.
    part : str
        Of which pass.
    """

    def __init__(self, kept: KeptBlocks, part: str) -> None:
        self.kept, self.part = kept, part

    def get(self, columns: tuple[int, int]) -> tuple[NDArray[Any], ...] | None:
        """Give what is kept of a block of variants."""
        arrays = self.kept.get(self.part, columns)
        return None if arrays is None else tuple(arrays[f"a{i}"] for i in range(len(arrays)))

    def put(self, columns: tuple[int, int], result: tuple[NDArray[Any], ...]) -> None:
        """Keep what was found of a block."""
        self.kept.put(self.part, columns, {f"a{i}": array for i, array in enumerate(result)})


@contextmanager
def blocks_kept(
    place: str | None, source: Source, question: Mapping[str, Any], *, part: str, overwrite: bool
) -> Iterator[KeptArrays | None]:
    """Give what a pass keeps its blocks in, while it works.

    Parameters
    ----------
    place : str or None
        A Zarr group; None: nothing is kept.
    source, question, overwrite : as for `KeptBlocks`
        The call.
    part : str
        Name of the pass.

    Yields
    ------
    KeptArrays or None
        What `map_variants` takes.
    """
    if place is None:
        yield None
        return
    kept = KeptBlocks(place, source, question, overwrite=overwrite)
    with kept.working():
        yield KeptArrays(kept, part)


@contextmanager
def refused_leaves_nothing(outputs: Sequence[str | None]) -> Iterator[None]:
    """Remove what drivers made of calls or tables that are then refused.

    Parameters
    ----------
    outputs : sequence of str or None
        Of drivers, finished or not.

    Yields
    ------
    None
        Inside, the drivers run.
    """
    try:
        yield
    except REFUSED:
        for place in outputs:
            if place is not None:
                store.remove(store.partial_location(place))
                store.remove(place)
        raise


def digest_of(*arrays: NDArray[Any]) -> str:
    """Describe arrays shortly.

    Parameters
    ----------
    *arrays : array
        Numbers.

    Returns
    -------
    str
        The same for the same numbers in the same shapes.
    """
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape} {array.dtype.str}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


def _name(part: str, columns: tuple[int, int]) -> str:
    return f"{part}-{columns[0]}-{columns[1]}"

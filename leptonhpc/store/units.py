"""Storage units: chunks, or shards where an array is sharded."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Region = tuple[tuple[int, int], ...]
"""Start and stop along each dimension."""


def units_touched(region: Region, unit: Sequence[int]) -> int:
    """Count the storage units that a region touches.

    Parameters
    ----------
    region : tuple of (start, stop)
        Along each dimension.
    unit : sequence of int
        Shape of a unit.

    Returns
    -------
    int
        Zero for an empty region.

    Examples
    --------
    >>> units_touched(((3, 9), (0, 4)), (4, 4))
    3
    """
    return prod(
        -(-stop // length) - start // length if stop > start else 0
        for (start, stop), length in zip(region, unit, strict=True)
    )

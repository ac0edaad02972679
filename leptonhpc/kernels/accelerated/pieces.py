"""Rows that are widened, squared or measured at once: what that takes beside them is bounded."""

from __future__ import annotations

from collections.abc import Iterator

PIECE_SIZE = 1 << 24
"""Numbers of a piece: 128 MB in double precision."""


def pieces(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut a matrix into pieces of whole rows.

    Parameters
    ----------
    shape : tuple of (int, int)
        Of the matrix.

    Yields
    ------
    (int, int)
        First and last row.
    """
    rows, columns = shape
    step = max(16, PIECE_SIZE // max(1, columns))
    for low in range(0, rows, step):
        yield low, min(low + step, rows)

"""Rows that are widened, squared or measured at once: what that takes beside them is bounded."""

from __future__ import annotations

from collections.abc import Iterator

PIECE_SIZE = 1 << 24
"""Numbers of a piece, at most: 128 MB in double precision."""
HOST_PIECE_SIZE = 1 << 17
"""Of a device that works in the host's memory, whose jobs are planned with tiles as small."""
_LEAST_SIZE = 1 << 18
_PARTS = 8
"""Pieces of a block, where they are no smaller: what they take beside it is within its plan."""
_NUMBER_NBYTES = 256
"""What a device has for each number of a piece: a sixth of it is enough for widened copies."""


def piece_size(capacity_nbytes: int | None) -> int:
    """Give how many numbers are widened, squared or measured at once.

    Parameters
    ----------
    capacity_nbytes : int or None
        Memory of the device that a job may use; None: that of the host.

    Returns
    -------
    int
        Numbers of a piece.
    """
    if capacity_nbytes is None:
        return min(PIECE_SIZE, HOST_PIECE_SIZE)
    return max(1, min(PIECE_SIZE, capacity_nbytes // _NUMBER_NBYTES))


def pieces(
    shape: tuple[int, ...], capacity_nbytes: int | None, *, tile: int | None = None
) -> Iterator[tuple[int, int]]:
    """Cut a matrix into pieces of whole rows.

    Parameters
    ----------
    shape : tuple of (int, int)
        Of the matrix.
    capacity_nbytes : int or None
        Of the device; see `piece_size`.
    tile : int, optional
        Rows at once that the plan counts, for a device that works in the host's memory.

    Yields
    ------
    (int, int)
        First and last row.
    """
    rows, columns = shape
    step = max(16, _size(shape, capacity_nbytes) // max(1, columns))
    if tile is not None and capacity_nbytes is None:
        step = tile
    for low in range(0, rows, step):
        yield low, min(low + step, rows)


def cells(shape: tuple[int, ...], capacity_nbytes: int | None) -> Iterator[tuple[slice, slice]]:
    """Cut a matrix into pieces of no more than so many numbers, however long its rows are.

    Parameters
    ----------
    shape : tuple of (int, int)
        Of the matrix.
    capacity_nbytes : int or None
        Of the device; see `piece_size`.

    Yields
    ------
    (slice, slice)
        Rows and columns.
    """
    rows, columns = shape
    size = _size(shape, capacity_nbytes)
    wide = max(1, min(columns, size // 16))
    high = max(1, size // wide)
    for row in range(0, rows, high):
        for column in range(0, columns, wide):
            yield slice(row, min(row + high, rows)), slice(column, min(column + wide, columns))


def _size(shape: tuple[int, ...], capacity_nbytes: int | None) -> int:
    """Give the numbers of a piece: what is small for the device may be large for the job."""
    rows, columns = shape
    return min(piece_size(capacity_nbytes), max(_LEAST_SIZE, rows * columns // _PARTS))

"""Cutting C into blocks that stay in memory while panels stream by: integers in, integers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from leptonhpc.blocks import Region

_STRIPS = 0.75
"""Of a matrix that workers of unlike speed share, so much is in strips, one for each."""


def partition(m: int, n: int, unit: tuple[int, int], cap: int, parts: int = 1) -> list[Region]:
    """Cut an m x n matrix into blocks of at most `cap` elements with small half perimeters.

    Parameters
    ----------
    m, n : int
        Shape.
    unit : tuple of int
        Blocks begin at multiples of this.
    cap : int
        Most elements of a block.
    parts : int
        At least this many blocks, where the shape allows it.

    Returns
    -------
    list of region
        Strips of rows (or of columns), each cut into equal parts.

    Examples
    --------
    >>> partition(4, 4, (1, 1), cap=8)
    [((0, 4), (0, 2)), ((0, 4), (2, 4))]
    """
    cap = max(1, min(cap, -(-m * n // parts)))
    by_rows = _strips(m, n, unit, cap)
    by_columns: list[Region] = [(c, r) for r, c in _strips(n, m, unit[::-1], cap)]
    # of equals, narrow blocks: the panel of B beside them is as wide as they are
    if by_rows and (not by_columns or _perimeter(by_rows) < _perimeter(by_columns)):
        return by_rows
    return by_columns or [
        ((i, min(i + unit[0], m)), (j, min(j + unit[1], n)))
        for i in range(0, m, unit[0])
        for j in range(0, n, unit[1])
    ]


def _strips(m: int, n: int, unit: tuple[int, int], cap: int) -> list[Region]:
    rows, columns = -(-m // unit[0]), -(-n // unit[1])

    def height(parts: int) -> int:
        """Rows of units of a strip cut into so many parts."""
        width = min(-(-columns // parts) * unit[1], n)
        return min(cap // width // unit[0], rows)

    choices = [(q, height(q)) for q in range(1, columns + 1) if height(q) >= 1]
    if not choices:
        return []
    # of the cuts that give the same height only the fewest parts are of use
    best_for: dict[int, int] = {}
    for q, h in choices:
        best_for.setdefault(h, q)
    heights = sorted(best_for, reverse=True)[:64]
    heights = sorted({min(h, rows) for h in heights} | {max(best_for)})

    @cache
    def cost(left: int) -> tuple[float, int]:
        """Half perimeters (in elements) to cover what is left, and the height to take first."""
        if left <= 0:
            return 0.0, 0
        options = []
        for h in heights:
            used = min(h, left)
            rest = cost(left - used)[0]
            options.append((best_for.get(h, 1) * used * unit[0] + n + rest, h))
        return min(options)

    for left in range(rows + 1):  # bottom up, so that recursion stays shallow
        cost(left)
    regions: list[Region] = []
    top = 0
    while top < rows:
        h = cost(rows - top)[1]
        used, q = min(h, rows - top), best_for[h]
        # a last strip that is lower may be cut into fewer parts
        q = next(p for p, hp in choices if hp >= used) if used < h else q
        span = (top * unit[0], min((top + used) * unit[0], m))
        edges = [round(i * columns / q) * unit[1] for i in range(q)] + [n]
        regions += [(span, (x, y)) for x, y in zip(edges, edges[1:], strict=False) if y > x]
        top += used
    return regions


def _perimeter(regions: Sequence[Region]) -> int:
    return sum(r[0][1] - r[0][0] + r[1][1] - r[1][0] for r in regions)


def partition_unlike(
    m: int, n: int, unit: tuple[int, int], cap: int, speeds: Sequence[float], parts: int
) -> list[Region]:
    """Cut an m x n matrix for workers of unlike speed: a strip as high as each is fast, and a rest.

    Large strips need the fewest readings; the rest in small blocks makes all workers end together
    although speeds are never quite what was measured, as in weighted factoring [1]_.

    Parameters
    ----------
    m, n : int
        Shape.
    unit : tuple of int
        Blocks begin at multiples of this.
    cap : int
        Most elements of a block.
    speeds : sequence of float
        Of the workers.
    parts : int
        A small block is one of so many equal ones, about.

    Returns
    -------
    list of region
        Blocks.

    References
    ----------
    .. [1] S. F. Hummel, J. Schmidt, R. N. Uma, J. Wein, Load-sharing in heterogeneous systems via
       weighted factoring, SPAA 1996.
    """
    small = min(cap, max(unit[0] * unit[1], m * n // parts))
    units = int(_STRIPS * m) // unit[0]
    if units < 2 * len(speeds):
        return partition(m, n, unit, small)
    edges, share = [0], 0.0
    regions: list[Region] = []
    for speed in speeds:
        share += speed / sum(speeds)
        edges.append(round(share * units) * unit[0])
    edges.append(m)
    for top, end in pairwise(edges):
        if top < end:
            cut = partition(end - top, n, unit, cap if end < m else small)
            regions += [((r0 + top, r1 + top), columns) for (r0, r1), columns in cut]
    return regions


def partition_triangle(n: int, unit: int, cap: int, workers: int) -> list[Region]:
    """Cut the lower triangle of an n x n matrix into square blocks.

    Parameters
    ----------
    n : int
        Order.
    unit : int
        Blocks begin at multiples of this.
    cap : int
        Most elements of a block.
    workers : int
        At least this many blocks, where the order allows it.

    Returns
    -------
    list of region
        Row by row, each ending with the diagonal block.
    """
    side = max(unit, math.isqrt(cap) // unit * unit)
    count = -(-n // side)
    while count * (count + 1) // 2 < workers and side > unit:
        side = max(unit, side // 2 // unit * unit)
        count = -(-n // side)
    even = -(-n // count)
    side = -(-even // unit) * unit
    spans = [(i, min(i + side, n)) for i in range(0, n, side)]
    return [(spans[i], spans[j]) for i in range(len(spans)) for j in range(i + 1)]


def elements(region: Region) -> int:
    """Count the elements of a block."""
    return (region[0][1] - region[0][0]) * (region[1][1] - region[1][0])

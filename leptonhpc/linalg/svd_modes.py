"""Room for modes whose number nobody knows beforehand: tol= and variance= decide while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import MemoryBudgetError
from leptonhpc.linalg.svd_shared import SvdOptions
from leptonhpc.planning import BandLayout

_GROWTH = 2.0
"""Sums of squared Ritz values after two passes are more than half of what they come to."""


class TooManyModesError(MemoryBudgetError):
    """The answer takes more modes than the plan has room for; found before they are made."""

    def __init__(self, room: int, needed: int | None = None) -> None:
        super().__init__(f"there is room for {room} modes")
        self.room = room
        self.needed = needed
        """How many; None: more."""

    def __reduce__(self) -> tuple[type, tuple[int, int | None]]:
        """Pickle as what it was made of."""
        return type(self), (self.room, self.needed)


def rank_is_found(options: SvdOptions) -> bool:
    """Say whether a share of the squared norm decides how many modes there are."""
    return options.tol is not None or options.variance is not None


def layout_with_room(
    plan: Callable[[int], BandLayout], *, usual: int, most: int, alike: bool = False
) -> BandLayout:
    """Lay bands out beside as many modes as there may be; if these do not fit, beside fewer.

    Parameters
    ----------
    plan : callable
        Gives a layout beside so many modes.
    usual, most : int
        How many there are as a rule, and at most.
    alike : bool
        Room for the most must not cost a lane, nor the height of bands.

    Returns
    -------
    BandLayout
        With the `modes` that it has room for.

    Raises
    ------
    MemoryBudgetError
        If not even the usual number fits.
    """
    if usual >= most:
        return replace(plan(most), modes=most)
    try:
        roomy = replace(plan(most), modes=most)
    except MemoryBudgetError:
        return replace(plan(usual), modes=usual)
    if not alike:
        return roomy
    lean = replace(plan(usual), modes=usual)
    same = (lean.lanes, lean.height, lean.resident) == (roomy.lanes, roomy.height, roomy.resident)
    return roomy if same else lean


def cannot_suffice(
    options: SvdOptions, values: NDArray[Any], modes: int, square: float
) -> bool:  # fmt: skip
    """Say whether so many modes will not capture what is asked for, from what two passes gave.

    Parameters
    ----------
    options : SvdOptions
        With `tol` or `variance`.
    values : array
        Squared singular values on a Krylov space, descending: each from below.
    modes : int
        How many there is room for.
    square : float
        Squared Frobenius norm.

    Returns
    -------
    bool
        Whether it is so even if values that are well known grow twofold and all others are like
        the last of them.
    """
    known = max(1, min(modes, len(values) // 2))
    captured = float(np.sum(values[:known])) + (modes - known) * float(values[known - 1])
    share = options.variance if options.variance is not None else 1 - (options.tol or 0.0) ** 2
    return _GROWTH * captured < share * square

"""One merge: the SVD of what is known of older rows together with some new ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import NumericRangeError
from leptonhpc.streams.roundings import DOUBLE, defect, residual, steps_of

_LEAST, _MOST = 1e-140, 1e140
"""Sizes whose squares, and sums of many of them, are numbers of float64."""


@dataclass(frozen=True)
class Merged:
    """What is known of the rows so far; each counts with its weight."""

    s: NDArray[np.floating]
    vh: NDArray[Any]
    mean: NDArray[Any]
    """(n,), float64 or complex128; zeros if rows are not centred."""
    weight: float
    square: float
    """||A||_F^2 of the weighted (and centred) rows."""
    lost: float
    """Sum of the squares of the first singular values that each merge cut off, weighted."""
    rounding: float
    """Spectral norm, at most, of what rounding has changed the weighted rows by."""
    mean_rounding: float
    """Euclidean norm, at most, of what the mean is off."""
    defect: float
    """||V^H V - I||_F of the vectors that are kept."""


def merge(
    old: Merged | None, batch: NDArray[Any], *, keep: int, center: bool, forgetting: float
) -> Merged:
    """Add rows.

    Parameters
    ----------
    old : Merged or None
        What is known.
    batch : array of shape (b, n), floating, b >= 1
        New rows, the oldest first.
    keep : int
        Most triplets that are kept.
    center : bool
        Whether rows are taken less their mean.
    forgetting : float
        Factor of a row's weight for each later row.

    Returns
    -------
    Merged
        Of all rows.
    """
    new = _batch_of(batch, center=center, forgetting=forgetting)
    if old is not None:
        new = _joined(old, new, center=center)
    u, s, vh = np.linalg.svd(new.rows, full_matrices=False)
    phases = _phases(vh)
    turned = (vh / phases[:, np.newaxis]).astype(vh.dtype, copy=False)
    spread = defect(turned)
    rounding = new.rounding + residual(new.rows, u * phases, s, turned)
    lost = new.lost
    if len(s) > keep:
        lost += float(s[keep]) ** 2 * (1 + spread)
        s, turned = s[:keep], turned[:keep]
    return Merged(
        s, turned, new.mean, new.weight, new.square, lost, rounding, new.mean_rounding, spread
    )


@dataclass(frozen=True)
class _Rows:
    """Rows whose Gram matrix is that of what they stand for, but for what was cut off."""

    rows: NDArray[Any]
    mean: NDArray[Any]
    weight: float
    fade: float
    """By which these rows make older ones count less."""
    square: float
    lost: float
    rounding: float
    mean_rounding: float


def _batch_of(batch: NDArray[Any], *, center: bool, forgetting: float) -> _Rows:
    """Weigh and centre new rows."""
    weights = forgetting ** np.arange(len(batch) - 1, -1, -1.0)
    total = float(weights.sum())
    mean, off = np.zeros(batch.shape[1]), 0.0
    if center:
        mean, off = _mean(batch, weights)
    rows = ((batch - mean) * np.sqrt(weights)[:, np.newaxis]).astype(batch.dtype, copy=False)
    square = _square(rows)
    rounding = steps_of(rows, square) + np.sqrt(total) * off
    fade = forgetting ** len(batch)
    return _Rows(rows, mean, total, fade, square, 0.0, rounding, off)


def _joined(old: Merged, new: _Rows, *, center: bool) -> _Rows:
    """Put what is known of older rows above new ones."""
    dtype = np.result_type(old.vh.dtype, new.rows.dtype)
    fade, weight = new.fade, new.fade * old.weight + new.weight
    known = (np.sqrt(fade) * old.s[:, np.newaxis] * old.vh).astype(dtype, copy=False)
    rows = [known, new.rows.astype(dtype, copy=False)]
    square, mean, off = new.square + fade * old.square, new.mean, new.mean_rounding
    rounding = new.rounding + np.sqrt(fade) * old.rounding
    rounding += steps_of(known, float(fade * np.sum(np.square(old.s, dtype=np.float64))))
    if center:
        # the scatter of both together has this rank-one matrix more than the sum of theirs
        share = fade * old.weight * new.weight / weight
        change = np.sqrt(share) * (old.mean - mean)[np.newaxis]
        more = _square(change)
        both = float(np.linalg.norm(old.mean) + np.linalg.norm(mean))
        rounding += np.sqrt(share) * (old.mean_rounding + off + 4 * DOUBLE * both)
        rows.append(change.astype(dtype, copy=False))
        rounding += steps_of(rows[-1], more)
        square += more
        off = max(old.mean_rounding, off) + 4 * DOUBLE * both
        mean = old.mean + new.weight / weight * (mean - old.mean)
    return _Rows(np.vstack(rows), mean, weight, fade, square, fade * old.lost, rounding, off)


def _mean(batch: NDArray[Any], weights: NDArray[np.float64]) -> tuple[NDArray[Any], float]:
    """Give the weighted mean, and how far off it is at most."""
    wide = batch.astype(np.result_type(batch.dtype, np.float64), copy=False)
    mean: NDArray[Any] = (weights @ wide) / weights.sum()
    sizes = (weights @ np.abs(wide)) / weights.sum()
    # a sum of b products and a division: (b + 2) units of the mean of absolute values
    return mean, (len(batch) + 2) * DOUBLE * float(np.linalg.norm(sizes))


def _square(rows: NDArray[Any]) -> float:
    largest = float(np.max(np.abs(rows), initial=0.0))
    if largest and not _LEAST <= largest <= _MOST:
        message = (
            f"squares of numbers up to {largest:.3g} are out of the range of float64: scale them "
            "to near one"
        )
        raise NumericRangeError(message)
    return float(np.sum(np.abs(rows).astype(np.float64, copy=False) ** 2))


def _phases(vh: NDArray[Any]) -> NDArray[Any]:
    """Give the phase of the largest entry of each row: vectors are unique but for it."""
    largest = np.take_along_axis(vh, np.abs(vh).argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]
    return np.where(largest == 0, 1, largest / np.where(largest == 0, 1, np.abs(largest)))

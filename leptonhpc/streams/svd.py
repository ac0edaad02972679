"""Singular values and right vectors of rows that come batch after batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api import open as open_array
from leptonhpc.blocks import BlockedArray
from leptonhpc.blocks.numbers import without_mask
from leptonhpc.errors import MemoryBudgetError, NonFiniteError, OptionError, ShapeError
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.planning.costs import LIBRARIES_NBYTES
from leptonhpc.planning.layout import compute_dtype
from leptonhpc.runtime import resources_of
from leptonhpc.streams.merging import Merged, merge

_COPIES = 4
"""Of a batch: as read, stacked, and twice inside the factorisation."""


class IncrementalSVD:
    """A truncated SVD that follows its rows, with a bound on what truncation lost.

    Parameters
    ----------
    rank : int
        Singular triplets that are given.
    center : bool
        Of the rows less their mean, which is followed too: principal components.
    forgetting : float
        From 0 (not included) to 1: what each row counts less for each row after it. 0.999 halves
        the weight of a row after 693 rows.
    spare : int
        Triplets beyond `rank` that are carried along: they make the bound smaller.

    Attributes
    ----------
    rows : int
        Rows taken so far.
    mean : ndarray of shape (n,), float64
        Their weighted mean; zeros without `center`.
    weight : float
        Sum of their weights.
    square : float
        Sum of the weighted squares of all rows (less the mean): ||A||_F^2, exact.
    lost : float
        At most so much do the squares of the singular values lack.
    rounding : float
        At most so much are the singular values off by rounding, in units of `s`.
    upper : ndarray of shape (up to rank,), float64
        What the singular values of the rows are at most: sqrt(s^2 + lost) + rounding.
    missed : float
        Share of the last batch's squares outside of the subspace before it; 1 for the first.

    Notes
    -----
    With A the rows taken so far, row i times the square root of its weight, and m the mean, of
    total weight W faded by f^b, each batch X of b rows with mean m_X and weights w is merged as

        [sqrt(f^b) diag(s) V^H; sqrt(w) (X - m_X); sqrt(W W_X / (W + W_X)) (m - m_X)]

    whose Gram matrix is that of A exactly, as long as nothing is cut off [1]_ [2]_. Cutting takes a
    positive semidefinite matrix of norm s_{k+1}^2 from it, so that with `lost`, the (weighted) sum
    of these, by Weyl's theorem s_i^2 <= sigma_i(A)^2 <= s_i^2 + lost. Weights are by rows, so that
    batches make no difference but for what is lost (in [1]_ weights are by batches). Rounding adds
    to both sides: s_i - rounding <= sigma_i(A) <= upper_i, where what each factorisation leaves is
    measured in double precision. It is some units of the dtype's precision of the largest singular
    value for each batch. A batch of b rows takes about 6 n (k + b)^2 flops, k = rank + spare.

    References
    ----------
    .. [1] D. Ross, J. Lim, R.-S. Lin, M.-H. Yang, Incremental learning for robust visual tracking,
       Int. J. Computer Vision 77, 2008.
    .. [2] M. Brand, Fast low-rank modifications of the thin singular value decomposition, Linear
       Algebra Appl. 415, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> model = IncrementalSVD(2)
    >>> for batch in np.split(np.diag([4.0, 3.0, 2.0, 1.0]), 2):
    ...     model = model.partial_fit(batch)
    >>> model.s.round(12).tolist()
    [4.0, 3.0]
    """

    def __init__(
        self, rank: int, *, center: bool = False, forgetting: float = 1.0, spare: int = 10
    ) -> None:
        for name, value, least in (("rank", rank, 1), ("spare", spare, 0)):
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < least:
                raise OptionError(f"{name} is a whole number from {least}; found {value!r}")
        if not 0 < forgetting <= 1:
            raise OptionError(f"forgetting is above 0 and at most 1; found {forgetting!r}")
        self.rank, self.center, self.forgetting, self.spare = rank, center, forgetting, spare
        self._reset()

    def _reset(self) -> None:
        self._merged: Merged | None = None
        self.rows = 0
        self.missed = 1.0

    @property
    def s(self) -> NDArray[np.floating]:
        """Singular values, shape (up to rank,), decreasing; at most `rounding` over the rows'."""
        return self._known.s[: self.rank]

    @property
    def vh(self) -> NDArray[Any]:
        """Right singular vectors, shape (up to rank, n); the largest entry of each is positive."""
        return self._known.vh[: self.rank]

    @property
    def upper(self) -> NDArray[np.float64]:
        """What the singular values of the rows are at most, shape as `s`."""
        return np.sqrt(self.s.astype(np.float64) ** 2 + self.lost) + self.rounding

    @property
    def rounding(self) -> float:
        """What rounding may have changed the singular values by, measured at each merge."""
        known = self._known
        largest = float(known.s[0]) if len(known.s) else 0.0
        return known.rounding + known.defect * largest

    @property
    def lost(self) -> float:
        """What the squares of the singular values lack at most."""
        return self._known.lost

    @property
    def mean(self) -> NDArray[Any]:
        """Weighted mean of the rows, shape (n,)."""
        return self._known.mean

    @property
    def weight(self) -> float:
        """Sum of the weights of the rows."""
        return self._known.weight

    @property
    def square(self) -> float:
        """Weighted sum of squares of all rows, less the mean if centred."""
        return self._known.square

    @property
    def explained(self) -> NDArray[np.float64]:
        """Share of `square` along each vector, shape as `s`; at least so much."""
        shares: NDArray[np.float64] = self.s.astype(np.float64) ** 2 / (self.square or 1.0)
        return shares

    def partial_fit(self, batch: Any) -> IncrementalSVD:
        """Take some rows, held in memory.

        Parameters
        ----------
        batch : array-like of shape (b, n), real or complex
            The rows, the oldest first; float16 is taken as float32, integers as float64.

        Returns
        -------
        IncrementalSVD
            Itself.

        Raises
        ------
        ShapeError
            If it is no matrix, or has not as many columns as those before.
        DTypeError
            If some of it is masked.
        NonFiniteError
            If it holds NaN or infinity; the message names the first by its row in the stream. The
            model stays as it was.
        """
        rows = self._checked(without_mask(batch))
        if not len(rows):
            return self
        merged = merge(
            self._merged, rows, keep=self.rank + self.spare, center=self.center,
            forgetting=self.forgetting,
        )  # fmt: skip
        self.missed = self._missed_of(rows)
        self._merged = merged
        self.rows += len(rows)
        return self

    def fit(self, batches: Any, *, memory: int | float | str | None = None) -> IncrementalSVD:
        """Forget what was taken, and take batches or a whole array.

        Parameters
        ----------
        batches : iterable of array-like of shape (b, n), or what `leptonhpc.open` takes
            An iterator of batches; or an array, read in bands.
        memory : int, float, str or None
            Budget for the bands.

        Returns
        -------
        IncrementalSVD
            Itself.
        """
        self._reset()
        if isinstance(batches, str | BlockedArray) or not isinstance(batches, Iterable):
            return self.extend(batches, memory=memory)
        if hasattr(batches, "shape"):
            return self.extend(batches, memory=memory)
        for batch in batches:
            self.partial_fit(batch)
        return self

    def extend(self, array: Any, *, memory: int | float | str | None = None) -> IncrementalSVD:
        """Take the rows that a growing array has gained since the last call.

        Parameters
        ----------
        array : array of shape (m, n), or what `leptonhpc.open` takes
            The whole array; rows from `rows` on are read, in bands of whole chunks that fit.
        memory : int, float, str or None
            Budget, such as "2 GB".

        Returns
        -------
        IncrementalSVD
            Itself, as it was if there are no new rows.

        Raises
        ------
        ShapeError
            If the array is no matrix or has fewer rows than were taken.
        MemoryBudgetError
            If not one row fits.
        """
        x = open_array(array)
        if x.ndim != 2 or x.shape[0] < self.rows:
            message = (
                f"extend takes rows {self.rows} and on of a growing matrix; {x.name!r} has shape "
                f"{x.shape}. For other rows use partial_fit"
            )
            raise ShapeError(message)
        unit, band = max(1, x.source.unit[0]), _band_rows(x, self.rank + self.spare, memory)
        while self.rows < x.shape[0]:
            stop = (self.rows + band) // unit * unit  # bands end with chunks, if these fit
            stop = min(stop if stop > self.rows else self.rows + band, x.shape[0])
            self.partial_fit(x.read(((self.rows, stop), (0, x.shape[1]))))
        return self

    def transform(self, rows: Any) -> NDArray[Any]:
        """Give the coefficients of rows along the right vectors.

        Parameters
        ----------
        rows : array-like of shape (m, n)
            Any rows.

        Returns
        -------
        array of shape (m, up to rank)
            (rows - mean) V.

        Raises
        ------
        ShapeError
            If it is no matrix of as many columns as the model has.
        """
        values = without_mask(rows)
        self._require_width(values)
        return np.asarray((values - self.mean if self.center else values) @ self.vh.conj().T)

    @property
    def _known(self) -> Merged:
        if self._merged is None:
            raise OptionError("this model has taken no rows yet: call partial_fit, fit or extend")
        return self._merged

    def _require_width(self, batch: NDArray[Any]) -> None:
        width = None if self._merged is None else self._merged.vh.shape[1]
        if batch.ndim != 2 or not batch.shape[1] or batch.shape[1] != (width or batch.shape[1]):
            message = f"a batch has shape (rows, {width or 'columns'}); found {batch.shape}"
            raise ShapeError(message)

    def _checked(self, batch: NDArray[Any]) -> NDArray[Any]:
        self._require_width(batch)
        if batch.dtype.kind not in "biufc":
            raise OptionError(f"a batch holds numbers; found dtype {batch.dtype}")
        rows = batch.astype(compute_dtype(batch.dtype), copy=False)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            message = (
                f"row {self.rows + row} of the stream (row {row} of the batch) has "
                f"{rows[row, column]} in column {column}; leave such rows out, or fill them"
            )
            raise NonFiniteError(message)
        return rows

    def _missed_of(self, rows: NDArray[Any]) -> float:
        if self._merged is None:
            return 1.0
        centre = self._merged.mean if self.center else 0.0
        values = rows - centre
        square = float(np.linalg.norm(values)) ** 2
        inside = float(np.linalg.norm(values @ self.vh.conj().T)) ** 2
        return max(0.0, 1.0 - inside / square) if square else 0.0


def _band_rows(x: BlockedArray, kept: int, memory: int | float | str | None) -> int:
    """Choose rows of a band: several times what is kept, if that fits."""
    room = resources_of(parse_nbytes(memory)).arrays_nbytes
    each = _COPIES * max(1, x.shape[1]) * 8 * (2 if x.dtype.kind == "c" else 1)
    most = room // each - kept
    if most < 1:
        least = (kept + 1) * each + LIBRARIES_NBYTES
        message = f"a row of {x.name!r} needs at least memory='{-(-least // 10**6)} MB'"
        raise MemoryBudgetError(message)
    unit = max(1, x.source.unit[0])
    return int(min(most, max(unit, 4 * kept)))

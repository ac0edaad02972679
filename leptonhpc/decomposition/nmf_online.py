"""Components of a stream: each batch is solved for, and only sums of it are kept.

For the squared error the sums are W^T X and W^T W over all batches, as in online dictionary
learning [1]_; for the divergence they are those of the multiplicative update [2]_. H is the best
for the sums, so that it depends on batches that are gone; with forgetting, less on older ones.

References
----------
.. [1] J. Mairal, F. Bach, J. Ponce, G. Sapiro, Online learning for matrix factorization and sparse
   coding, J. Mach. Learn. Res. 11, 2010, Algorithm 1.
.. [2] A. Lefevre, F. Bach, C. Fevotte, Online algorithms for nonnegative matrix factorization with
   the Itakura-Saito divergence, WASPAA 2011.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.batches import batch_rows, cut
from leptonhpc.decomposition.samples import Samples
from leptonhpc.errors import OptionError, ShapeError
from leptonhpc.kernels.nmf import descend
from leptonhpc.kernels.nmf_kl import quotient

_SWEEPS = 20
"""Over the rows of H, each time the sums have changed."""


class Stream:
    """What `NMF` does with batches."""

    components_: NDArray[np.floating]
    n_samples_seen_: int
    beta_loss: Literal["frobenius", "kullback-leibler"]
    forget_factor: float
    batch_size: int | None
    memory: Any
    _numerator: NDArray[np.float64]
    """Sums of all batches: W^T X, or of H times W^T V."""
    _denominator: NDArray[np.float64]
    """W^T W, or the sums of W."""

    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Take more samples: an array in memory as one batch, others in batches.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples; nothing may be negative. Of the first batch all components are made, but
            after `fit`, whose components it begins with and whose samples do not count.
        y : None
            Not used.

        Returns
        -------
        NMF
            Itself.
        """
        x = self._checked(X, reset=not hasattr(self, "components_"))
        if isinstance(x, BlockedArray):
            self._take_all(x, 0)
        else:
            self._take(x)
        return self

    def extend(self, X: Any) -> Any:
        """Take the samples that a growing array has gained since the last call.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The whole array; rows from ``n_samples_seen_`` on are taken, and no others are read (but
            those that share their chunks).

        Returns
        -------
        NMF
            Itself, as it was if there are no new rows.

        Raises
        ------
        ShapeError
            If the array has fewer samples than were seen.
        """
        x = self._checked(X, reset=not hasattr(self, "components_"))
        seen = getattr(self, "n_samples_seen_", 0)
        if x.shape[0] < seen:
            message = (
                f"extend takes the rows from {seen} on, those not yet seen, of a growing array; X "
                f"has {x.shape[0]} rows. For other samples use partial_fit"
            )
            raise ShapeError(message)
        self._take_all(x, seen)
        return self

    def _forget(self) -> None:
        for name in ("_numerator", "_denominator", "n_samples_seen_"):
            self.__dict__.pop(name, None)

    def _take_all(self, x: Samples, start: int) -> None:
        """Take an array from a row on; a last batch with fewer rows than components is joined."""
        least: int = getattr(self, "n_components", None) or 1
        for batch in cut(x, start, batch_rows(x, self.batch_size, self.memory), least, self):
            self._take(batch)

    def _take(self, batch: NDArray[Any]) -> None:
        if not 0 < self.forget_factor <= 1:
            message = f"forget_factor of NMF is above 0 and at most 1; found {self.forget_factor!r}"
            raise OptionError(message)
        known = hasattr(self, "components_")
        result = self._solved(batch) if known else self._factored(batch)
        if not known:
            self._take_result(result)
        elif self.components_.shape[0] != (getattr(self, "n_components", None) or batch.shape[1]):
            message = (
                f"n_components was {len(self.components_)} for the samples so far; use fit to "
                "begin anew"
            )
            raise OptionError(message)
        self.certificate_, self.report_ = result.certificate, result.report
        self._add(np.asarray(result.w, np.float64), batch.astype(np.float64, copy=False))
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0) + len(batch)

    def _add(self, w: NDArray[np.float64], x: NDArray[np.float64]) -> None:
        """Add a batch to the sums, and find the H that is best for them."""
        h = self.components_.astype(np.float64)
        dtype = self.components_.dtype
        if self.beta_loss == "frobenius":
            new = w.T @ x, w.T @ w
        else:
            new = h * (w.T @ quotient(x, w @ h)), w.sum(axis=0)[:, np.newaxis]
        kept = self.forget_factor
        if hasattr(self, "_numerator"):
            new = kept * self._numerator + new[0], kept * self._denominator + new[1]
        self._numerator, self._denominator = new
        if self.beta_loss == "frobenius":
            descend(h, self._numerator, self._denominator, sweeps=_SWEEPS)
        else:
            h = self._numerator / np.where(self._denominator > 0, self._denominator, 1)
        self.components_ = h.astype(dtype)

    def _checked(self, X: Any, *, reset: bool) -> Samples:
        raise NotImplementedError

    def _factored(self, x: Samples) -> Any:
        raise NotImplementedError

    def _solved(self, x: Samples) -> Any:
        raise NotImplementedError

    def _take_result(self, result: Any) -> None:
        raise NotImplementedError

"""Truncated SVD of samples as they are, without centring."""

from __future__ import annotations

from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.bands import bands
from leptonhpc.decomposition.finite import words_of
from leptonhpc.decomposition.moments import Moments
from leptonhpc.decomposition.products import column_means
from leptonhpc.decomposition.projection import Projection, scores_of
from leptonhpc.decomposition.samples import Samples, check_samples, floating, seed_of
from leptonhpc.decomposition.signs import signs_of_rows
from leptonhpc.decomposition.sources import AffineSource
from leptonhpc.errors import OptionError


class TruncatedSVD(Projection):
    """Leading singular vectors by `leptonhpc.svd`, as ``sklearn.decomposition.TruncatedSVD``.

    Parameters
    ----------
    n_components : int
        Number of components, at most min(n_samples, n_features).
    algorithm : {"auto", "gram", "krylov", "sketch"}
        The driver's method. "auto" takes the faster of "gram" (exact) and "krylov".
    accuracy : float
        Of "krylov": |A^H u - s v| <= accuracy * s for all components.
    most_passes : int
        Of "krylov": readings of the data at most.
    random_state : int, RandomState or None
        Seed of random starts; None is 0.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    progress : bool
        Show a bar.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Right singular vectors; the largest entry of each is positive.
    explained_variance_ : ndarray of shape (n_components,)
        Variances of the projected samples.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Their shares of the variance of all features.
    singular_values_ : ndarray of shape (n_components,)
        Descending.
    n_features_in_ : int
        Number of features.
    certificate_ : SvdCertificate
        Residual of each component, measured.
    report_ : Report
        What the factorisation took.

    Notes
    -----
    Two passes more than the factorisation, for the means and for the variance about them. Sparse
    matrices are not taken.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.decomposition import TruncatedSVD
    >>> svd = TruncatedSVD(n_components=1).fit(np.diag([3.0, 2.0, 1.0]))
    >>> svd.components_.round(6)
    array([[1., 0., 0.]])
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        algorithm: Literal["auto", "gram", "krylov", "sketch"] = "auto",
        accuracy: float = 1e-7,
        most_passes: int = 30,
        random_state: Any = None,
        memory: Any = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.algorithm = algorithm
        self.accuracy = accuracy
        self.most_passes = most_passes
        self.random_state = random_state
        self.memory = memory
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> TruncatedSVD:
        """Find the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : None
            Not used.

        Returns
        -------
        TruncatedSVD
            Itself.
        """
        self._fit(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Samples:
        """Find the components and project the same samples, without another pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : None
            Not used.

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples, n_components)
            The projections; lazy where they do not fit in memory.
        """
        result, signs = self._fit(X)
        return self._configured(scores_of(result, signs * self.singular_values_))

    def _fit(self, X: Any) -> tuple[Any, NDArray[Any]]:
        x = check_samples(self, X, reset=True, features=2)
        rank, short = self.n_components, min(x.shape)
        if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or rank < 1:
            message = f"n_components of TruncatedSVD is a whole number from 1; found {rank!r}"
            raise OptionError(message)
        if rank > short:
            message = f"n_components of TruncatedSVD is at most min(X.shape)={short}; found {rank}"
            raise OptionError(message)
        with words_of(self):
            result = lh.svd(
                x, rank=int(rank), method=self.algorithm, accuracy=self.accuracy,
                most_passes=self.most_passes, seed=seed_of(self.random_state), memory=self.memory,
                progress=self.progress,
            )  # fmt: skip
        self.certificate_, self.report_ = result.certificate, result.report
        vh, dtype = np.asarray(result.vh), floating(x.dtype)
        signs = signs_of_rows(vh)
        self.components_ = np.ascontiguousarray(vh * signs[:, np.newaxis], dtype)
        self.singular_values_ = result.s
        self._set_variances(result, x, dtype)
        return result, signs

    def _set_variances(self, result: Any, x: Samples, dtype: np.dtype[Any]) -> None:
        """About the means: E x^2 - (E x)^2 would cancel where the means are large."""
        parts = (Moments.of(band) for _, band in bands(result.u))
        variances = reduce(Moments.__add__, parts).variance * result.s.astype(float) ** 2
        total = self._total_variance(x)
        self.explained_variance_ = variances.astype(dtype)
        self.explained_variance_ratio_ = (variances / (total or 1.0)).astype(dtype)

    def _total_variance(self, x: Samples) -> float:
        """Give the sum of the variances of all features."""
        if isinstance(x, np.ndarray):
            return float(np.sum(Moments.of(x).variance))
        means = column_means(x, memory=self.memory, progress=self.progress)
        centred = BlockedArray(AffineSource(x.source, np.dtype(float), shift=means), x.grid)
        norm = float(lh.norm(centred, memory=self.memory, progress=self.progress))
        return norm**2 / x.shape[0]

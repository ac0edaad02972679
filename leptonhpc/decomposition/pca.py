"""Principal components of samples that may not fit in memory."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.decomposition.dimension import most_likely_dimension
from leptonhpc.decomposition.finite import words_of
from leptonhpc.decomposition.gaussian import Likelihood, variance_left
from leptonhpc.decomposition.projection import Projection, scores_of
from leptonhpc.decomposition.samples import Samples, check_samples, floating, seed_of
from leptonhpc.decomposition.signs import signs_of_rows
from leptonhpc.errors import OptionError

_MORE = 16 * float(np.finfo(float).eps)
"""Added to the share of the variance: more than it is wanted, and the driver allows 8 eps."""


class PCA(Likelihood, Projection):
    """Principal component analysis by `leptonhpc.svd`, as ``sklearn.decomposition.PCA``.

    Parameters
    ----------
    n_components : int, float, "mle" or None
        That many components; as many as explain more than that share of the variance; as many as
        Minka's estimate of the dimension says (for n_samples >= n_features); all.
    whiten : bool
        Give projections of unit variance.
    svd_solver : {"auto", "gram", "krylov", "sketch"}
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
        Principal axes; the largest entry of each is positive.
    explained_variance_ : ndarray of shape (n_components,)
        Variances along them.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Their shares of the whole variance.
    singular_values_ : ndarray of shape (n_components,)
        Of the centred samples.
    mean_ : ndarray of shape (n_features,)
        Mean of each feature.
    n_components_ : int
        Number of components.
    n_samples_ : int
        Number of samples.
    n_features_in_ : int
        Number of features.
    noise_variance_ : float
        Mean of the variances that were left out.
    certificate_ : SvdCertificate
        Residual of each component, measured.
    report_ : Report
        What the factorisation took.

    Notes
    -----
    The components (n_components x n_features) are held in memory; samples and their projections
    need not be.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.decomposition import PCA
    >>> pca = PCA(n_components=1).fit(np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.1]]))
    >>> pca.components_.shape
    (1, 2)
    """

    def __init__(
        self,
        n_components: Any = None,
        *,
        whiten: bool = False,
        svd_solver: Literal["auto", "gram", "krylov", "sketch"] = "auto",
        accuracy: float = 1e-7,
        most_passes: int = 30,
        random_state: Any = None,
        memory: Any = None,
        progress: bool = False,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.accuracy = accuracy
        self.most_passes = most_passes
        self.random_state = random_state
        self.memory = memory
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> PCA:
        """Find the components.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples, at least two.
        y : None
            Not used.

        Returns
        -------
        PCA
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
        unit = np.sqrt(self.n_samples_ - 1) if self.whiten else self.singular_values_
        return self._configured(scores_of(result, signs * unit))

    def _fit(self, X: Any) -> tuple[Any, NDArray[Any]]:
        x = check_samples(self, X, reset=True, least=2)
        with words_of(self):
            result: Any = lh.svd(
                x, center=True, method=self.svd_solver, accuracy=self.accuracy,
                most_passes=self.most_passes, seed=seed_of(self.random_state), memory=self.memory,
                progress=self.progress, **self._asked(x.shape),
            )  # fmt: skip
        self.n_samples_ = x.shape[0]
        self.certificate_, self.report_ = result.certificate, result.report
        self._set_variances(result, x.shape)
        count, dtype = self.n_components_, floating(x.dtype)
        vh = np.asarray(result.vh)[:count]
        signs = signs_of_rows(vh)
        self.components_ = np.ascontiguousarray(vh * signs[:, np.newaxis], dtype)
        self.mean_ = result.mean.astype(dtype)
        return result, signs

    def _set_variances(self, result: Any, shape: tuple[int, ...]) -> None:
        samples, short = shape[0], min(shape)
        variances = result.s**2 / (samples - 1)
        total = result.certificate.norm**2 / (samples - 1)
        count = len(variances)
        if self.n_components == "mle":
            count = most_likely_dimension(variances.astype(float), samples)
        self.n_components_ = count
        self.singular_values_ = result.s[:count]
        self.explained_variance_ = variances[:count]
        self.explained_variance_ratio_ = variances[:count] / (total or 1.0)
        left = variance_left(total, self.explained_variance_)
        self.noise_variance_ = left / (short - count) if count < short else 0.0

    def _asked(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Give n_components as the driver takes it."""
        wanted = self.n_components
        short, name = min(shape), type(self).__name__
        if wanted is None or wanted == "mle":
            if wanted == "mle" and shape[0] < shape[1]:
                message = (
                    f"n_components='mle' needs at least as many samples as features; found {shape}"
                )
                raise OptionError(message)
            return {"rank": short} if self.svd_solver == "sketch" else {}
        whole = isinstance(wanted, int | np.integer) and not isinstance(wanted, bool)
        if whole and 1 <= wanted <= short:
            return {"rank": int(wanted)}
        if isinstance(wanted, float | np.floating) and 0 < wanted < 1:
            return {"variance": min(float(wanted) + _MORE, 1 - _MORE / 32)}
        message = (
            f"n_components of {name} is from 1 to min(n_samples, n_features)={short}, a share of "
            f"the variance above 0 and below 1, 'mle' or None; found {wanted!r}"
        )
        raise OptionError(message)

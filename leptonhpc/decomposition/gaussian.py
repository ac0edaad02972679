"""The Gaussian that components and noise make: covariance, precision and likelihood of samples.

Probabilistic PCA [1]_: C = V^H diag(e - noise) V + noise I, with variances e along components V.

References
----------
.. [1] M. E. Tipping, C. M. Bishop, Probabilistic principal component analysis, J. R. Stat. Soc. B
   61, 1999.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

import leptonhpc as lh
from leptonhpc.decomposition.bands import bands
from leptonhpc.decomposition.finite import require_finite
from leptonhpc.decomposition.samples import check_samples
from leptonhpc.errors import SingularMatrixError


def variance_left(total: float, variances: NDArray[np.floating]) -> float:
    """Give what components leave of the variance; zero where rounding hides it.

    Parameters
    ----------
    total : float
        The whole variance.
    variances : array of shape (k,)
        Along the components.

    Returns
    -------
    float
        At least zero.
    """
    left = total - float(np.sum(variances, dtype=float))
    return left if left > 8 * float(np.finfo(variances.dtype).eps) * total else 0.0


class GaussianModel:
    """What follows from ``components_``, ``explained_variance_`` and ``noise_variance_``."""

    components_: NDArray[np.floating]
    explained_variance_: NDArray[np.floating]
    noise_variance_: float
    mean_: NDArray[np.floating]

    def get_covariance(self) -> NDArray[np.floating]:
        """Give the covariance of the model.

        Returns
        -------
        ndarray of shape (n_features, n_features)
            In memory.
        """
        check_is_fitted(self)
        v = self.components_
        extra = np.maximum(self.explained_variance_ - self.noise_variance_, 0)
        covariance: NDArray[np.floating] = (v.T * extra) @ v
        np.einsum("ii->i", covariance)[...] += self.noise_variance_
        return covariance

    def get_precision(self) -> NDArray[np.floating]:
        """Give the inverse of the covariance, without inverting it.

        Returns
        -------
        ndarray of shape (n_features, n_features)
            In memory.

        Raises
        ------
        SingularMatrixError
            If a direction has no variance.
        """
        check_is_fitted(self)
        v = self.components_
        variances, noise = self._positive()
        inverse: NDArray[np.floating] = (v.T * (1 / variances - 1 / noise)) @ v
        np.einsum("ii->i", inverse)[...] += 1 / noise
        return inverse

    def _positive(self) -> tuple[NDArray[np.floating], float]:
        """Give the variances along components and beside them; the latter 1 where nothing is."""
        variances = np.maximum(self.explained_variance_, self.noise_variance_)
        complete = len(self.components_) == self.components_.shape[1]
        # a sum of squares less others leaves rounding where there is nothing: 64 units, as in svd
        least = 64 * float(np.finfo(float).eps) * float(variances[0])
        if not np.all(variances > 0) or not (complete or self.noise_variance_ > least):
            message = (
                "the inverse of the covariance needs variance in every direction; "
                f"{type(self).__name__} has components of variances down to {variances[-1]:.3g} "
                f"and noise of {self.noise_variance_:.3g} beside them. Use fewer components"
            )
            raise SingularMatrixError(message)
        return variances, 1.0 if complete else float(self.noise_variance_)


class Likelihood(GaussianModel):
    """Log-likelihood of samples, without a matrix of features by features."""

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Give the log-likelihood of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples; read in bands, on this machine.

        Returns
        -------
        ndarray of shape (n_samples,)
            Natural logarithms.

        Raises
        ------
        SingularMatrixError
            If a direction has no variance.
        NonFiniteError
            If a stored sample holds NaN or infinity; the message names its index.
        """
        check_is_fitted(self)
        x = check_samples(self, X, reset=False)
        variances, noise = self._positive()
        rest = x.shape[1] - len(variances)
        logdet = float(np.sum(np.log(variances, dtype=float))) + rest * np.log(noise)
        parts, name = [], lh.open(x).name
        for first, band in bands(x):
            require_finite(band, first, self, name)
            parts.append(self._distances(band, variances, noise))
        distances = np.concatenate(parts)
        likelihood: NDArray[np.float64] = -(distances + x.shape[1] * np.log(2 * np.pi) + logdet) / 2
        return likelihood

    def score(self, X: Any, y: Any = None) -> float:
        """Give the mean log-likelihood of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : None
            Not used.

        Returns
        -------
        float
            The mean.
        """
        return float(np.mean(self.score_samples(X)))

    def _distances(
        self, band: NDArray[Any], variances: NDArray[np.floating], noise: float
    ) -> NDArray[np.float64]:
        """Give x^T C^-1 x: along the components, and of what is beside them."""
        centred = band.astype(float) - self.mean_
        along = centred @ self.components_.T
        beside = centred - along @ self.components_
        inside: NDArray[np.float64] = np.sum(along**2 / variances, axis=1)
        outside: NDArray[np.float64] = np.sum(beside**2, axis=1) / noise
        return inside + outside

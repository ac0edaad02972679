"""Ridge regression on samples that may not fit in memory."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.finite import words_of
from leptonhpc.decomposition.products import column_means, restore
from leptonhpc.decomposition.ridge_solvers import SOLVERS, Solution
from leptonhpc.decomposition.samples import Samples, check_samples, floating, seed_of
from leptonhpc.decomposition.sources import AffineSource
from leptonhpc.decomposition.targets import check_alphas, check_supervised, check_weights
from leptonhpc.errors import OptionError

_LARGEST_GRAM = 8192
"""Order up to which "auto" forms the Gram matrix of the short side: half a gigabyte."""

_Solver = Literal["auto", "cholesky", "lsmr", "lstsq"]


class Ridge(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Least squares with a penalty on the size of coefficients, as ``sklearn.linear_model.Ridge``.

    Parameters
    ----------
    alpha : float or array of shape (n_targets,)
        Weight of the squared coefficients.
    fit_intercept : bool
        Leave the mean free.
    solver : {"auto", "cholesky", "lsmr", "lstsq"}
        Gram matrix of the short side, in one pass (two with intercept), and `leptonhpc.solve`;
        `leptonhpc.lsmr`, some passes, for two long sides; `leptonhpc.lstsq` for alpha=0, of minimum
        norm. "auto" takes the last for alpha=0, else the first for short sides up to 8192.
    tol : float or None
        Of "lsmr": see there, where the default is too.
    most_passes : int
        Of "lsmr".
    random_state : int, RandomState or None
        Seed of the preconditioner and of checks; None is 0.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    progress : bool
        Show a bar.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        Coefficients; the former for one target.
    intercept_ : float or ndarray of shape (n_targets,)
        What is added; 0.0 without intercept.
    solver_ : str
        Which solver it was.
    n_features_in_ : int
        Number of features.
    certificate_ : SolveCertificate, IterationCertificate or LstsqCertificate
        Of the systems that were solved; if there were several, the worst.
    report_ : Report
        Of the driver that read the samples.

    Notes
    -----
    Computed in double precision; coefficients of float32 samples are rounded at the end. Targets
    and coefficients are held in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.decomposition import Ridge
    >>> x = np.array([[0.0], [1.0], [2.0]])
    >>> Ridge(alpha=1.0).fit(x, [1.0, 3.0, 5.0]).coef_.round(6)
    array([1.333333])
    """

    def __init__(
        self,
        alpha: Any = 1.0,
        *,
        fit_intercept: bool = True,
        solver: _Solver = "auto",
        tol: float | None = None,
        most_passes: int = 300,
        random_state: Any = None,
        memory: Any = None,
        progress: bool = False,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.most_passes = most_passes
        self.random_state = random_state
        self.memory = memory
        self.progress = progress

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ridge:
        """Find the coefficients.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), or what `open` takes
            The targets.
        sample_weight : float or array-like of shape (n_samples,), optional
            Weights of the samples.

        Returns
        -------
        Ridge
            Itself.
        """
        x, y = check_supervised(self, X, y)
        weights = check_weights(sample_weight, y)
        targets = y.reshape(len(y), -1)
        alphas = check_alphas(self.alpha, targets.shape[1])
        self.solver_ = self._choose(x.shape, alphas)
        with words_of(self):
            means, target_means = self._means(x, targets, weights)
        roots = None if weights is None else np.sqrt(weights)
        source = AffineSource(lh.open(x).source, np.dtype(float), shift=means, rows=roots)
        right = targets - target_means
        right = right if roots is None else right * roots[:, np.newaxis]
        with words_of(self):
            solution = self._solve(BlockedArray(source, lh.open(x).grid), right, alphas)
        self.certificate_, self.report_ = solution.certificate, solution.report
        self._set(solution.x, means, target_means, floating(x.dtype), one=y.ndim == 1)
        return self

    def predict(self, X: Any, *, out: Any = None) -> Samples:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or what `leptonhpc.open` takes
            The samples.
        out : str or path, optional
            A Zarr array to be made, of shape (n_samples, n_targets).

        Returns
        -------
        ndarray or BlockedArray of shape (n_samples,) or (n_samples, n_targets)
            In memory; with `out` a BlockedArray, of two dimensions always.
        """
        check_is_fitted(self)
        x = check_samples(self, X, reset=False)
        matrix = np.atleast_2d(self.coef_).T
        offset = np.broadcast_to(np.asarray(self.intercept_, matrix.dtype), matrix.shape[1])
        predicted = restore(x, matrix, offset, out=out, memory=self.memory, progress=self.progress)
        if out is not None:
            return predicted
        values = np.asarray(predicted)
        return values[:, 0] if self.coef_.ndim == 1 else values

    def _choose(self, shape: tuple[int, ...], alphas: NDArray[np.float64]) -> str:
        if self.solver not in ("auto", *SOLVERS):
            message = f"solver is one of auto, {', '.join(SOLVERS)}; found {self.solver!r}"
            raise OptionError(message)
        if self.solver == "lstsq" and np.any(alphas):
            message = f"solver='lstsq' is for alpha=0; found {self.alpha}. Use 'cholesky' or 'lsmr'"
            raise OptionError(message)
        if self.solver == "cholesky" and not np.all(alphas):
            message = "solver='cholesky' needs alpha above 0; use 'lstsq' for alpha=0, or 'auto'"
            raise OptionError(message)
        if self.solver != "auto":
            return self.solver
        if not np.any(alphas):
            return "lstsq"
        return "cholesky" if min(shape) <= _LARGEST_GRAM and np.all(alphas) else "lsmr"

    def _means(
        self, x: Samples, targets: NDArray[np.float64], weights: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
        if not self.fit_intercept:
            return None, np.zeros(targets.shape[1])
        means = column_means(x, weights=weights, memory=self.memory, progress=self.progress)
        return means, np.average(targets, axis=0, weights=weights)

    def _solve(
        self, a: BlockedArray, b: NDArray[np.float64], alphas: NDArray[np.float64]
    ) -> Solution:
        solve = SOLVERS[self.solver_]
        return solve(
            a, b, alphas, tol=self.tol, most_passes=self.most_passes,
            seed=seed_of(self.random_state), memory=self.memory, progress=self.progress,
        )  # fmt: skip

    def _set(
        self, x: NDArray[np.float64], means: NDArray[np.float64] | None,
        target_means: NDArray[np.float64], dtype: np.dtype[Any], *, one: bool,
    ) -> None:  # fmt: skip
        coef = x.T
        intercept = target_means if means is None else target_means - coef @ means
        self.coef_ = (coef[0] if len(coef) == 1 else coef).astype(dtype)
        self.intercept_: Any = 0.0
        if self.fit_intercept:
            self.intercept_ = dtype.type(intercept[0]) if one else intercept.astype(dtype)

"""What alternating least squares of explicit ratings and of implicit feedback have in common."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from leptonhpc.errors import NotConvergedWarning, OptionError
from leptonhpc.recommend.extras import require_numba
from leptonhpc.recommend.factors import Factors
from leptonhpc.recommend.fitting import Fitted, Settings, fit
from leptonhpc.recommend.growing import begun, grown, matched
from leptonhpc.recommend.half_sweeps import Problem, Solver
from leptonhpc.recommend.options import check_options
from leptonhpc.recommend.outputs import Path
from leptonhpc.recommend.ratings import Ratings, open_ratings

DType = Literal["float32", "float64"]


class AlternatingLeastSquares(Factors):
    """What both kinds of feedback have in common."""

    n_factors: int
    regularization: float
    solver: Solver
    cg_steps: int
    max_iter: int
    tol: float
    dtype: DType
    random_state: Any
    memory: Any
    progress: bool | None

    def fit(
        self, X: Any, y: Any = None, *, out: Path | None = None, overwrite: bool = False
    ) -> Any:  # fmt: skip
        """Find the factors.

        Parameters
        ----------
        X : str, path, Ratings, or matrix of shape (users, items)
            What `open_ratings` takes. On a cluster, ratings of more than 100 MB are stored ones.
        y : None
            Not used.
        out : str or path, optional
            A Zarr group to be made. After each half sweep the factors are kept there: the same call
            goes on after a kill, and gives what is there when it is finished.
        overwrite : bool
            Replace what is there.

        Returns
        -------
        estimator
            Itself.

        Raises
        ------
        OptionError
            If a parameter, or a rating, cannot be.
        MemoryBudgetError
            If it does not fit; with the smallest budget that would do.
        NotPositiveDefiniteError
            If a row has no unique solution; without regularisation.

        Warns
        -----
        NotConvergedWarning
            If the loss still fell by more than `tol` when `max_iter` sweeps were done.
        """
        check_options(self)
        require_numba()
        ratings = open_ratings(X)
        self._require(ratings)
        problem = self._problem(ratings.mean)
        fitted = fit(
            ratings, problem, self._settings(self.max_iter), out=out, overwrite=overwrite
        )  # fmt: skip
        self._set(ratings, problem, fitted)
        certificate = fitted.certificate
        if self.tol and not certificate.converged:
            message = f"{type(self).__name__}: {certificate}. Raise max_iter, or tol"
            warnings.warn(message, NotConvergedWarning, stacklevel=2)
        return self

    def partial_fit(
        self, X: Any, y: Any = None, *, sweeps: int = 1, ratings_out: Path | None = None
    ) -> Any:
        """Learn more ratings: from the factors as they are, some sweeps over all ratings.

        Parameters
        ----------
        X : Ratings, sparse matrix, (users, items, values), or iterable of such batches
            The new ratings. Users and items may be new. A rating that was there is replaced; a
            count of implicit feedback is added.
        y : None
            Not used.
        sweeps : int
            How many.
        ratings_out : str or path, optional
            Where all ratings are stored, old and new; needed if the old ones are stored.

        Returns
        -------
        estimator
            Itself.

        Raises
        ------
        OptionError
            If the old ratings are stored, and `ratings_out` is not given.

        Notes
        -----
        Least squares of a user need all of the user's ratings, so that the old ones are read again.
        With sweeps enough it ends where a new fit would, or in another minimum.
        """
        check_options(self)
        if not hasattr(self, "user_factors_"):
            return self.fit(begun(X, out=ratings_out, memory=self.memory))
        if sweeps < 1:
            raise OptionError(f"sweeps is at least 1; found {sweeps}")
        old = self._ratings()
        ratings = grown(
            old, X, duplicates="sum" if self._exact().implicit else "last", out=ratings_out,
            memory=self.memory,
        )  # fmt: skip
        self._require(ratings)
        problem = self._problem(ratings.mean)
        begin = matched(self, ratings, self._settings(sweeps))
        fitted = fit(ratings, problem, self._settings(sweeps), begin=begin)
        self._set(ratings, problem, fitted)
        return self

    def _settings(self, most: int) -> Settings:
        seed, width = _seed(self.random_state), self.n_factors + self._bias_columns()
        parameters = {**self.get_params(), "random_state": seed}
        return Settings(
            type(self).__name__, width, self.dtype, most, self.tol, seed, self.memory,
            self.progress, parameters,
        )  # fmt: skip

    def _set(self, ratings: Ratings, problem: Problem, fitted: Fitted) -> None:
        skip, state = self._bias_columns(), fitted.state
        self.user_factors_ = np.ascontiguousarray(state.users[:, skip:])
        self.item_factors_ = np.ascontiguousarray(state.items[:, skip:])
        self.user_biases_ = _biases(state.users, skip)
        self.item_biases_ = _biases(state.items, skip)
        self.mean_ = problem.mean
        self.user_labels_, self.item_labels_ = ratings.user_labels, ratings.item_labels
        self.ratings_ = ratings
        self.n_features_in_ = len(state.items)
        self.certificate_, self.report_ = fitted.certificate, fitted.report
        self.n_iter_ = len(fitted.certificate.losses) // 2


def _biases(factors: NDArray[Any], skip: int) -> NDArray[Any]:
    return factors[:, 0].copy() if skip else np.zeros(len(factors), factors.dtype)


def _seed(random_state: Any) -> int:
    """Give the seed: None is 0, so that the same call gives the same numbers."""
    if random_state is None:
        return 0
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))

"""Explicit ratings, with biases."""

from __future__ import annotations

from typing import Any

from leptonhpc.recommend.alternating import AlternatingLeastSquares, DType
from leptonhpc.recommend.half_sweeps import Problem, Solver


class ALS(AlternatingLeastSquares):
    """Explicit ratings by alternating least squares, with biases.

    Parameters
    ----------
    n_factors : int
        Length of the factors; zero: biases alone.
    regularization : float
        Factor of the squared length of each row, biases in it.
    weighted : bool
        A row's penalty counts once for each of its ratings [1]_.
    biases : bool
        Fit the mean, and a bias of each user and item [2]_, together with the factors.
    solver : {"cg", "cholesky"}
        Conjugate gradients from where a row was, some steps [3]_, or exactly.
    cg_steps : int
        Steps of conjugate gradients.
    max_iter : int
        Sweeps at most.
    tol : float
        Stop when a sweep takes away no larger share of the loss; zero: never before `max_iter`.
    dtype : {"float32", "float64"}
        Of the factors.
    random_state : int, RandomState or None
        Seed of the factors that items start from; None is 0.
    memory : int, float, str or None
        Budget of each worker, such as "2 GB".
    progress : bool or None
        Show a bar; None: where somebody looks.

    Attributes
    ----------
    user_factors_, item_factors_ : ndarray of shape (users, n_factors), (items, n_factors)
        The factors.
    user_biases_, item_biases_ : ndarray of shape (users,), (items,)
        The biases; zero where none are fitted.
    mean_ : float
        Mean of all ratings; zero where no biases are fitted.
    user_labels_, item_labels_ : ndarray or None
        What users and items are called; None: numbers from 0.
    ratings_ : Ratings
        What it was fitted to.
    certificate_ : AlsCertificate
        Losses, and the gradient, measured.
    report_ : AlsReport
        What it took.
    n_iter_ : int
        Sweeps.
    n_features_in_ : int
        Number of items.

    Notes
    -----
    Minimises the sum over ratings of (r - mean - b_u - c_i - x_u'y_i)^2, and regularization times
    the squared lengths of (b_u, x_u) and (c_i, y_i). A half sweep reads the ratings once; its
    result does not depend on how they are cut into blocks, nor on who solves them.

    References
    ----------
    .. [1] Y. Zhou, D. Wilkinson, R. Schreiber, R. Pan, Large-scale parallel collaborative filtering
       for the Netflix prize, AAIM 2008.
    .. [2] Y. Koren, R. Bell, C. Volinsky, Matrix factorization techniques for recommender systems,
       Computer 42(8), 2009.
    .. [3] G. Takacs, I. Pilaszy, D. Tikk, Applications of the conjugate gradient method for
       implicit feedback collaborative filtering, RecSys 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.recommend import ALS
    >>> ratings = np.array([[5, 4, 0, 1], [4, 5, 1, 0], [1, 0, 5, 4], [0, 1, 4, 5]])
    >>> als = ALS(n_factors=1, regularization=0.1, tol=1e-4, max_iter=100).fit(ratings)
    >>> als.predict([0, 2], [2, 1]).round(1)
    array([1.2, 1.2], dtype=float32)
    """

    def __init__(
        self,
        n_factors: int = 16,
        *,
        regularization: float = 0.1,
        weighted: bool = True,
        biases: bool = True,
        solver: Solver = "cholesky",
        cg_steps: int = 3,
        max_iter: int = 30,
        tol: float = 1e-3,
        dtype: DType = "float32",
        random_state: Any = None,
        memory: Any = None,
        progress: bool | None = False,
    ) -> None:
        self.n_factors = n_factors
        self.regularization = regularization
        self.weighted = weighted
        self.biases = biases
        self.solver = solver
        self.cg_steps = cg_steps
        self.max_iter = max_iter
        self.tol = tol
        self.dtype = dtype
        self.random_state = random_state
        self.memory = memory
        self.progress = progress

    def _bias_columns(self) -> int:
        return int(self.biases)

    def _problem(self, mean: float) -> Problem:
        return Problem(
            False, self.biases, float(self.regularization), self.weighted, 1.0,
            mean if self.biases else 0.0, self.solver, self.cg_steps,
        )  # fmt: skip

"""Implicit feedback: counts, plays, clicks."""

from __future__ import annotations

from typing import Any

from leptonhpc.errors import OptionError
from leptonhpc.recommend.alternating import AlternatingLeastSquares, DType
from leptonhpc.recommend.half_sweeps import Problem, Solver
from leptonhpc.recommend.ratings import Ratings


class ImplicitALS(AlternatingLeastSquares):
    """Implicit feedback (counts, plays, clicks) by alternating least squares.

    Parameters
    ----------
    n_factors : int
        Length of the factors.
    regularization : float
        Factor of the squared length of each row.
    alpha : float
        Confidence of a count of one; of what was not seen it is one.
    solver : {"cg", "cholesky"}
        Conjugate gradients from where a row was, some steps [2]_, or exactly.
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
        Zeros.
    mean_ : float
        Zero.
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
    Minimises the sum over all pairs of c_ui (p_ui - x_u'y_i)^2 [1]_, and regularization times the
    squared lengths of x_u and y_i: p is 1 and c is alpha times the count where there is one; else p
    is 0 and c is 1. These are the conventions of the library implicit: the matrix of a user has the
    weights c - 1 beside Y'Y, the right side c.

    References
    ----------
    .. [1] Y. Hu, Y. Koren, C. Volinsky, Collaborative filtering for implicit feedback datasets,
       ICDM 2008.
    .. [2] G. Takacs, I. Pilaszy, D. Tikk, Applications of the conjugate gradient method for
       implicit feedback collaborative filtering, RecSys 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from leptonhpc.recommend import ImplicitALS
    >>> plays = np.array([[9, 7, 0, 0], [8, 0, 0, 0], [0, 0, 9, 8], [0, 0, 0, 7]])
    >>> als = ImplicitALS(n_factors=2, alpha=1, tol=1e-3).fit(plays)
    >>> als.recommend([1, 3], n=1).items
    array([[1],
           [2]])
    """

    def __init__(
        self,
        n_factors: int = 64,
        *,
        regularization: float = 1.0,
        alpha: float = 2.0,
        solver: Solver = "cg",
        cg_steps: int = 3,
        max_iter: int = 30,
        tol: float = 1e-2,
        dtype: DType = "float32",
        random_state: Any = None,
        memory: Any = None,
        progress: bool | None = False,
    ) -> None:
        self.n_factors = n_factors
        self.regularization = regularization
        self.alpha = alpha
        self.solver = solver
        self.cg_steps = cg_steps
        self.max_iter = max_iter
        self.tol = tol
        self.dtype = dtype
        self.random_state = random_state
        self.memory = memory
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        """Say what scikit-learn may expect."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def _require(self, ratings: Ratings) -> None:
        least = ratings.least
        if least is None or least.value >= 0:
            return
        user = least.user if ratings.user_labels is None else ratings.user_labels[least.user]
        item = least.item if ratings.item_labels is None else ratings.item_labels[least.item]
        message = (
            f"implicit feedback is counted: not negative; {ratings.name} has {least.value:g} of "
            f"user {user!s} and item {item!s}. ALS takes ratings of any sign"
        )
        raise OptionError(message)

    def _problem(self, mean: float) -> Problem:
        return Problem(
            True, False, float(self.regularization), False, float(self.alpha), 0.0, self.solver,
            self.cg_steps,
        )  # fmt: skip

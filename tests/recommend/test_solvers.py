"""Rows solve their least squares, as plain NumPy has them; loss and gradient are what they are."""

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from leptonhpc.errors import NotPositiveDefiniteError
from leptonhpc.recommend.blocks import RatingsBlock
from leptonhpc.recommend.half_sweeps import BlockTask, Problem, gram, solve_block

EPS = {"f4": np.finfo("f4").eps, "f8": np.finfo("f8").eps}
D = 6


def problem(**changes: Any) -> Problem:
    kept = {
        "implicit": False, "biases": False, "regularization": 0.3, "weighted": False,
        "alpha": 2.0, "mean": 0.0, "solver": "cholesky", "steps": 3,
    }  # fmt: skip
    return Problem(**{**kept, **changes})


def normal_equations(
    row: np.ndarray, fixed: np.ndarray, p: Problem
) -> tuple[np.ndarray, np.ndarray, float]:
    """A, b and c of one row of ratings, zeros not rated, by definition."""
    rated = np.flatnonzero(row)
    z = fixed.astype("f8").copy()
    offsets = np.zeros(len(fixed))
    if p.biases:
        offsets, z[:, 0] = z[:, 0].copy(), 1
    penalty = p.regularization * (len(rated) if p.weighted else 1)
    if p.implicit:
        weights, wanted = np.ones(len(row)), (row > 0).astype("f8")
        weights[rated] = p.alpha * row[rated]
    else:
        weights, wanted = (row > 0).astype("f8"), row - p.mean - offsets
    a = (z.T * weights) @ z + penalty * np.eye(z.shape[1])
    return a, z.T @ (weights * wanted), float(np.sum(weights * wanted**2))


def solved(
    ratings: csr_array, fixed: np.ndarray, x: np.ndarray, p: Problem
) -> tuple[np.ndarray, Any]:
    block = RatingsBlock(
        0, ratings.indptr.astype("i8"), ratings.indices.astype("i4"), ratings.data, None
    )
    base = gram(fixed) if p.implicit else np.zeros((0, 0), fixed.dtype)
    return solve_block(BlockTask(block, 0, fixed, base, x, p, "", 0))


CASES = [
    problem(),
    problem(weighted=True),
    problem(biases=True, weighted=True, mean=3.1),
    problem(implicit=True),
    problem(implicit=True, alpha=0.1),  # confidence below that of what was not seen
]


@pytest.mark.parametrize("p", CASES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_cholesky_solves_each_row_and_measures_it(
    ratings: csr_array, rng: np.random.Generator, p: Problem, dtype: str
) -> None:
    fixed = rng.normal(size=(ratings.shape[1], D)).astype(dtype)
    start = rng.normal(size=(ratings.shape[0], D)).astype(dtype)
    x, sums = solved(ratings, fixed, start, p)
    before = after = gradient = 0.0
    for number, row in enumerate(ratings.toarray().astype("f8")):
        if not row.any():
            assert not x[number].any()
            continue
        a, b, c = normal_equations(row, fixed, p)
        expected = np.linalg.solve(a, b)
        # Cholesky in double precision; products and penalties rounded to dtype, and the row itself
        bound = (20 * D * EPS["f8"] + 4 * EPS[dtype]) * np.linalg.cond(a) + EPS[dtype]
        assert np.linalg.norm(x[number] - expected) <= bound * np.linalg.norm(expected)
        old = start[number].astype("f8")
        before += old @ a @ old - 2 * b @ old + c
        after += expected @ a @ expected - 2 * b @ expected + c
        gradient += 4 * np.sum((a @ old - b) ** 2)
    # sums over all terms; offsets and alpha are rounded to dtype
    terms = 10 * ratings.nnz * D * EPS["f8"] + 10 * EPS[dtype]
    assert sums.before == pytest.approx(before, rel=terms)
    assert sums.after == pytest.approx(after, rel=terms)
    assert sums.gradient_before == pytest.approx(gradient, rel=terms)


@pytest.mark.parametrize("p", CASES)
def test_as_many_gradient_steps_as_factors_are_exact(
    ratings: csr_array, rng: np.random.Generator, p: Problem
) -> None:
    from dataclasses import replace

    fixed = rng.normal(size=(ratings.shape[1], D))
    start = rng.normal(size=(ratings.shape[0], D))
    exact, found = solved(ratings, fixed, start, p)
    x, sums = solved(ratings, fixed, start, replace(p, solver="cg", steps=2 * D))
    # conjugate gradients end after D steps; some more mend what rounding did
    assert np.abs(x - exact).max() <= 1e-9 * np.abs(exact).max()
    assert sums.before == pytest.approx(found.before, rel=1e-12)
    assert sums.after == pytest.approx(found.after, rel=1e-9)
    assert sums.gradient_before == pytest.approx(found.gradient_before, rel=1e-12)


@pytest.mark.parametrize("p", CASES)
def test_no_gradient_step_raises_the_loss_and_its_decrease_is_the_measured_one(
    ratings: csr_array, rng: np.random.Generator, p: Problem
) -> None:
    from dataclasses import replace

    fixed = rng.normal(size=(ratings.shape[1], D))
    x = rng.normal(size=(ratings.shape[0], D))
    last = np.inf
    for _ in range(4):
        x, sums = solved(ratings, fixed, x, replace(p, solver="cg", steps=1))
        assert sums.after <= sums.before <= last * (1 + 1e-12)
        if np.isfinite(last):
            assert sums.before == pytest.approx(last, rel=1e-11)
        last = sums.after
    unchanged, measured = solved(ratings, fixed, x, replace(p, steps=0))
    assert np.array_equal(unchanged, x)
    assert measured.after == measured.before == pytest.approx(last, rel=1e-11)


def test_row_without_a_unique_solution_is_named(rng: np.random.Generator) -> None:
    ratings = csr_array(np.array([[1.0, 2, 3, 4], [0, 0, 5, 0]], "f4"))
    fixed = np.eye(4)[:, :3] + 1
    with pytest.raises(NotPositiveDefiniteError, match="row 1 has no unique solution"):
        solved(ratings, fixed, np.zeros((2, 3)), problem(regularization=0.0))

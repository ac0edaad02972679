"""How a ridge problem min |A X - B|^2 + alpha |X|^2 is solved, by the drivers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import leptonhpc as lh
from leptonhpc.blocks import BlockedArray
from leptonhpc.decomposition.products import multiplied
from leptonhpc.decomposition.sources import beside
from leptonhpc.errors import NotPositiveDefiniteError


@dataclass(frozen=True)
class Solution:
    """Coefficients, and what the drivers said."""

    x: NDArray[np.float64]
    """(n, targets)."""
    certificate: Any
    report: Any


def solve_by_gram(
    a: BlockedArray, b: NDArray[np.float64], alphas: NDArray[np.float64], *, tol: float | None,
    most_passes: int, seed: int, memory: Any, progress: bool,
) -> Solution:  # fmt: skip
    """Solve (A^T A + alpha) X = A^T B, or, where A is wide, X = A^T (A A^T + alpha)^-1 B.

    Parameters
    ----------
    a : BlockedArray of shape (m, n)
        Real, float64; read once where it is tall, twice where it is wide.
    b : array of shape (m, targets)
        Right-hand sides.
    alphas : array of shape (targets,)
        Positive.
    tol, most_passes : float or None, int
        Not used.
    seed : int
        Of checks.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool
        Show a bar.

    Returns
    -------
    Solution
        With the certificate of the system of largest error.

    Raises
    ------
    NotPositiveDefiniteError
        If alpha is too small for the Gram matrix to be positive definite in double precision.
    """
    keywords: dict[str, Any] = {"seed": seed, "memory": memory, "progress": progress}
    m, n = a.shape
    if m >= n:
        joined = beside(a, b)  # [A B]^T [A B] holds both products that are needed
        product = lh.matmul(joined.H, joined, **keywords)
        gram = np.asarray(product.product)
        x, certificate = _shifted(gram[:n, :n], gram[:n, n:], alphas, keywords)
        return Solution(x, certificate, product.report)
    product = lh.matmul(a, a.H, **keywords)
    dual, certificate = _shifted(np.asarray(product.product), b, alphas, keywords)
    x = np.asarray(multiplied(a.H, dual, memory=memory, progress=progress))
    return Solution(x, certificate, product.report)


def solve_by_lsmr(
    a: BlockedArray, b: NDArray[np.float64], alphas: NDArray[np.float64], *, tol: float | None,
    most_passes: int, seed: int, memory: Any, progress: bool,
) -> Solution:  # fmt: skip
    """Iterate, with one run for each alpha.

    Parameters
    ----------
    a : BlockedArray of shape (m, n)
        Real.
    b : array of shape (m, targets)
        Right-hand sides.
    alphas : array of shape (targets,)
        From 0.
    tol, most_passes : float or None, int
        As of `leptonhpc.lsmr`.
    seed : int
        Of the sketch.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool
        Show a bar.

    Returns
    -------
    Solution
        With the certificate and report of the run of largest error.
    """

    def run(alpha: float, right: NDArray[np.float64]) -> Any:
        return lh.lsmr(
            a, right, damp=float(np.sqrt(alpha)), tol=tol, most_passes=most_passes, seed=seed,
            memory=memory, progress=progress,
        )  # fmt: skip

    x, worst = _for_each(run, b, alphas)
    return Solution(x, worst.certificate, worst.report)


def solve_by_lstsq(
    a: BlockedArray, b: NDArray[np.float64], alphas: NDArray[np.float64], *, tol: float | None,
    most_passes: int, seed: int, memory: Any, progress: bool,
) -> Solution:  # fmt: skip
    """Solve without penalty, of minimum norm where columns depend on one another.

    Parameters
    ----------
    a : BlockedArray of shape (m, n)
        Real.
    b : array of shape (m, targets)
        Right-hand sides.
    alphas : array of shape (targets,)
        Zeros.
    tol, most_passes : float or None, int
        Not used.
    seed : int
        Of checks.
    memory : int, float, str or None
        Budget of each worker.
    progress : bool
        Show a bar.

    Returns
    -------
    Solution
        The solution.
    """
    result = lh.lstsq(a, b, memory=memory, progress=progress)
    return Solution(np.asarray(result.x), result.certificate, result.report)


SOLVERS: dict[str, Callable[..., Solution]] = {
    "cholesky": solve_by_gram,
    "lsmr": solve_by_lsmr,
    "lstsq": solve_by_lstsq,
}


def _shifted(
    gram: NDArray[np.float64], b: NDArray[np.float64], alphas: NDArray[np.float64],
    keywords: dict[str, Any],
) -> tuple[NDArray[np.float64], Any]:  # fmt: skip
    def run(alpha: float, right: NDArray[np.float64]) -> Any:
        shifted = gram.copy()
        np.einsum("ii->i", shifted)[...] += alpha
        try:
            return lh.solve(shifted, right, assume="pos", **keywords)
        except NotPositiveDefiniteError as error:
            message = (
                f"alpha={alpha} is too small for solver='cholesky', which squares the condition "
                f"number: {error}. Use solver='lsmr'"
            )
            raise NotPositiveDefiniteError(message, error.order) from error

    x, worst = _for_each(run, b, alphas)
    return x, worst.certificate


def _for_each(
    run: Callable[[float, NDArray[np.float64]], Any], b: NDArray[np.float64],
    alphas: NDArray[np.float64],
) -> tuple[NDArray[np.float64], Any]:  # fmt: skip
    """Solve for the targets of each alpha together; give also the worst result."""
    results, parts = [], []
    for alpha in np.unique(alphas):
        columns = np.flatnonzero(alphas == alpha)
        result = run(float(alpha), np.ascontiguousarray(b[:, columns]))
        results.append(result)
        parts.append((columns, np.asarray(result.x)))
    x = np.empty((parts[0][1].shape[0], len(alphas)))
    for columns, values in parts:
        x[:, columns] = values
    return x, max(results, key=lambda result: result.certificate.error)

"""How far answers are from the truth, in NumPy's arithmetic and in units of the input's size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def relative(error: Matrix, scale: Matrix) -> float:
    """Give one norm over another."""
    return float(np.linalg.norm(error) / np.linalg.norm(scale))


def _matmul(a: list[Matrix], r: dict[str, Matrix]) -> float:
    return float(
        np.linalg.norm(r["product"] - a[0] @ a[1])
        / (np.linalg.norm(a[0]) * np.linalg.norm(a[1]))
    )  # fmt: skip


def _svd(a: list[Matrix], r: dict[str, Matrix]) -> float:
    """Exact modes are right to rounding; those of an iteration to the residuals that it says."""
    true = np.linalg.svd(a[0], compute_uv=False)[: len(r["s"])]
    residuals = np.linalg.norm(a[0].T @ r["u"] - r["vh"].T * r["s"], axis=0)
    over = np.maximum(residuals, abs(r["s"] - true)) - r["residuals"]
    return max(float(over.max()) / float(true[0]), _spread(r["u"]), _spread(r["vh"].T))


def _spread(q: Matrix) -> float:
    """Give |Q^T Q - I|."""
    return float(np.linalg.norm(q.T @ q - np.eye(q.shape[1]), 2))


def _inv(a: list[Matrix], r: dict[str, Matrix]) -> float:
    residual = a[0] @ r["x"] - np.eye(len(a[0]))
    return float(np.linalg.norm(residual) / (np.linalg.norm(a[0]) * np.linalg.norm(r["x"])))


def _solve(a: list[Matrix], r: dict[str, Matrix]) -> float:
    residual = a[0] @ r["x"] - a[1]
    return float(np.linalg.norm(residual) / (np.linalg.norm(a[0]) * np.linalg.norm(r["x"])))


def _lstsq(a: list[Matrix], r: dict[str, Matrix]) -> float:
    residual = a[0] @ r["x"] - a[1]
    scale = np.linalg.norm(a[0]) * np.linalg.norm(residual)
    return float(np.linalg.norm(a[0].T @ residual) / scale)


def _eigh(a: list[Matrix], r: dict[str, Matrix]) -> float:
    values, vectors = r["eigenvalues"], r["eigenvectors"]
    true = np.sort(np.linalg.eigvalsh(a[0]))
    return max(
        relative(a[0] @ vectors - vectors * values, a[0]),
        relative(np.sort(values) - true, a[0]),
        _spread(vectors),
    )


def _nmf(a: list[Matrix], r: dict[str, Matrix]) -> float:
    """Which of many stationary points it is, rounding decides: what it says of it must be true."""
    error = np.linalg.norm(a[0] - r["w"] @ r["h"])
    return max(-r["w"].min(), -r["h"].min(), abs(error - r["error"]) / np.linalg.norm(a[0]))


DEPARTURES: dict[str, Callable[[list[Matrix], dict[str, Matrix]], float]] = {
    "matmul": _matmul,
    "svd": _svd,
    "cholesky": lambda a, r: relative(r["l"] @ r["l"].T - a[0], a[0]),
    "lu": lambda a, r: relative(r["l"] @ r["u"] - a[0][r["perm"].astype(int)], a[0]),
    "qr": lambda a, r: max(relative(r["q"] @ r["r"] - a[0], a[0]), _spread(r["q"])),
    "inv": _inv,
    "eigh": _eigh,
    "solve": _solve,
    "cg": _solve,
    "lstsq": _lstsq,
    "lsmr": _lstsq,
    "pinv": lambda a, r: _inv(a, {"x": r["pinv"]}),
    "polar": lambda a, r: max(relative(r["u"] @ r["p"] - a[0], a[0]), _spread(r["u"])),
    "nmf": _nmf,
}
"""By driver: of its input arrays, and of its fields with what its certificate says."""

"""The commands that compute, with the keywords of the functions: one table."""

from __future__ import annotations

import math
from typing import Any

from leptonhpc.cli import options as o
from leptonhpc.cli.commands import Driver
from leptonhpc.cli.running import load_numbers


def read_scale(scale: str | None) -> Any:
    """Give what ``scale=`` takes: None, "std", or the numbers of a file.

    Parameters
    ----------
    scale : str or None
        As the command was given it.

    Returns
    -------
    None, str or ndarray
        The value.
    """
    return scale if scale == "std" else load_numbers(scale, option="--scale")


def read_weights(weights: Any) -> Any:
    """Give what ``weights=`` takes: None, or the numbers of a file.

    Parameters
    ----------
    weights : path or None
        As the command was given it.

    Returns
    -------
    None or ndarray
        The value.
    """
    return load_numbers(weights, option="--weights")


def read_order(order: o.Order) -> Any:
    """Give what ``ord=`` takes: numbers as numbers.

    Parameters
    ----------
    order : {"fro", "1", "-1", "inf", "-inf", "2", "-2", "nuc"}
        As the command was given it.

    Returns
    -------
    str, int or float
        The value.
    """
    numbers: dict[str, float] = {"1": 1, "2": 2, "inf": math.inf}
    sign = -1 if order.startswith("-") else 1
    size = order.removeprefix("-")
    return sign * numbers[size] if size in numbers else order


_SEED = {"seed": (o.Seed, 0)}
_PRECISION = {"precision": (o.PrecisionOption, None), **_SEED}
_DTYPE = {"precision": (o.DtypePrecisionOption, None)}
_X = {"x": o.Array}
_SYSTEM = {"a": o.Matrix, "b": o.Sides}
_PASSES = {"rank": (o.SketchRank, None), "most_passes": (o.Passes, 300), **_SEED}

DRIVERS = (
    Driver(
        "svd", "Factor a matrix as U diag(s) Vh, truncated or in full.", _X,
        {
            "rank": (o.Rank, None), "tol": (o.Tol, None), "variance": (o.Variance, None),
            "compute_uv": (o.ComputeUv, True), "center": (o.Center, False),
            "scale": (o.Scale, None), "weights": (o.Weights, None),
            "missing": (o.MissingOption, "raise"), "method": (o.MethodOption, "auto"),
            "accuracy": (o.Accuracy, 1e-3), "most_passes": (o.MostPasses, 10), **_PRECISION,
        },
        read={"scale": read_scale, "weights": read_weights},
    ),
    Driver(
        "eigh", "Find eigenvalues and eigenvectors of a symmetric or Hermitian matrix.", _X,
        {
            "k": (o.Pairs, None), "which": (o.WhichOption, "largest"), "tol": (o.EighTol, None),
            "method": (o.EighMethodOption, "auto"), "most_passes": (o.Passes, 60), **_DTYPE,
            **_SEED,
        },
    ),
    Driver(
        "nmf", "Factor a matrix as W H, all three without negative numbers.", _X,
        {
            "rank": (o.Components, None), "loss": (o.LossOption, "frobenius"),
            "method": (o.NmfMethodOption, "sweeps"), "init": (o.InitOption, "auto"),
            "w0": (o.FirstW, None), "h0": (o.FirstH, None), "update_h": (o.UpdateH, True),
            "tol": (o.NmfTol, 1e-4), "most_sweeps": (o.MostSweeps, 200), **_DTYPE, **_SEED,
        },
    ),
    Driver(
        "qr", "Factor a matrix as Q R with orthonormal columns of Q, reduced.", _X,
        {"method": (o.QrMethodOption, "auto"), **_PRECISION},
    ),
    Driver("cholesky", "Factor a Hermitian positive definite matrix as L L^H.", _X, _PRECISION),
    Driver("lu", "Factor a matrix as P^T L U, pivoting down whole columns.", _X, _PRECISION),
    Driver(
        "solve", "Solve A X = B.", _SYSTEM,
        {"assume": (o.AssumeOption, "gen"), "precision": (o.SolvePrecisionOption, "full"), **_SEED},
    ),
    Driver(
        "lstsq", "Find X of minimum norm that makes B - A X as small as possible.", _SYSTEM,
        {"rcond": (o.Rcond, None), **_DTYPE},
    ),
    Driver(
        "cg", "Solve (A + shift I) X = B by preconditioned conjugate gradients.", _SYSTEM,
        {"shift": (o.Shift, 0.0), "x0": (o.Guess, None), "tol": (o.ResidualTol, None), **_PASSES},
    ),
    Driver(
        "lsmr", "Minimise |A X - B|^2 + damp^2 |X|^2 by preconditioned LSMR.", _SYSTEM,
        {"damp": (o.Damp, 0.0), "tol": (o.ResidualTol, None), **_PASSES},
    ),
    Driver(
        "matmul", "Multiply two matrices.", {"a": o.Left, "b": o.Right}, _PRECISION,
        required_out=True,
    ),
    Driver(
        "inv", "Invert a matrix. To solve systems use `leptonhpc solve`.", {"a": o.Matrix},
        {"assume": (o.AssumeOption, "gen"), **_PRECISION}, required_out=True,
    ),
    Driver(
        "pinv", "Compute the Moore-Penrose pseudoinverse of a matrix.", _X,
        {"rcond": (o.Rcond, None), **_SEED}, required_out=True,
    ),
    Driver(
        "polar", "Factor a matrix as U P or P U, P Hermitian and semidefinite.", _X,
        {"side": (o.SideOption, "right"), **_SEED},
    ),
    Driver("det", "Give the determinant of a matrix.", _X, _SEED, stored=False, runs="slogdet"),
    Driver(
        "slogdet", "Give sign and logarithm of the determinant of a matrix.", _X, _SEED,
        stored=False,
    ),
    Driver(
        "norm", "Give a norm of a matrix.", _X, {"ord": (o.Ord, "fro"), **_SEED}, stored=False,
        read={"ord": read_order},
    ),
    Driver(
        "cond", "Give the condition number of a matrix.", _X, {"p": (o.NormOfCond, 2)},
        stored=False, read={"p": read_order},
    ),
    Driver(
        "matrix_rank", "Give the rank of a matrix.", _X, {"tol": (o.RankTol, None)}, stored=False
    ),
)  # fmt: skip
"""In the order in which the help lists them."""

PLANNED = tuple(driver for driver in DRIVERS if not driver.runs)
"""Those that can be explained: what `leptonhpc.plan` knows."""

"""The commands that compute: `svd`, `matmul`, `norm`, with the keywords of the functions."""

from __future__ import annotations

import math
from typing import Any

from leptonhpc.cli import options as o
from leptonhpc.cli.running import load_numbers, running


def svd(
    x: o.Array,
    rank: o.Rank = None,
    tol: o.Tol = None,
    variance: o.Variance = None,
    compute_uv: o.ComputeUv = True,
    center: o.Center = False,
    scale: o.Scale = None,
    weights: o.Weights = None,
    missing: o.MissingOption = "raise",
    method: o.MethodOption = "auto",
    accuracy: o.Accuracy = 1e-3,
    most_passes: o.MostPasses = 10,
    seed: o.Seed = 0,
    out: o.Out = None,
    memory: o.Memory = None,
    resume: o.Resume = None,
    overwrite: o.Overwrite = False,
    progress: o.Progress = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Factor a matrix as U diag(s) Vh, truncated or in full."""
    from leptonhpc import svd
    from leptonhpc.cli.results import print_result

    with running(scheduler, out=out, resume=resume, overwrite=overwrite):
        result = svd(
            x, rank=rank, tol=tol, variance=variance, method=method, center=center,
            scale=read_scale(scale), weights=load_numbers(weights, option="--weights"),
            missing=missing, compute_uv=compute_uv, accuracy=accuracy, most_passes=most_passes,
            seed=seed, out=out, memory=memory, resume=resume, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
        print_result(result, out=out, as_json=json)


def matmul(
    a: o.Left,
    b: o.Right,
    out: o.RequiredOut,
    seed: o.Seed = 0,
    memory: o.Memory = None,
    resume: o.Resume = None,
    overwrite: o.Overwrite = False,
    progress: o.Progress = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Multiply two matrices."""
    from leptonhpc import matmul
    from leptonhpc.cli.results import print_result

    with running(scheduler, out=out, resume=resume, overwrite=overwrite):
        result = matmul(
            a, b, seed=seed, out=out, memory=memory, resume=resume, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
        print_result(result, out=out, as_json=json)


def norm(
    x: o.Array,
    ord: o.Ord = "fro",  # noqa: A002  (the array API's name)
    seed: o.Seed = 0,
    memory: o.Memory = None,
    progress: o.Progress = None,
    scheduler: o.Scheduler = None,
    json: o.Json = False,
) -> None:
    """Give a norm of a matrix."""
    from leptonhpc import norm
    from leptonhpc.cli.results import print_result

    with running(scheduler):
        result = norm(x, ord=read_order(ord), memory=memory, seed=seed, progress=progress)
        print_result(result, out=None, as_json=json)


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


def read_order(order: o.Order) -> Any:
    """Give what ``ord=`` takes: numbers as numbers.

    Parameters
    ----------
    order : {"fro", "1", "inf", "2", "nuc"}
        As the command was given it.

    Returns
    -------
    str, int or float
        The value.
    """
    numbers: dict[str, float] = {"1": 1, "2": 2, "inf": math.inf}
    return numbers.get(order, order)

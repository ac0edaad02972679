"""The singular value decomposition of a matrix that a pass gave, as a stage of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.linalg.jobs import Execute
from leptonhpc.linalg.operator import Operator
from leptonhpc.planning import BandLayout, Resources, Stage, Task
from leptonhpc.planning.tasks import StepList

NUMBERS = 8
"""Matrices of its order that a worker holds meanwhile: the matrix here and there, a copy that is
overwritten, U, V^H, and what LAPACK works with."""

_SMALL = 256
"""Up to this order it is done at once: sending it to a worker takes longer."""


def small_svd_stage(
    order: int, layout: BandLayout, resources: Resources, dtype: np.dtype[np.generic]
) -> Stage:
    """Plan U, s and V^H of a matrix that comes with the stage as ``matrix``.

    Parameters
    ----------
    order : int
        Of the matrix.
    layout : BandLayout
        Of the passes: its fixed bytes hold `NUMBERS` such matrices, its bands stay resident.
    resources : Resources
        Rates and cores.
    dtype : dtype
        Of computing.

    Returns
    -------
    Stage
        One task. It is run with ``left``: whether U is asked for.
    """
    flops = (4.0 if dtype.kind == "c" else 1.0) * 22.0 * float(order) ** 3
    task = Task("gesdd", "gesdd", StepList(), 0, flops=flops)
    return Stage(
        "small svd", (task,), 1, 1, resources.threads, chained=False,
        peak_nbytes=layout.peak_nbytes, seconds=flops / resources.rates.eigh_flops,
        resident_nbytes=layout.room_nbytes,
    )  # fmt: skip


def small_svd(
    operator: Operator, execute: Execute, matrix: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Factor a matrix that came of the passes of an operator.

    Parameters
    ----------
    operator : Operator
        Its layout holds what this takes.
    execute : callable
        The runtime.
    matrix : array of shape (k, k)
        In double precision.

    Returns
    -------
    tuple of arrays of shapes (k, k), (k,) and (k, k)
        U, s and V^H.
    """
    if len(matrix) <= _SMALL:
        u, s, vh = np.linalg.svd(matrix)
        return u, s, vh
    stage = small_svd_stage(len(matrix), operator.layout, operator.resources, matrix.dtype)
    stage = replace(stage, name=operator.counter.next(stage.name))
    acc = execute(stage, {"matrix": matrix, "left": True})
    return acc["u"], acc["s"], acc["vh"]

"""A model's worth on stored samples, read in pieces; each rank takes a part of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from leptonhpc.blocks import BlockedArray
from leptonhpc.train.metrics import Score
from leptonhpc.train.objectives import a_parameter, inputs_of, loss_sum, targets_of
from leptonhpc.train.recipe import LossName
from leptonhpc.train.sampling import bounds

_PIECE_NBYTES = 32 << 20
"""Samples that are read at once, about."""


def pieces(x: BlockedArray, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut rows into pieces of whole storage units, about 32 MB each.

    Parameters
    ----------
    x : BlockedArray
        The samples.
    first, last : int
        Which rows.

    Yields
    ------
    tuple of (int, int)
        Start and stop.
    """
    unit = max(1, x.source.unit[0])
    row_nbytes = max(1, x.nbytes // max(1, len(x)))
    rows = unit * max(1, _PIECE_NBYTES // (unit * row_nbytes))
    while first < last:
        stop = min((first // rows + 1) * rows, last)
        yield first, stop
        first = stop


def score_part(
    model: nn.Module, x: BlockedArray, y: BlockedArray, loss: LossName, classes: int,
    *, shares: Sequence[float] = (1.0,), rank: int = 0, counts: bool = True,
    together: bool = False, in_step: bool = False,
) -> Score:  # fmt: skip
    """Score a model on samples, each rank on its part, and add up.

    Parameters
    ----------
    model : torch.nn.Module
        The model, of this rank.
    x, y : BlockedArray
        Samples and targets.
    loss : {"cross_entropy", "mse"}
        Its loss.
    classes : int
        How many there are; for "mse" it is not used.
    shares : sequence of float
        Of each rank, or of groups of ranks that hold a model together.
    rank : int
        Which this is, or which group.
    counts : bool
        Whether this rank's outputs are those of its group.
    together : bool
        Whether all ranks of the process group call this.
    in_step : bool
        Whether all ranks call the model equally often: some then get a sample that does not count.

    Returns
    -------
    Score
        Over all samples, the same on all ranks.
    """
    parts = [list(pieces(x, low, high)) for low, high in pairwise(bounds(len(x), shares))]
    idle = max(map(len, parts)) - len(parts[rank]) if in_step else 0
    counted = classes if loss == "cross_entropy" else 0
    sums = torch.zeros(1 + counted * counted, dtype=torch.float64)
    like, was_training = a_parameter(model), model.training
    model.eval()
    with torch.no_grad():
        for start, stop in parts[rank]:
            outputs = model(inputs_of(_rows(x, start, stop), like))
            if not counts:
                continue
            targets = targets_of(_rows(y, start, stop), loss, like)
            sums[0] += float(loss_sum(loss, outputs, targets))
            if counted:
                cells = targets * classes + outputs.argmax(dim=1)
                sums[1:] += torch.bincount(cells.cpu(), minlength=classes * classes)
        for _ in range(idle):
            model(like.new_zeros((1, *x.shape[1:])))
    model.train(was_training)
    if together:
        dist.all_reduce(sums)
    confusion = sums[1:].numpy().astype(np.int64).reshape(classes, classes) if counted else None
    return Score(float(sums[0]) / len(x), len(x), confusion)


def _rows(array: BlockedArray, start: int, stop: int) -> np.ndarray:
    return array.read(((start, stop), *((0, length) for length in array.shape[1:])))

"""Layers that normalise over a batch, where a rank has fewer samples of it than they need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

LEAST_ROWS = 3
"""Of a full batch, for each rank: rounded, two are left."""


def normalises(model: nn.Module) -> bool:
    """Say whether a model has layers that normalise over a batch."""
    return any(isinstance(layer, _BatchNorm) for layer in model.modules())


def with_least(shares: tuple[float, ...], least: float) -> tuple[float, ...]:
    """Raise what is too small of shares, at the cost of the others.

    Parameters
    ----------
    shares : tuple of float
        They sum to one.
    least : float
        None is smaller then, if there is so much for all; else they are equal.

    Returns
    -------
    tuple of float
        They sum to one, in the same order.

    Examples
    --------
    >>> with_least((0.95, 0.05), 0.1)
    (0.9, 0.1)
    """
    count = len(shares)
    if least * count >= 1:
        return (1 / count,) * count
    over = np.maximum(np.array(shares) - least, 0.0)
    found = least + over * ((1 - count * least) / over.sum())
    return tuple(float(share) for share in found)


@contextmanager
def enough_to_normalise(model: nn.Module, rows: int) -> Iterator[None]:
    """Let layers that would see one value, or samples that do not count, use what they know.

    Parameters
    ----------
    model : torch.nn.Module
        Where it normalises over fewer than two values, it does by the running statistics then,
        and does not change them.
    rows : int
        Samples that count: with none, all such layers do so.

    Yields
    ------
    None
        Inside, the model may be called.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]

    def choose(layer: nn.Module, given: tuple[Any, ...]) -> None:
        if not rows or given[0].numel() == given[0].shape[1]:
            layer.eval()

    handles = [layer.register_forward_pre_hook(choose) for layer in layers]
    try:
        yield
    finally:
        for handle, layer in zip(handles, layers, strict=True):
            handle.remove()
            layer.train()

"""How fast each rank learns, and what part of a batch it therefore takes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from leptonhpc.train.objectives import a_parameter, loss_sum
from leptonhpc.train.recipe import Recipe

_PROBE_SECONDS = 0.3
_WORTHWHILE = 0.1
"""Shares are changed when one is off by more than this part of itself."""


def probe_rate(model: nn.Module, recipe: Recipe) -> float:
    """Measure how many samples a second this process learns from, on a copy of the model.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    recipe : Recipe
        With the loss and the shapes.

    Returns
    -------
    float
        Samples a second, over some tenths of a second.
    """
    return _rate(_trial_step(copy.deepcopy(model), recipe), len(_samples(recipe, model)))


def leaves_unused(model: nn.Module, recipe: Recipe) -> bool:
    """Say whether a model has parameters that its outputs do not depend on; asked by all ranks.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    recipe : Recipe
        With the loss and the shapes.

    Returns
    -------
    bool
        The same on all ranks.
    """
    trial = copy.deepcopy(model)
    _trial_step(trial, recipe)()
    found = any(p.requires_grad and p.grad is None for p in trial.parameters())
    flag = torch.tensor(int(found))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def _trial_step(trial: nn.Module, recipe: Recipe) -> Callable[[], None]:
    """Give a step on made-up samples, which leaves its gradients in the model."""
    like, x = a_parameter(trial), _samples(recipe, trial)
    count = len(x)
    shape = (count,) if recipe.settings.loss == "cross_entropy" else (count, recipe.outputs)
    dtype = torch.int64 if recipe.settings.loss == "cross_entropy" else like.dtype
    y = torch.zeros(shape, dtype=dtype, device=like.device)

    def step() -> None:
        loss: Any = loss_sum(recipe.settings.loss, trial(x), y)
        loss.backward()
        loss.item()  # waits for a GPU

    return step


def forward_rate(model: nn.Module, recipe: Recipe) -> float:
    """Measure how many samples a second go forwards through a model: that needs no copy of it.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed; where it is, it is measured.
    recipe : Recipe
        With the shapes.

    Returns
    -------
    float
        Samples a second, to be compared with those of others alone.
    """
    x, was_training = _samples(recipe, model), model.training
    model.eval()
    with torch.no_grad():
        found = _rate(lambda: model(x).sum().item(), len(x))
    model.train(was_training)
    return found


def _samples(recipe: Recipe, model: nn.Module) -> torch.Tensor:
    count = min(recipe.settings.batch_size, 256)
    return a_parameter(model).new_zeros((count, *recipe.x.shape[1:]), requires_grad=False)


def _rate(step: Callable[[], Any], count: int) -> float:
    step()  # the first one allocates
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < _PROBE_SECONDS:
        step()
        steps += 1
    return count * steps / (time.perf_counter() - began)


def gather_shares(rate: float, world: int, groups: int | None = None) -> tuple[float, ...]:
    """Share out batches in proportion to the rates of all ranks, or of groups of them.

    Parameters
    ----------
    rate : float
        Samples a second of this rank.
    world : int
        Ranks.
    groups : int, optional
        Of as many neighbouring ranks each, as fast as the slowest of them; default: one of each.

    Returns
    -------
    tuple of float
        The share of each group, the same on all ranks; they sum to one.
    """
    groups = world if groups is None else groups
    if groups == 1:
        return (1.0,)
    rates = torch.zeros(world, dtype=torch.float64)
    rates[dist.get_rank()] = rate
    dist.all_reduce(rates)
    return shares_of(rates.numpy(), groups)


def shares_of(rates: NDArray[np.float64], groups: int) -> tuple[float, ...]:
    """Share out batches in proportion to rates.

    Parameters
    ----------
    rates : array of shape (ranks,)
        Samples a second of each.
    groups : int
        Of as many neighbouring ranks each, as fast as the slowest of them.

    Returns
    -------
    tuple of float
        The share of each group, no smaller than a thousandth of the largest; they sum to one.

    Examples
    --------
    >>> shares_of(np.array([300.0, 100.0]), 2)
    (0.75, 0.25)
    """
    slowest = rates.reshape(groups, -1).min(axis=1)
    found = np.maximum(slowest, 1e-3 * slowest.max())
    return tuple(float(share) for share in found / found.sum())


def differ(old: tuple[float, ...], new: tuple[float, ...]) -> bool:
    """Say whether shares changed by so much that they should be used.

    Parameters
    ----------
    old, new : tuple of float
        Shares of each rank.

    Returns
    -------
    bool
        Whether one is off by more than a tenth of itself.
    """
    return any(abs(a - b) > _WORTHWHILE * a for a, b in zip(old, new, strict=True))

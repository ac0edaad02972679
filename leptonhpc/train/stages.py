"""A Sequential cut into neighbouring pieces, so that the slowest is as fast as can be."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from leptonhpc.errors import OptionError

_PROBE_SECONDS = 0.2
"""Of all layers together; each is measured at least three times."""
_LEAST = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """What the units of a model cost on one device."""

    seconds: NDArray[np.float64]
    """(units,): forwards and backwards, of the rows that were tried."""
    rows: int
    shapes: tuple[tuple[int, ...], ...]
    """(units + 1): of one sample, before each unit and after the last."""


def require_units(model: nn.Module, parts: int) -> list[tuple[int, int]]:
    """Give the pieces that a model is not cut inside of: one for each layer that learns.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    parts : int
        Workers that shall have one or more of them each.

    Returns
    -------
    list of (int, int)
        First layer, and the layer after the last. Layers without parameters go with the one before.

    Raises
    ------
    OptionError
        If it is no Sequential, has fewer layers than `parts`, or layers share parameters.
    """
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        message = (
            "a pipeline needs a model that is a torch.nn.Sequential; model_fn() gave "
            f"{type(model).__name__}. Make it one of its layers, or use Layout(kind='tensor', "
            "plan=...), or strategy='hybrid' with Layout(kind='fsdp'), or strategy='data'"
        )
        raise OptionError(message)
    learns = [any(p.requires_grad for p in layer.parameters()) for layer in model]
    starts = [i for i, does in enumerate(learns) if does]
    if len(starts) < parts:
        message = (
            f"a pipeline over {parts} workers needs {parts} layers with parameters; the model has "
            f"{len(starts)}. Pass workers={max(1, len(starts))}, or Layout(parts="
            f"{max(1, len(starts))}), or use strategy='data'"
        )
        raise OptionError(message)
    units = list(zip([0, *starts[1:]], [*starts[1:], len(model)], strict=True))
    owner: dict[int, int] = {}
    for unit, (first, last) in enumerate(units):
        for parameter in model[first:last].parameters():
            if owner.setdefault(id(parameter), unit) != unit and parts > 1:
                message = (
                    f"layers {units[owner[id(parameter)]][0]} and {first} share a parameter: they "
                    "cannot be on two workers. Use strategy='data', or Layout(kind='fsdp')"
                )
                raise OptionError(message)
    return units


def balance(seconds: NDArray[np.float64]) -> tuple[int, ...]:
    """Cut units into one piece for each worker, so that the slowest piece takes least.

    Parameters
    ----------
    seconds : array of shape (workers, units)
        What each unit costs on each worker.

    Returns
    -------
    tuple of int
        From 0 to `units`, one more than there are workers; no piece is empty.

    Notes
    -----
    Dynamic programming over (workers, units): T[w, j] = min over i of max(T[w-1, i], seconds of
    units i to j on worker w). O(workers units^2).

    Examples
    --------
    >>> import numpy as np
    >>> balance(np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0]]))
    (0, 3, 4)
    """
    workers, units = seconds.shape
    sums = np.concatenate([np.zeros((workers, 1)), np.cumsum(seconds, axis=1)], axis=1)
    best = np.full((workers + 1, units + 1), np.inf)
    best[0, 0] = 0.0
    before = np.zeros((workers + 1, units + 1), int)
    for w in range(workers):
        for j in range(w + 1, units + 1):
            slowest = np.maximum(best[w, :j], sums[w, j] - sums[w, :j])
            before[w + 1, j] = int(np.argmin(slowest))
            best[w + 1, j] = slowest[before[w + 1, j]]
    cuts = [units]
    for w in range(workers, 0, -1):
        cuts.append(int(before[w, cuts[-1]]))
    return tuple(reversed(cuts))


def measure(
    model: nn.Sequential, units: list[tuple[int, int]], x: Tensor,
    after_unit: Callable[[], None] = lambda: None,
) -> Measured:  # fmt: skip
    """Time each unit, forwards and backwards, on the device of the samples, one after the other.

    Parameters
    ----------
    model : torch.nn.Sequential
        It is not changed: copies of its units are tried.
    units : list of (int, int)
        As `require_units` gives them.
    x : tensor of shape (rows, ...)
        Samples.
    after_unit : callable
        Called when a unit was tried.

    Returns
    -------
    Measured
        Seconds and shapes.

    Raises
    ------
    OptionError
        If a layer does not give one tensor with a row for each sample.
    """
    seconds, shapes = [], [tuple(x.shape[1:])]
    for first, last in units:
        unit = copy.deepcopy(model[first:last]).to(x.device)
        given: Any = unit(x)
        if not isinstance(given, Tensor) or given.ndim < 1 or len(given) != len(x):
            message = (
                f"a pipeline needs layers that give one tensor with a row for each sample; layer "
                f"{last - 1} ({type(model[last - 1]).__name__}) does not. Use strategy='data'"
            )
            raise OptionError(message)
        seconds.append(_seconds(unit, x, _PROBE_SECONDS / len(units)))
        x = given.detach()
        shapes.append(tuple(x.shape[1:]))
        after_unit()
    return Measured(np.array(seconds), len(x), tuple(shapes))


def _seconds(unit: nn.Module, x: Tensor, budget: float) -> float:
    """Give the least of some tries: what disturbs a measurement only ever adds to it."""
    found: list[float] = []
    while len(found) < _LEAST or sum(found) < budget:
        began = time.perf_counter()
        total: Any = unit(x.detach().requires_grad_()).sum()
        total.backward()
        total.item()  # waits for a GPU
        found.append(time.perf_counter() - began)
    return max(min(found), 1e-9)

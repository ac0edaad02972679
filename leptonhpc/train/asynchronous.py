"""Training without a step in common: each worker gives its gradients when it has them."""

from __future__ import annotations

import functools
import time
from typing import Any

import torch

from leptonhpc.cluster.gangs import GangLimits
from leptonhpc.cluster.gangs_free import FreeOutcome, run_freely
from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.errors import OptionError
from leptonhpc.runtime import connected_client
from leptonhpc.runtime.progress import Progress
from leptonhpc.train.checkpoints import State, from_bytes
from leptonhpc.train.parameter_server import ParameterServer
from leptonhpc.train.recipe import Recipe
from leptonhpc.train.result import TrainReport, TrainResult
from leptonhpc.train.running import Shown, finish, require_sendable, seeded_model
from leptonhpc.train.scoring import score_part
from leptonhpc.train.sending import Sendable
from leptonhpc.train.trainers import train_freely

HERE = "this process"
_DTYPES = torch.float64, torch.float32, torch.float16
"""Of parameters: as NumPy has them."""


def run_async(
    recipe: Recipe, most_age: int | None, limits: GangLimits, bar: Progress, began: float
) -> TrainResult:
    """Train with a parameter server, on the connected cluster or here.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    most_age : int or None
        Updates that a gradient may be old when it is applied.
    limits : GangLimits
        How many workers, and how long an answer may take.
    bar : Progress
        Shows how far it is.
    began : float
        When `fit` was called.

    Returns
    -------
    TrainResult
        The outcome.

    Raises
    ------
    OptionError
        If the model or the settings are not for this strategy.
    """
    require_for_async(recipe, most_age)
    make = functools.partial(ParameterServer, recipe, most_age)
    client = connected_client()
    if client is None:
        server = make()
        seat = Seat(tell=Shown(bar, recipe))
        samples = train_freely(seat, functools.partial(_call, server), HERE, recipe)
        found = FreeOutcome(server.outcome(), {HERE: samples}, 0, 0, 0)
    else:
        require_sendable(recipe)
        hear = Shown(bar, recipe)
        main = Sendable(train_freely)
        found = run_freely(client, make, main, recipe, limits=limits, hear=hear)
    return _result_of(recipe, found, began, on_cluster=client is not None)


def _call(server: ParameterServer, method: str, *values: Any) -> Any:
    return getattr(server, method)(*values)


def require_for_async(recipe: Recipe, most_age: int | None) -> None:
    """Refuse what cannot be trained without a common step.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    most_age : int or None
        Updates that a gradient may be old when it is applied.

    Raises
    ------
    OptionError
        If the model or the settings are not for this strategy.
    """
    settings = recipe.settings
    if settings.compression == "powersgd":
        message = "compression='powersgd' needs workers in step; use 'topk' or 'fp16', or 'data'"
        raise OptionError(message)
    if settings.local_steps > 1 or settings.patience is not None:
        message = "strategy='async' takes neither local_steps nor patience; use strategy='data'"
        raise OptionError(message)
    model = seeded_model(recipe.model_fn, settings.seed)
    for name, parameter in model.named_parameters():
        if parameter.dtype not in _DTYPES:
            message = (
                f"strategy='async' sends parameters in double, single or half precision; {name} is "
                f"{parameter.dtype}. Use another dtype, or strategy='data'"
            )
            raise OptionError(message)
    buffers = [name for name, buffer in model.named_buffers() if buffer.is_floating_point()]
    if buffers:
        message = (
            f"strategy='async' shares parameters alone; the model has buffers too ({buffers[0]}), "
            "as normalisation over the batch has. Use another normalisation, or strategy='data'"
        )
        raise OptionError(message)


def _result_of(
    recipe: Recipe, found: FreeOutcome, began: float, *, on_cluster: bool
) -> TrainResult:
    state = State(**from_bytes(found.value["state"]))
    model = seeded_model(recipe.model_fn, recipe.settings.seed)
    model.load_state_dict(state.model)
    if recipe.validation is not None and state.history:
        state.history[-1] |= _validated(model, recipe)
    samples = tuple(found.given.values())
    total = max(1, sum(samples))
    report = TrainReport(
        "async", state.seconds, time.perf_counter() - began, len(samples),
        tuple(found.given) if on_cluster else (), tuple(n / total for n in samples), samples,
        sent_nbytes=found.value["received_nbytes"], restarts=found.restarts,
        regroups=found.joined, staleness=found.value["staleness"],
        inference_seconds=state.inference_seconds,
    )  # fmt: skip
    return finish(recipe, state, report, model)


def _validated(model: torch.nn.Module, recipe: Recipe) -> dict[str, Any]:
    assert recipe.validation is not None
    began = time.perf_counter()
    score = score_part(model, *recipe.validation, recipe.settings.loss, recipe.outputs)
    named = {**score.to_dict(), "seconds": time.perf_counter() - began}
    del named["samples"]
    return {f"validation_{name}": value for name, value in named.items()}

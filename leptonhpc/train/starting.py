"""Training that goes on from what an earlier one gave, on other samples."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch

from leptonhpc.errors import OptionError
from leptonhpc.train.checkpoints import to_bytes
from leptonhpc.train.recipe import Settings, Start
from leptonhpc.train.result import TrainResult


def start_from(found: Any, model: torch.nn.Module, settings: Settings) -> Start:
    """Check what to go on from.

    Parameters
    ----------
    found : TrainResult
        What an earlier run gave.
    model : torch.nn.Module
        As `model_fn` makes it.
    settings : Settings
        Of this run; its rates count, not those of the earlier one.

    Returns
    -------
    Start
        Model and optimiser; that one begins anew if it is another.

    Raises
    ------
    OptionError
        If `found` is none, or of another model.
    """
    if not isinstance(found, TrainResult):
        message = f"start is what an earlier fit gave, a TrainResult; found {type(found).__name__}"
        raise OptionError(message)
    trained = {name: value.detach().clone() for name, value in found.model.state_dict().items()}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in trained.items()}
    if shapes != given:
        message = f"start= is of a model with {given}; model_fn() makes one with {shapes}"
        raise OptionError(message)
    optimiser = _with_rates(found.optimiser, settings)
    written = to_bytes({"model": trained, "optimiser": optimiser})
    return Start(trained, optimiser, hashlib.sha256(written).hexdigest()[:16])


def _with_rates(optimiser: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Give the state with this run's rates; of another optimiser, nothing."""
    optimiser = copy.deepcopy(optimiser)  # else training would go on in what was given
    groups = optimiser.get("param_groups", [])
    for group in groups:
        kind = "adam" if "betas" in group else "momentum" if group["momentum"] else "sgd"
        if kind != settings.optimiser:
            return {}
        group["lr"] = settings.learning_rate
        if kind == "momentum":
            group["momentum"] = settings.momentum
    return optimiser

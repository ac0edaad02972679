"""What a rank holds of the model, and what a step is with it: here, all of it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.errors import NonFiniteError
from leptonhpc.train.checkpoints import State
from leptonhpc.train.compression import Meter
from leptonhpc.train.making import load_into
from leptonhpc.train.metrics import Score
from leptonhpc.train.normalising import enough_to_normalise, normalises
from leptonhpc.train.objectives import a_parameter, inputs_of, loss_sum, make_optimiser, targets_of
from leptonhpc.train.reading import Batch
from leptonhpc.train.recipe import Recipe
from leptonhpc.train.replicas import divergence, replicas_of
from leptonhpc.train.scoring import score_part
from leptonhpc.train.speeds import leaves_unused, probe_rate


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step gave on one rank."""

    loss: float
    """Sum over the samples that this rank answers for."""
    seconds: float
    """Until the rank, and those that hold the model with it, had their gradients."""


class Holding(Protocol):
    """A rank's part of the model; ranks that hold one model together are a group."""

    meter: Meter
    groups: int
    """How many models there are."""
    group: int
    """Which of them this rank has a part of."""
    draws: int
    """What its dropout is drawn from: ranks that have the same activations drop the same."""
    answers: bool
    """Whether its losses are those of its group: one rank of each does."""
    reads: tuple[bool, bool]
    """Whether it needs samples, and targets."""
    rate: float
    """Samples a second of its group, as this rank measured it."""
    normalises: bool
    """Whether its layers need some samples of each batch."""
    may_balance: bool
    """Whether the seconds of steps tell one group's speed from another's."""

    def begin(self, shares: tuple[float, ...]) -> None:
        """Take batches of new sizes: shares of the groups."""

    def step(self, batch: Batch, epoch: int) -> Stepped:
        """Learn from a batch."""

    def settle(self, share: float) -> None:
        """Make the models of all groups the same now."""

    def scored(self, shares: tuple[float, ...]) -> Score:
        """Score the validation samples; called by all ranks together."""

    def collected(self) -> dict[str, torch.Tensor]:
        """Give the state of the whole model, on rank 0; called by all together."""

    def optimiser_state(self) -> dict[str, Any]:
        """Give the state of the whole model's optimiser, on rank 0; called by all together."""

    def divergence(self) -> float:
        """Measure how far the parameters of groups are from each other."""

    def held(self) -> str:
        """Say what of the model this rank has."""


class Whole:
    """Each rank has all of the model.

    Parameters
    ----------
    model : torch.nn.Module
        With the parameters to begin from.
    optimiser_state : dict
        To go on from; empty: none.
    recipe : Recipe
        What is trained.
    rank, world : int
        Which rank this is, and of how many.
    """

    answers, reads, may_balance = True, (True, True), True

    def __init__(
        self, model: nn.Module, optimiser_state: dict[str, Any], recipe: Recipe,
        rank: int, world: int,
    ) -> None:  # fmt: skip
        self._recipe = recipe
        self._model = model.to(device_of_rank())
        self._optimiser = make_optimiser(recipe.settings, self._model)
        if optimiser_state:
            self._optimiser.load_state_dict(optimiser_state)
        self._like = a_parameter(self._model)
        self.normalises = normalises(self._model)
        self.groups, self.group, self.draws = world, rank, rank
        self.rate = probe_rate(self._model, recipe) if world > 1 else 1.0
        self._replicas = replicas_of(
            self._model, world, recipe.settings, lambda: leaves_unused(self._model, recipe)
        )
        self.meter = self._replicas.meter
        self._share = 1.0
        self._model.train()

    def begin(self, shares: tuple[float, ...]) -> None:
        """Note the share."""
        self._share = shares[self.group]

    def step(self, batch: Batch, epoch: int) -> Stepped:
        """Learn from the rank's part, in step with the others."""
        began = time.perf_counter()
        self._optimiser.zero_grad()
        loss = part_loss(self._replicas.model, batch, self._recipe, self._like)
        require_finite(value := loss.item(), batch, epoch, self._recipe)
        scaled: Any = loss * self._replicas.weight(len(batch.rows), batch.total)
        scaled.backward()
        self._optimiser.step()
        self._replicas.after_step(self._share)
        return Stepped(value, (self.meter.ready_at or time.perf_counter()) - began)

    def settle(self, share: float) -> None:
        """Average what local steps made."""
        self._replicas.settle(share)

    def scored(self, shares: tuple[float, ...]) -> Score:
        """Score the rank's share of the validation samples."""
        return validated(self._model, self._recipe, shares, self.group, together=self.groups > 1)

    def collected(self) -> dict[str, torch.Tensor]:
        """Copy it to the host."""
        if self.group:
            return {}
        found = self._model.state_dict()
        return {name: value.detach().cpu().clone() for name, value in found.items()}

    def optimiser_state(self) -> dict[str, Any]:
        """Give it as it is."""
        return self._optimiser.state_dict()

    def divergence(self) -> float:
        """Compare all parameters."""
        return divergence(self._model, self.groups)

    def held(self) -> str:
        """Say that it is all."""
        return "all"


def hold(recipe: Recipe, state: State, seat: Seat) -> Holding:
    """Take a rank's part of a model; called by all ranks together.

    Parameters
    ----------
    recipe : Recipe
        With the model, the strategy and the layout.
    state : State
        To go on from.
    seat : Seat
        Which rank this is, and of how many.

    Returns
    -------
    Holding
        What the rank has.
    """
    layout, world = recipe.layout, seat.world
    if layout is None or world == 1:
        torch.manual_seed(recipe.settings.seed)
        model = recipe.model_fn()
        if state.model:
            load_into(model, state.model)
        return Whole(model, state.optimiser, recipe, seat.rank, world)
    from leptonhpc.train.groups import Groups
    from leptonhpc.train.making import laid_model

    parts = min(layout.parts or world, world)  # a pipeline goes on with fewer
    groups = Groups(seat.rank, world, parts)
    laid, file = laid_model(recipe.model_fn, recipe.settings.seed, state.model)
    if layout.kind == "fsdp":
        from leptonhpc.train.sharded import FullyShard

        return FullyShard(laid, file, state.optimiser, recipe, groups)
    if layout.kind == "tensor":
        from leptonhpc.train.sharded import TensorParallel

        return TensorParallel(laid, file, state.optimiser, recipe, layout, groups)
    from leptonhpc.train.pipelines import Pipelined

    sequential = cast("nn.Sequential", laid)
    return Pipelined(sequential, file, state.optimiser, recipe, layout, groups)


def validated(
    model: nn.Module, recipe: Recipe, shares: tuple[float, ...], group: int, **how: bool
) -> Score:
    """Score a group's share of the validation samples.

    Parameters
    ----------
    model : torch.nn.Module
        What to call.
    recipe : Recipe
        With the samples.
    shares : tuple of float
        Of the groups.
    group : int
        Which this is.
    **how : bool
        As `score_part` takes it.

    Returns
    -------
    Score
        Over all samples, the same on all ranks.
    """
    assert recipe.validation is not None
    x, y = recipe.validation
    return score_part(
        model, x, y, recipe.settings.loss, recipe.outputs, shares=shares, rank=group, **how
    )


def device_of_rank() -> str:
    """Name the device that a rank of this process uses."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def part_loss(model: nn.Module, batch: Batch, recipe: Recipe, like: torch.Tensor) -> torch.Tensor:
    """Sum the losses of a rank's part of a batch.

    Parameters
    ----------
    model : torch.nn.Module
        The model.
    batch : Batch
        With the part.
    recipe : Recipe
        With the loss.
    like : tensor
        Of the dtype and on the device of the samples.

    Returns
    -------
    tensor of shape ()
        Of an empty part: zero, with zero gradients.
    """
    x, y = batch.x, batch.y
    if empty := not len(batch.rows):
        # two: layers that normalise over a batch refuse one
        x, y = np.zeros((2, *x.shape[1:]), x.dtype), np.zeros((2, *y.shape[1:]), y.dtype)
    name, few = recipe.settings.loss, len(batch.rows) < 2
    # one sample of a full batch is refused by layers that normalise: no epoch would teach them
    is_short = empty or batch.total < recipe.order.batch
    with enough_to_normalise(model, len(batch.rows)) if few and is_short else nullcontext():
        outputs = model(inputs_of(x, like))
    loss = loss_sum(name, outputs, targets_of(y, name, like))
    return loss * 0.0 if empty else loss


def require_finite(value: float, batch: Batch, epoch: int, recipe: Recipe) -> None:
    """Refuse to go on with a loss that is no number.

    Parameters
    ----------
    value : float
        The loss.
    batch : Batch
        Of which samples.
    epoch : int
        Counted from 0.
    recipe : Recipe
        What is trained.

    Raises
    ------
    NonFiniteError
        If it is NaN or infinite; the message names epoch and batch.
    """
    if np.isfinite(value) or not len(batch.rows):
        return
    message = (
        f"the loss is {value} in epoch {epoch + 1}, batch {batch.index + 1} of "
        f"{recipe.order.batches} (rows {batch.rows[0]} to {batch.rows[-1]} among them). Use a "
        f"smaller learning_rate than {recipe.settings.learning_rate:g}, and look for NaN in the "
        "samples"
    )
    raise NonFiniteError(message)

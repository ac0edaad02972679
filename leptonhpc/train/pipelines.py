"""A model over several ranks, a stage of layers on each; micro-batches go through one by one."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from leptonhpc.train.groups import Groups, probe_samples
from leptonhpc.train.holdings import Stepped, device_of_rank, require_finite, validated
from leptonhpc.train.layout import Layout
from leptonhpc.train.making import Laid
from leptonhpc.train.metrics import Score
from leptonhpc.train.objectives import inputs_of, loss_sum, targets_of
from leptonhpc.train.parts import Part
from leptonhpc.train.reading import Batch
from leptonhpc.train.recipe import Recipe
from leptonhpc.train.sampling import bounds
from leptonhpc.train.stages import balance, measure, require_units

_NO_CLASS = -1
"""Label of a sample that fills a micro-batch up and does not count; of numbers, NaN says so."""


class Pipelined(Part):
    """Each rank of a group has a stage of the model.

    Parameters
    ----------
    model : torch.nn.Sequential
        The whole model, with the parameters to begin from.
    laid : Laid
        The file that they are in.
    optimiser_state : dict
        Of the whole, to go on from; empty: none.
    recipe : Recipe
        What is trained.
    layout : Layout
        With schedule and micro-batches.
    groups : Groups
        Who holds a model with whom.

    References
    ----------
    Y. Huang et al., GPipe, NeurIPS 2019; D. Narayanan et al., PipeDream, SOSP 2019, section 3.2.
    """

    may_balance = True

    def __init__(
        self, model: nn.Sequential, laid: Laid, optimiser_state: dict[str, Any], recipe: Recipe,
        layout: Layout, groups: Groups,
    ) -> None:  # fmt: skip
        super().__init__(model, recipe, groups)
        self._layout, self._device = layout, torch.device(device_of_rank())
        self.groups, self.group = groups.count, groups.index
        self.draws = groups.index * groups.parts + groups.part
        self._choose_stages(model, laid)
        self.answers = groups.part == groups.parts - 1
        self.reads = groups.part == 0, self.answers
        self._layers = [name for name, _ in model.named_children()]
        first, end = self._cuts[groups.part], self._cuts[groups.part + 1]
        stage = nn.Sequential()
        for name in self._layers[first:end]:
            stage.add_module(name, copy.deepcopy(model.get_submodule(name)))
        self._begin(stage.to(self._device).train(), optimiser_state)
        laid.send_out()
        self._rows = 0
        self._schedule: Any = None

    def _choose_stages(self, model: nn.Sequential, laid: Laid) -> None:
        """Measure all units on all ranks, and cut where the slowest stage takes least."""
        units = require_units(model, self._groups.parts)
        x = probe_samples(model, self._recipe).to(self._device)
        found = measure(model.train(), units, x, laid.send_out)
        seconds = self._groups.gather(found.seconds)  # (groups, parts, units)
        stages = balance(seconds.max(axis=0))  # the same in all groups: they average gradients
        self._cuts = [units[at][0] for at in stages[:-1]] + [units[-1][1]]
        self._shapes = [found.shapes[at] for at in stages]
        own = seconds[self.group]
        slowest = max(
            own[part, stages[part] : stages[part + 1]].sum() for part in range(self._groups.parts)
        )
        self.rate = found.rows / slowest

    def _own_part(self, parameter: Tensor, value: Tensor) -> Tensor:
        return value.to(self._device, copy=True)

    # -- steps

    def begin(self, shares: tuple[float, ...]) -> None:
        """Choose the rows of a micro-batch: they stay the same, whatever a batch has."""
        order = self._recipe.order
        last = order.rows - order.batch * (order.batches - 1)
        most = max(
            bounds(size, shares)[self.group + 1] - bounds(size, shares)[self.group]
            for size in (order.batch, last)
        )
        pieces = max(self._layout.micro_batches, self._groups.parts)
        rows = max(1, -(-most // pieces))
        if rows == self._rows:
            return
        self._rows, self._pieces = rows, pieces
        part = self._groups.part
        shapes = [(rows, *shape) for shape in self._shapes[part : part + 2]]
        given, made = (
            torch.empty(shape, dtype=self._like.dtype, device="meta", requires_grad=needs)
            for shape, needs in zip(shapes, (part > 0, True), strict=True)
        )
        stage = PipelineStage(
            self._module, part, self._groups.parts, self._device, input_args=given,
            output_args=made, group=self._groups.members,
        )  # fmt: skip
        kind: Any = Schedule1F1B if self._layout.schedule == "1f1b" else ScheduleGPipe
        self._schedule = kind(stage, pieces, loss_fn=self._mean_loss, scale_grads=False)
        sent = (part > 0) * shapes[0][1:], (not self.answers) * shapes[1][1:]
        values = sum(int(np.prod(shape)) for shape in sent if shape)
        self._sent_nbytes = pieces * rows * values * self._like.element_size()

    def _mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum the losses of samples that count, over the number of the whole batch's."""
        counts = targets != _NO_CLASS
        if targets.is_floating_point():
            counts = ~targets.isnan().reshape(len(targets), -1)[:, 0]
        name = self._recipe.settings.loss
        return loss_sum(name, outputs[counts], targets[counts]) / self._total

    def step(self, batch: Batch, epoch: int) -> Stepped:
        """Let the micro-batches through, and average the gradients of the groups."""
        began = time.perf_counter()
        self._optimiser.zero_grad()
        self._total = batch.total
        losses: list[Tensor] = []
        given = self._padded_samples(batch) if self._groups.part == 0 else ()
        target = self._padded_targets(batch) if self.answers else None
        self._run(given, target, losses)
        loss = float(torch.stack([each.detach() for each in losses]).sum()) if losses else 0.0
        if self.answers:
            require_finite(loss, batch, epoch, self._recipe)
        seconds = time.perf_counter() - began
        self.meter.sent_nbytes += self._sent_nbytes
        self.meter.sent_nbytes += self._groups.add_gradients(self._module)
        self._optimiser.step()
        return Stepped(loss * batch.total, seconds)

    def _run(self, given: tuple[Tensor, ...], target: Tensor | None, losses: list[Tensor]) -> None:
        try:
            self._schedule.step(*given, target=target, losses=losses, return_outputs=False)
            return
        except RuntimeError as error:
            if "failed to run" not in str(error) or error.__cause__ is None:
                raise
            raised = error.__cause__  # torch wraps what a layer raises
        raise raised  # out here: else each would be the other's cause, which cannot be pickled

    def _padded_samples(self, batch: Batch) -> tuple[Tensor]:
        """Fill up with samples of the batch: layers that normalise see no others."""
        rows, x = self._rows * self._pieces, batch.x
        x = x[np.arange(rows) % len(x)] if len(x) else np.zeros((rows, *x.shape[1:]), x.dtype)
        return (inputs_of(x, self._like),)

    def _padded_targets(self, batch: Batch) -> Tensor:
        targets = targets_of(batch.y, self._recipe.settings.loss, self._like)
        none = float("nan") if targets.is_floating_point() else _NO_CLASS
        filled = targets.new_full((self._rows * self._pieces, *targets.shape[1:]), none)
        filled[: len(targets)] = targets
        return filled

    # -- the whole

    def scored(self, shares: tuple[float, ...]) -> Score:
        """Let validation samples through the stages, as many as the group's share."""
        part, parts = self._groups.part, self._groups.parts
        first = self._groups.index * parts
        before = None if part == 0 else (first + part - 1, self._shapes[part])
        after = None if self.answers else first + part + 1
        through = _Through(self._module, self._like, before, after)
        return validated(
            through, self._recipe, shares, self.group, counts=self.answers, together=True
        )

    def _together(self, name: str, value: Tensor | None, like: Tensor) -> Tensor:
        layer = self._layers.index(name.partition(".")[0])
        owner = int(np.searchsorted(self._cuts, layer, side="right")) - 1
        return self._groups.broadcast(value, like, owner)

    def held(self) -> str:
        """Name the layers."""
        return f"layers {self._cuts[self._groups.part]} to {self._cuts[self._groups.part + 1] - 1}"


class _Through(nn.Module):
    """A stage between two ranks, forwards alone: outputs are those of the model on the last one."""

    def __init__(
        self, stage: nn.Module, like: Tensor, before: tuple[int, tuple[int, ...]] | None,
        after: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._stage, self._like, self._before, self._after = stage, like, before, after

    def forward(self, x: Tensor) -> Tensor:
        """Take what the rank before made of the samples, and give it on."""
        if self._before is not None:
            rank, shape = self._before
            x = self._like.new_empty((len(x), *shape))
            dist.recv(x, rank)
        made: Tensor = self._stage(x)
        if self._after is not None:
            dist.send(made.contiguous(), self._after)
        return made

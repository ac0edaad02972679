"""A model whose parameters are divided over ranks: columns and rows of matrices, or all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from leptonhpc.errors import OptionError
from leptonhpc.train.cuts import plan_cuts
from leptonhpc.train.groups import Groups, probe_samples
from leptonhpc.train.holdings import (
    Stepped,
    device_of_rank,
    part_loss,
    require_finite,
    validated,
)
from leptonhpc.train.layout import Cut, Layout
from leptonhpc.train.making import Laid
from leptonhpc.train.metrics import Score
from leptonhpc.train.parts import Part
from leptonhpc.train.reading import Batch
from leptonhpc.train.recipe import Recipe
from leptonhpc.train.speeds import forward_rate


class _Sharded(Part):
    """What is the same for both ways to divide parameters: they are torch's DTensors."""

    _weight: int
    """Ranks over whose gradients torch takes the mean."""

    def __init__(
        self, model: nn.Module, laid: Laid, optimiser_state: dict[str, Any], recipe: Recipe,
        groups: Groups,
    ) -> None:  # fmt: skip
        super().__init__(model, recipe, groups)
        self.rate = forward_rate(model.train(), recipe)
        laid.send_out()
        self._divide(model)
        _lift(model, laid)
        self._begin(model.to(device_of_rank()), optimiser_state)
        for options in self._optimiser.param_groups:
            options["foreach"] = False  # divided and undivided ones are no one list

    def _divide(self, model: nn.Module) -> None:
        raise NotImplementedError

    def _send_gradients(self) -> None:
        raise NotImplementedError

    def _own_part(self, parameter: Tensor, value: Tensor) -> Tensor:
        if not isinstance(parameter, DTensor):
            return value.to(parameter.device, copy=True)
        value = value.to(parameter.to_local().device)
        mesh, placements = parameter.device_mesh, parameter.placements
        return distribute_tensor(value, mesh, placements, src_data_rank=None).clone()

    def _together(self, name: str, value: Tensor | None, like: Tensor) -> Tensor:
        if value is None:  # the optimiser kept nothing of it, on no rank
            return torch.zeros_like(like, device="cpu")
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        return whole.detach().cpu().clone()

    def begin(self, shares: tuple[float, ...]) -> None:
        """Do nothing: batches may have any size."""

    def step(self, batch: Batch, epoch: int) -> Stepped:
        """Learn from the group's part."""
        began = time.perf_counter()
        self._optimiser.zero_grad()
        loss = part_loss(self._module, batch, self._recipe, self._like)
        require_finite(value := loss.item(), batch, epoch, self._recipe)
        scaled: Any = loss * (self._weight / batch.total)
        scaled.backward()
        seconds = time.perf_counter() - began
        self._send_gradients()
        self._optimiser.step()
        return Stepped(value, seconds)


class TensorParallel(_Sharded):
    """Matrices of a model divided by columns and rows over the ranks of a group.

    Parameters
    ----------
    model : torch.nn.Module
        The whole model, with the parameters to begin from; it is divided in place.
    laid : Laid
        The file that they are in.
    optimiser_state : dict
        Of the whole, to go on from; empty: none.
    recipe : Recipe
        What is trained.
    layout : Layout
        With the plan.
    groups : Groups
        Who holds a model with whom.
    """

    may_balance = True
    _weight = 1

    def __init__(
        self, model: nn.Module, laid: Laid, optimiser_state: dict[str, Any], recipe: Recipe,
        layout: Layout, groups: Groups,
    ) -> None:  # fmt: skip
        self._plan = plan_cuts(model, layout.plan, groups.parts)
        self.groups, self.group, self.draws = groups.count, groups.index, groups.index
        self.answers = groups.part == 0
        x = probe_samples(model, recipe)
        with torch.no_grad():
            expected = model.eval()(x)
        super().__init__(model, laid, optimiser_state, recipe, groups)
        self._require_same(x, expected)
        for name, cut in self._plan.items():
            self._module.get_submodule(name).register_forward_hook(self._counting(cut))

    def _divide(self, model: nn.Module) -> None:
        styles = {"colwise": ColwiseParallel, "rowwise": RowwiseParallel}
        plan: Any = {name: styles[cut]() for name, cut in self._plan.items()}
        parallelize_module(model, self._groups.within, plan)

    def _require_same(self, x: Tensor, expected: Tensor) -> None:
        """Refuse a plan whose pieces do not fit: it would train another model."""
        self._module.eval()
        with torch.no_grad():
            try:
                found, said = self._module(x.to(self._like.device)).cpu(), ""
            except RuntimeError as error:
                found, said = expected.new_empty(0), str(error)
        self._module.train()
        # sums of a thousand terms in another order, some layers deep
        bound = 1e4 * torch.finfo(expected.dtype).eps * max(1.0, float(expected.abs().max()))
        is_same = found.shape == expected.shape and float((found - expected).abs().max()) <= bound
        if not is_same:
            message = (
                f"with plan={_written(self._plan)} the workers' parts do not give what the model "
                f"gives{f' ({said})' if said else ''}: a layer that is cut colwise needs a rowwise "
                "one behind it, with layers between them that see each number alone"
            )
            raise OptionError(message)

    def scored(self, shares: tuple[float, ...]) -> Score:
        """Score the group's share of the validation samples, all parts together."""
        return validated(
            self._module, self._recipe, shares, self.group, counts=self.answers, together=True
        )

    def _counting(self, cut: Cut) -> Any:
        """Count a sum of outputs forwards, or of the inputs' gradients backwards."""

        def count(layer: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
            if layer.training and cut == "rowwise":
                self.meter.sent_nbytes += made.numel() * made.element_size()
            elif layer.training and given[0].requires_grad:
                self.meter.sent_nbytes += given[0].numel() * given[0].element_size()

        return count

    def _send_gradients(self) -> None:
        self.meter.sent_nbytes += self._groups.add_gradients(self._module)

    def held(self) -> str:
        """Say which part of which matrices."""
        return f"part {self._groups.part + 1} of {self._groups.parts} of {_written(self._plan)}"


class FullyShard(_Sharded):
    """Each rank keeps a part of all parameters, and gets the rest when a layer needs it (FSDP2).

    Parameters
    ----------
    model : torch.nn.Module
        The whole model, with the parameters to begin from; it is divided in place.
    laid : Laid
        The file that they are in.
    optimiser_state : dict
        Of the whole, to go on from; empty: none.
    recipe : Recipe
        What is trained.
    groups : Groups
        Each has all parameters once.

    References
    ----------
    Y. Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, VLDB 2023.
    """

    answers = True
    may_balance = False  # all ranks wait for each other within a step

    def __init__(
        self, model: nn.Module, laid: Laid, optimiser_state: dict[str, Any], recipe: Recipe,
        groups: Groups,
    ) -> None:  # fmt: skip
        world = groups.count * groups.parts
        self.groups, self.group = world, groups.index * groups.parts + groups.part
        self.draws = self.group
        self._weight = world
        super().__init__(model, laid, optimiser_state, recipe, groups)
        own = [p.to_local() for p in self._module.parameters() if isinstance(p, DTensor)]
        whole = sum(p.numel() * p.element_size() for p in self._learnt.values())
        # its part to the others, forwards and backwards; and all gradients
        self._sent_nbytes = 2 * sum(p.numel() * p.element_size() for p in own) + whole

    def _divide(self, model: nn.Module) -> None:
        over = self._groups.mesh if self._groups.count > 1 else self._groups.within
        shares: Mapping[str, Any] = dict(model.named_parameters(remove_duplicate=False))
        if len(shares) == len(list(model.parameters())):  # none has two names
            for layer in model.children():
                if any(True for _ in layer.parameters()):
                    fully_shard(layer, mesh=over)
        fully_shard(model, mesh=over)

    def _send_gradients(self) -> None:
        self.meter.sent_nbytes += self._sent_nbytes

    def scored(self, shares: tuple[float, ...]) -> Score:
        """Score the rank's share of the validation samples; layers come together each time."""
        found = validated(
            self._module, self._recipe, shares, self.group, together=True, in_step=True
        )
        for layer in self._module.modules():
            if isinstance(layer, FSDPModule):
                layer.reshard()
        return found

    def held(self) -> str:
        """Say which part."""
        return f"part {self._groups.part + 1} of {self._groups.parts} of all parameters"


def _lift(model: nn.Module, laid: Laid) -> None:
    """Take into memory what is left of a divided model in the file: it will be changed often."""
    for parameter in model.parameters():
        if laid.holds(_local(parameter)):
            parameter.data = parameter.data.clone()


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _written(plan: Mapping[str, Cut]) -> str:
    return "{" + ", ".join(f"{name}: {cut}" for name, cut in plan.items()) + "}"

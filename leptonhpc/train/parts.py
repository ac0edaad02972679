"""What all ways to divide a model have in common: a rank's part, and the whole put together."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from leptonhpc.train.compression import Meter
from leptonhpc.train.groups import Groups
from leptonhpc.train.making import Laid
from leptonhpc.train.normalising import normalises
from leptonhpc.train.objectives import a_parameter, make_optimiser
from leptonhpc.train.recipe import Recipe


class Part:
    """A rank's part of a model; a group of ranks has all of it.

    Parameters
    ----------
    model : torch.nn.Module
        The whole, of which names and shapes are noted.
    recipe : Recipe
        What is trained.
    groups : Groups
        Who holds a model with whom.
    """

    reads = True, True
    groups: int
    group: int
    draws: int
    answers: bool
    rate: float
    may_balance: bool

    def __init__(self, model: nn.Module, recipe: Recipe, groups: Groups) -> None:
        self._recipe, self._groups, self.meter = recipe, groups, Meter()
        self.normalises = normalises(model)
        self._state = {name: _empty(value) for name, value in model.state_dict().items()}
        self._learnt = {
            name: nn.Parameter(_empty(value), value.requires_grad)
            for name, value in model.named_parameters()
        }
        self._module: nn.Module
        self._optimiser: torch.optim.Optimizer

    def _begin(self, module: nn.Module, optimiser_state: dict[str, Any]) -> None:
        """Take the part, and what the optimiser of the whole kept for it."""
        self._module, self._like = module, a_parameter(module)
        self._optimiser = make_optimiser(self._recipe.settings, module)
        if not optimiser_state:
            return
        number = {name: i for i, name in enumerate(self._learnt)}
        for name, parameter in module.named_parameters():
            found = optimiser_state["state"].get(number[name], {})
            self._optimiser.state[parameter] = {
                key: value.clone() if key == "step" else self._own_part(parameter, value)
                for key, value in found.items()
                if value is not None
            }

    def _own_part(self, parameter: Tensor, value: Tensor) -> Tensor:
        """Cut a tensor of the whole as a parameter is."""
        raise NotImplementedError

    def _together(self, name: str, value: Tensor | None, like: Tensor) -> Tensor:
        """Give a tensor of the whole, on the host; called by all ranks of a group."""
        raise NotImplementedError

    def settle(self, share: float) -> None:
        """Do nothing: gradients were averaged at each step."""

    def collected(self) -> dict[str, Tensor]:
        """Put the whole model together, tensor by tensor, in a file of rank 0."""
        found: dict[str, Tensor] = {}
        if self._groups.index:
            return found
        own = self._module.state_dict()
        with closing(Laid()) as laid:
            for name, like in self._state.items():
                whole = self._together(name, own.get(name), like)
                if self._groups.part == 0:
                    found[name] = laid.lay(whole)
            laid.send_out()
        return found

    def optimiser_state(self) -> dict[str, Any]:
        """Put together the state that the whole's optimiser would have, in a file of rank 0."""
        if self._groups.index:
            return {}
        with closing(Laid()) as laid:
            return self._state_of_all(laid)

    def _state_of_all(self, laid: Laid) -> dict[str, Any]:
        parameters = nn.ParameterList(self._learnt.values())
        state: dict[str, Any] = make_optimiser(self._recipe.settings, parameters).state_dict()
        own = dict(self._module.named_parameters())
        for number, (name, parameter) in enumerate(self._learnt.items()):
            if not parameter.requires_grad:
                continue
            held: Any = self._optimiser.state.get(own[name], {}) if name in own else {}
            found: dict[str, Tensor] = {}
            for key in _keys(self._optimiser):
                like = parameter.detach() if key != "step" else torch.empty((), device="meta")
                whole = self._together(name, held.get(key), like)
                if self._groups.part == 0:
                    found[key] = laid.lay(whole)
            if found and self._groups.part == 0:
                state["state"][number] = found
        laid.send_out()
        return state if self._groups.part == 0 else {}

    def divergence(self) -> float:
        """Compare the part with that of other groups."""
        return self._groups.divergence(list(self._module.parameters()))


def _empty(value: Tensor) -> Tensor:
    return torch.empty_like(value, device="meta", requires_grad=False)


def _keys(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    """Name what an optimiser keeps for each parameter."""
    if isinstance(optimiser, torch.optim.Adam):
        return "step", "exp_avg", "exp_avg_sq"
    return ("momentum_buffer",) if optimiser.defaults["momentum"] else ()

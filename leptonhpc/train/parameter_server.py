"""The parameters, in one place: trainers take them, and give gradients whenever they have one."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from leptonhpc.errors import WorkerError
from leptonhpc.train.checkpoints import (
    first_state,
    load_state,
    require_seen,
    save_state,
    to_bytes,
)
from leptonhpc.train.leases import Lease, Leases
from leptonhpc.train.making import load_into
from leptonhpc.train.objectives import make_optimiser
from leptonhpc.train.recipe import Recipe
from leptonhpc.train.staleness import Ages

_LEASES = 16
"""An epoch is lent in so many parts, at least."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """What a trainer gives."""

    epoch: int
    batch: int
    loss: float
    """Mean over the batch."""
    values: NDArray[Any]
    """All entries, in single or half precision; or those at `places`."""
    places: NDArray[np.int32] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are sent."""
        return self.values.nbytes + (0 if self.places is None else self.places.nbytes)


class ParameterServer:
    """Parameters, optimiser and the list of what is to be done; its methods run one at a time.

    Parameters
    ----------
    recipe : Recipe
        What is trained; with a checkpoint it goes on from there.
    most_age : int or None
        Updates that a gradient may be old.

    References
    ----------
    M. Li et al., Scaling distributed machine learning with the parameter server, OSDI 2014;
    Q. Ho et al., More effective distributed ML via a stale synchronous parallel parameter server,
    NeurIPS 2013 (bounded staleness).
    """

    def __init__(self, recipe: Recipe, most_age: int | None) -> None:
        self._recipe = recipe
        self._state = first_state(recipe)
        if recipe.checkpoint is not None:
            require_seen(recipe.checkpoint, "the parameter server")
            self._state = load_state(recipe.checkpoint, recipe)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.settings.seed)
            self._model = recipe.model_fn()
        if self._state.model:
            load_into(self._model, self._state.model)
        self._optimiser = make_optimiser(recipe.settings, self._model)
        if self._state.optimiser:
            self._optimiser.load_state_dict(self._state.optimiser)
        order, applied = recipe.order, self._state.applied
        self._losses: dict[tuple[int, int], float] = {
            (int(epoch), int(batch)): loss for epoch, batch, loss in applied
        }
        length = max(1, min(order.window_batches, order.batches // _LEASES))
        self._leases = Leases.going_on(
            recipe.settings.epochs, order.batches, length, order.window_batches, set(self._losses)
        )
        self._known = Counter(epoch for epoch, _ in self._losses)
        self._ages = Ages(most_age)
        self._waiting: dict[str, Gradient] = {}
        self._left: set[str] = set()
        self._asking: set[str] = set()
        """Who was refused parameters, and asks again."""
        self._received = 0
        self._began = time.perf_counter() - self._state.seconds
        self._stored_at = time.perf_counter()

    # -- what trainers call

    def lend(self, name: str) -> Lease | None | bool:
        """Lend batches to a trainer; None: ask later; False: all is done."""
        return False if self._leases.is_done or name in self._left else self._leases.lend(name)

    def pull(self, name: str) -> tuple[int, NDArray[Any]] | None:
        """Give the newest parameters; None: ask later, others must end first."""
        if name in self._left or name in self._waiting:
            return None
        if not self._ages.may_begin():
            self._asking.add(name)
            return None
        self._asking.discard(name)
        self._ages.begin(name)
        with torch.no_grad():
            flat = torch.nn.utils.parameters_to_vector(self._model.parameters())
        return self._ages.version, flat.numpy().copy()

    def push(self, name: str, gradient: Gradient) -> bool:
        """Take a gradient; False: this trainer was given up, and what it has is not wanted."""
        if name not in self._ages.under_way:
            return False
        self._received += gradient.nbytes
        self._waiting[name] = gradient
        self._apply_what_may_be()
        return True

    def push_and_pull(
        self, name: str, gradient: Gradient
    ) -> tuple[int, NDArray[Any]] | None | Literal[False]:
        """Do both in one round trip; None: the gradient was taken, ask for parameters later.

        Who waits for parameters may not be passed over by those that are here anyway.
        """
        if not self.push(name, gradient):
            return False
        return None if self._asking else self.pull(name)

    def leave(self, name: str) -> None:
        """Forget a trainer for good; what it had is lent again."""
        self._left.add(name)
        self._asking.discard(name)
        self._waiting.pop(name, None)
        self._ages.leave(name)
        self._leases.take_back(name)
        self._apply_what_may_be()

    # -- what the supervisor calls

    def progress(self) -> dict[str, int]:
        """Say how many batches were applied."""
        done, batches = self._leases.done, self._recipe.order.batches
        return {"epoch": done // batches, "batch": done % batches, "batches": batches}

    def outcome(self) -> dict[str, Any]:
        """Give the state and the counts, when all is done."""
        if not self._leases.is_done:
            message = (
                f"all trainers ended; {self._leases.done} batches of "
                f"{self._recipe.settings.epochs * self._recipe.order.batches} were learnt from. "
                "With out= the same call goes on from there"
            )
            raise WorkerError(message)
        self._store(finished=True)
        return {
            "state": to_bytes(vars(self._state)),
            "staleness": dict(sorted(self._ages.counts.items())),
            "received_nbytes": self._received,
        }

    # -- inside

    def _apply_what_may_be(self) -> None:
        """Apply waiting gradients, the oldest first, while all others stay in time."""
        ages = self._ages
        while ready := [n for n in self._waiting if ages.may_push(n)]:
            name = min(ready, key=lambda n: ages.under_way[n])
            gradient = self._waiting.pop(name)
            if self._leases.settle(name, gradient.epoch, gradient.batch):
                self._apply(gradient)
                ages.push(name)
                self._note(gradient)
            else:
                ages.leave(name)

    def _apply(self, gradient: Gradient) -> None:
        parameters = list(self._model.parameters())
        flat = torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype)
        values = torch.from_numpy(np.array(gradient.values)).to(flat.dtype)
        if gradient.places is None:
            flat = values
        else:
            flat[torch.from_numpy(gradient.places.astype(np.int64))] = values
        at = 0
        for parameter in parameters:
            part = flat[at : at + parameter.numel()].view_as(parameter)
            parameter.grad = part.to(parameter.dtype)  # they may be of several
            at += parameter.numel()
        self._optimiser.step()

    def _note(self, gradient: Gradient) -> None:
        self._losses[gradient.epoch, gradient.batch] = gradient.loss
        self._known[gradient.epoch] += 1
        order, state = self._recipe.order, self._state
        while self._known[state.epoch] == order.batches:
            losses = [self._losses[state.epoch, batch] for batch in range(order.batches)]
            state.epoch += 1
            state.history.append({
                "epoch": state.epoch, "loss": order.mean(losses),
                "seconds": time.perf_counter() - self._began,
            })  # fmt: skip
            self._store()
        if time.perf_counter() - self._stored_at > self._recipe.checkpoint_seconds:
            self._store()

    def _store(self, *, finished: bool = False) -> None:
        state = self._state
        state.model = {k: v.detach().clone() for k, v in self._model.state_dict().items()}
        state.optimiser = self._optimiser.state_dict()
        state.applied = [[float(e), float(b), v] for (e, b), v in sorted(self._losses.items())]
        state.losses = [loss for _, _, loss in state.applied]
        state.seconds, state.finished = time.perf_counter() - self._began, finished
        if self._recipe.checkpoint is not None:
            save_state(self._recipe.checkpoint, state)
        self._stored_at = time.perf_counter()

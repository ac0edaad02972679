"""What a rank does: batch after batch, in step with the others, until all epochs are done."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist

from leptonhpc.cluster.gangs_ranks import Abandoned, Regroup, Seat
from leptonhpc.errors import CoverageError
from leptonhpc.train.checkpoints import (
    State,
    first_state,
    load_state,
    require_seen,
    save_state,
    to_bytes,
)
from leptonhpc.train.holdings import hold
from leptonhpc.train.normalising import LEAST_ROWS, with_least
from leptonhpc.train.objectives import seed_draws
from leptonhpc.train.reading import Ahead, Batch, keeping, read_batches
from leptonhpc.train.recipe import Recipe
from leptonhpc.train.sending import AsRaised
from leptonhpc.train.speeds import differ, gather_shares

_CHECK_SECONDS = 0.25
"""Ranks agree so often on whether to store their state, or to end for a worker that joined."""
_BALANCE_SECONDS = 5.0
"""Shares are measured anew so often."""
_MOST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class RankOutcome:
    """What one rank did."""

    rank: int
    samples: int
    """It learnt from."""
    share: float
    """Of each batch, at the end."""
    sent_nbytes: int
    """It gave to others, as gradients, parameters or activations."""
    compute_seconds: float
    """In the model, forwards and backwards."""
    divergence: float
    """Largest difference of a parameter between ranks."""
    held: str = "all"
    """What it had of the model."""
    state: bytes = b""
    """Of rank 0 where nothing is stored: the `State` at the end."""


def train_rank(seat: Seat, recipe: Recipe) -> RankOutcome:
    """Train, as one of the ranks of a gang or alone.

    Parameters
    ----------
    seat : Seat
        Which rank this is.
    recipe : Recipe
        What is trained.

    Returns
    -------
    RankOutcome
        What it did; rank 0 gives the model.

    Raises
    ------
    NonFiniteError
        If the loss is NaN or infinite; the message names epoch and batch.
    CoverageError
        If an epoch did not take each sample once.
    """
    if seat.threads:
        torch.set_num_threads(seat.threads)
    with torch.random.fork_rng(), AsRaised():
        return _Rank(seat, recipe).run()


class _Rank:
    """One rank at work."""

    def __init__(self, seat: Seat, recipe: Recipe) -> None:
        self._seat, self._recipe = seat, recipe
        state = _stored_state(seat, recipe)
        self._holding = hold(recipe, state, seat)
        # what each rank took its part of is needed no more; rank 0 alone writes
        best = {} if seat.rank else state.best_model
        self._state = replace(state, model={}, optimiser={}, best_model=best)
        self._last = b""
        self._shares = self._shares_of(self._holding.rate)
        self._x, self._y = keeping(recipe.x.source, recipe.y.source, recipe.kept_nbytes)
        self._ahead = Ahead(recipe.settings.epochs)
        self._losses: list[float] = []  # this rank's parts of steps that are not summed up yet
        self._seen = 0
        self._samples, self._compute = 0, 0.0
        self._recent = [0.0, 0.0]  # samples and seconds since shares were measured
        self._steps = self._steps_to_check = 1
        self._checked_at = time.perf_counter()
        self._began = self._checked_at - self._state.seconds
        self._stored_at = self._balanced_at = self._checked_at

    def run(self) -> RankOutcome:
        settings, holding = self._recipe.settings, self._holding
        while self._state.epoch < settings.epochs and not self._is_patience_over():
            self._epoch()
            self._end_epoch()
        self._state.finished = True
        spread = holding.divergence()
        self._store()
        return RankOutcome(
            self._seat.rank, self._samples, self._share, holding.meter.sent_nbytes,
            self._compute, spread, holding.held(), self._last,
        )  # fmt: skip

    @property
    def _share(self) -> float:
        return self._shares[self._holding.group]

    def _shares_of(self, rate: float) -> tuple[float, ...]:
        shares = gather_shares(rate, self._seat.world, self._holding.groups)
        least = LEAST_ROWS / self._recipe.order.batch
        return with_least(shares, least) if self._holding.normalises else shares

    # -- an epoch

    def _epoch(self) -> None:
        """Learn from the batches that are left; begin reading anew when shares change."""
        recipe, holding, again = self._recipe, self._holding, True
        while again:
            again = False
            holding.begin(self._shares)
            batches = read_batches(
                self._x, self._y, recipe.order, self._state.epoch,
                shares=self._shares, rank=holding.group, first=self._state.batch,
                wanted=holding.reads, ahead=self._ahead,
            )  # fmt: skip
            with closing(cast("Any", batches)):
                for batch in batches:
                    self._step(batch)
                    if self._check() and self._state.batch < recipe.order.batches:
                        again = True
                        break

    def _step(self, batch: Batch) -> None:
        if not self._seat.is_wanted():
            raise Abandoned("nobody waits for this training any more")
        settings, holding = self._recipe.settings, self._holding
        step = self._state.epoch * self._recipe.order.batches + batch.index
        seed_draws((settings.seed + step * 2**20 + holding.draws) % 2**63)
        found = holding.step(batch, self._state.epoch)
        self._note_time(len(batch.rows), found.seconds)
        self._losses.append(found.loss / batch.total if holding.answers else 0.0)
        self._seen += len(batch.rows) if holding.answers else 0
        self._state.batch = batch.index + 1

    def _note_time(self, samples: int, seconds: float) -> None:
        self._samples += samples
        self._compute += seconds
        self._recent[0] += samples
        self._recent[1] += seconds

    # -- what ranks agree on

    def _check(self) -> bool:
        """Now and then: store, end for a worker that joined, or say that shares changed."""
        self._steps_to_check -= 1
        if self._steps_to_check > 0:
            return False
        regroup, store, balance = self._agree()
        if regroup or store:
            self._holding.settle(self._share)
            self._store()
        if regroup:
            raise Regroup
        return bool(balance) and self._rebalance()

    def _agree(self) -> tuple[int, int, int]:
        """Let rank 0 decide for all, and when to ask it again."""
        now = time.perf_counter()
        taken = max(1e-6, now - self._checked_at)
        steps = max(1, round(self._steps * min(4.0, _CHECK_SECONDS / taken)))
        flags = torch.tensor([
            int(self._seat.is_regroup_asked()),
            int(now - self._stored_at > self._recipe.checkpoint_seconds),
            int(now - self._balanced_at > _BALANCE_SECONDS and self._is_balanced),
            min(steps, _MOST_STEPS),
        ])  # fmt: skip
        if self._seat.world > 1:
            dist.broadcast(flags, 0)
        self._checked_at = time.perf_counter()
        regroup, store, balance, self._steps = flags.tolist()
        self._steps_to_check = self._steps
        self._tell()
        return regroup, store, balance

    @property
    def _is_balanced(self) -> bool:
        return self._holding.groups > 1 and self._holding.may_balance

    def _rebalance(self) -> bool:
        samples, seconds = self._recent
        self._balanced_at, self._recent = time.perf_counter(), [0.0, 0.0]
        shares = self._shares_of(samples / max(seconds, 1e-9))
        if not differ(self._shares, shares):
            return False
        self._shares = shares
        return True

    def _tell(self) -> None:
        if self._seat.rank == 0:
            self._seat.tell({
                "epoch": self._state.epoch, "batch": self._state.batch,
                "batches": self._recipe.order.batches,
            })  # fmt: skip

    # -- the end of an epoch, and what is stored

    def _end_epoch(self) -> None:
        self._holding.settle(self._share)
        self._sum_up()
        state, order = self._state, self._recipe.order
        if state.seen != order.rows:
            message = (
                f"epoch {state.epoch + 1} took {state.seen} samples of {order.rows}: an internal "
                "fault; nothing was stored"
            )
            raise CoverageError(message)
        entry: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "loss": order.mean(state.losses[-order.batches :]),
        }
        entry |= self._validate()
        state.epoch, state.batch, state.seen = state.epoch + 1, 0, 0
        entry["seconds"] = time.perf_counter() - self._began
        entry["workers"] = self._seat.world
        state.history.append(entry)
        self._note_best(entry)
        self._store()
        self._tell()

    def _validate(self) -> dict[str, Any]:
        if self._recipe.validation is None:
            return {}
        began = time.perf_counter()
        found = self._holding.scored(self._shares)
        named = {f"validation_{name}": value for name, value in found.to_dict().items()}
        del named["validation_samples"]
        return {**named, "validation_seconds": time.perf_counter() - began}

    def _note_best(self, entry: dict[str, Any]) -> None:
        if self._recipe.settings.patience is None:
            return
        loss = entry["validation_loss"]
        if loss < self._state.best_loss:
            self._state.best_loss, self._state.best_epoch = loss, self._state.epoch
            self._state.best_model = self._holding.collected()

    def _is_patience_over(self) -> bool:
        patience = self._recipe.settings.patience
        state = self._state
        return patience is not None and state.epoch - state.best_epoch >= patience > 0

    def _sum_up(self) -> None:
        """Add the parts of all ranks to the losses of steps; called by all ranks together."""
        if not self._losses:  # all have as many
            return
        parts = torch.tensor([*self._losses, float(self._seen)], dtype=torch.float64)
        if self._seat.world > 1:
            dist.all_reduce(parts)
        *losses, seen = parts.tolist()
        self._state.losses += losses
        self._state.seen += round(seen)
        self._losses, self._seen = [], 0

    def _store(self) -> None:
        """Write the state, on rank 0; called by all ranks together."""
        self._sum_up()
        state = self._state
        is_best = state.finished and bool(state.best_loss < np.inf)
        model = state.best_model if is_best else self._holding.collected()
        optimiser = self._holding.optimiser_state()
        if self._seat.rank == 0:
            state.seconds = time.perf_counter() - self._began
            whole = replace(state, model=model, optimiser=optimiser)
            if self._recipe.checkpoint is not None:
                save_state(self._recipe.checkpoint, whole)
            elif state.finished:
                self._last = to_bytes(vars(whole))
        self._stored_at = time.perf_counter()


def _stored_state(seat: Seat, recipe: Recipe) -> State:
    """Give the state that all ranks go on from: as rank 0 finds it."""
    state = first_state(recipe)
    if recipe.checkpoint is None:
        return state
    require_seen(recipe.checkpoint, f"rank {seat.rank}")
    state = load_state(recipe.checkpoint, recipe)
    if seat.world > 1:
        dist.barrier()  # nobody writes before all have read
    return replace(state, finished=False)

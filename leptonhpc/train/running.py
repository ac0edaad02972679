"""A checked recipe, run here or on the connected cluster, and what comes of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import cloudpickle
import numpy as np
import torch

from leptonhpc import store
from leptonhpc.blocks import BlockedArray
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.gangs import GangLimits, GangOutcome, run_gang
from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.errors import OptionError, StoreError
from leptonhpc.runtime import connected_client
from leptonhpc.runtime.backends import PICKLED_NBYTES
from leptonhpc.runtime.progress import Progress
from leptonhpc.runtime.temporary import TemporaryFolder
from leptonhpc.store.locations import is_local, local_path
from leptonhpc.train.checkpoints import State, from_bytes, load_state
from leptonhpc.train.claims import claimed
from leptonhpc.train.inputs import check_model, check_pair, check_targets, plan_kept, plan_order
from leptonhpc.train.layout import Layout, held_nbytes, settle_layout
from leptonhpc.train.ranks import RankOutcome, train_rank
from leptonhpc.train.recipe import Recipe, Settings, Strategy
from leptonhpc.train.result import TrainReport, TrainResult
from leptonhpc.train.sending import Sendable
from leptonhpc.train.starting import start_from

_KIND = "leptonhpc-training"
_SEEN_SECONDS = 60.0
"""Network file systems may show what was there before for so long."""
_LOOK_SECONDS = 0.5


@contextlib.contextmanager
def run_store(out: Any, *, overwrite: bool) -> Iterator[str | None]:
    """Make, or take up, the store of a run.

    Parameters
    ----------
    out : str, path or URL, optional
        Where; None: in a temporary folder, on a cluster, or nowhere.
    overwrite : bool
        Replace what is there.

    Yields
    ------
    str or None
        Its location, absolute.

    Raises
    ------
    OutputExistsError
        If something else is there, or a living process trains there.
    """
    if out is None:
        if connected_client() is None:
            yield None
            return
        folder = TemporaryFolder()
        try:
            place = str(folder.path / "run")
            store.create_group(place, attributes={"kind": _KIND})
            yield place
        finally:
            folder.remove()
        return
    place = str(local_path(out)) if is_local(out) else str(out)

    def prepare() -> None:
        if overwrite or not _is_run(place):
            store.create_group(place, attributes={"kind": _KIND}, overwrite=overwrite)

    with claimed(place, prepare):
        yield place


def _is_run(place: str) -> bool:
    try:
        return bool(store.read_attributes(place).get("kind") == _KIND)
    except StoreError:  # nothing is there, or no Zarr
        return False


def make_recipe(
    model_fn: Callable[[], torch.nn.Module], data: tuple[Any, Any],
    validation: tuple[Any, Any] | None, settings: Settings, *,
    strategy: Strategy, memory: Any, checkpoint: str | None, checkpoint_seconds: float,
    layout: Layout | None = None, workers: int = 1, start: TrainResult | None = None,
) -> Recipe:  # fmt: skip
    """Check data and model, and choose the order of the samples.

    Parameters
    ----------
    model_fn, data, validation, settings, strategy, memory, checkpoint_seconds : object
        As `fit` takes them.
    checkpoint : str or None
        Location of the run's store.
    layout : Layout, optional
        How the model is to be divided.
    workers : int
        Over how many.
    start : TrainResult, optional
        What to go on from.

    Returns
    -------
    Recipe
        What ranks are sent.
    """
    x, y = _pair(data, "X", "y", "data")
    if settings.patience is not None and validation is None:
        message = "patience needs validation=(X, y): it counts epochs without a smaller loss there"
        raise OptionError(message)
    model = seeded_model(model_fn, settings.seed)
    outputs = check_model(model, x, settings.loss)
    check_targets(y, settings.loss, outputs, "y")
    checked = None
    if validation is not None:
        checked = _pair(validation, "validation X", "validation y", "validation")
        check_model(model, checked[0], settings.loss)
        check_targets(checked[1], settings.loss, outputs, "validation y")
    held = held_nbytes(model, strategy, settings.optimiser, layout, workers)
    order = plan_order(x, y, settings, held, memory)
    return Recipe(
        strategy=strategy,
        model_fn=model_fn, x=x, y=y, validation=checked, settings=settings, order=order,
        outputs=outputs, checkpoint=checkpoint, checkpoint_seconds=checkpoint_seconds,
        start=None if start is None else start_from(start, model, settings),
        kept_nbytes=plan_kept(x, y, order, held, memory),
    )  # fmt: skip


def divided(recipe: Recipe, layout: Layout, limits: GangLimits) -> tuple[Recipe, GangLimits]:
    """Choose how the model is divided over the workers there are.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    layout : Layout
        What was asked for.
    limits : GangLimits
        Of the run.

    Returns
    -------
    tuple of (Recipe, GangLimits)
        With the layout, and with ranks that fit it.

    Raises
    ------
    OptionError
        If the model cannot be divided so.
    """
    model, workers = seeded_model(recipe.model_fn, recipe.settings.seed), workers_for(limits)
    settled, fitting = settle_layout(layout, recipe.strategy, model, workers, limits)
    return replace(recipe, layout=settled), fitting


def workers_for(limits: GangLimits) -> int:
    """Say how many workers of the connected cluster a run may have; one without a cluster."""
    client = connected_client()
    there = 1 if client is None else len(identities(client))
    return max(1, min(there, limits.most or there))


def seeded_model(model_fn: Callable[[], torch.nn.Module], seed: int) -> torch.nn.Module:
    """Make the model as each rank makes it; the state of torch's generator stays.

    Parameters
    ----------
    model_fn : callable
        Makes it.
    seed : int
        Of its parameters.

    Returns
    -------
    torch.nn.Module
        On the host.

    Raises
    ------
    OptionError
        If it is none.
    """
    if isinstance(model_fn, torch.nn.Module) or not callable(model_fn):
        message = (
            "model_fn is a function that makes the model, as each worker makes its own; found "
            f"{type(model_fn).__name__}. For a model that is there: lambda: copy.deepcopy(model)"
        )
        raise OptionError(message)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = model_fn()
    if not isinstance(model, torch.nn.Module):
        message = f"model_fn() gives a torch.nn.Module; it gave {type(model).__name__}"
        raise OptionError(message)
    return model


def _pair(pair: Any, x: str, y: str, what: str) -> tuple[BlockedArray, BlockedArray]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        message = f"{what} is a pair (X, y); found {type(pair).__name__}"
        raise OptionError(message)
    first, second = pair
    return check_pair(first, second, x, y)


def run(recipe: Recipe, limits: GangLimits, bar: Progress, began: float) -> TrainResult:
    """Train here, or as a gang on the connected cluster.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    limits : GangLimits
        How large the gang may be.
    bar : Progress
        Shows how far it is.
    began : float
        When `fit` was called, by `time.perf_counter`.

    Returns
    -------
    TrainResult
        The outcome.
    """
    hear = Shown(bar, recipe)
    client = connected_client()
    if client is None:
        gang = GangOutcome((train_rank(Seat(tell=hear), recipe),), (), 0, 0)
    else:
        require_sendable(recipe)
        gang = run_gang(client, Sendable(train_rank), recipe, limits=limits, hear=hear)
    return result_of(recipe, gang, began)


def require_sendable(recipe: Recipe) -> None:
    """Refuse what workers cannot be sent, and arrays that they cannot read or are too large.

    Parameters
    ----------
    recipe : Recipe
        With the arrays.

    Raises
    ------
    OptionError
        With the array's name, or what `model_fn` needs.
    """
    try:
        cloudpickle.dumps(recipe.model_fn)
    except Exception as error:  # what is not pickled says so in many ways
        message = (
            f"model_fn cannot be sent to workers: {error}. Make what it needs (a file, a lock, a "
            "connection) inside it"
        )
        raise OptionError(message) from error
    for array in (recipe.x, recipe.y, *(recipe.validation or ())):
        in_memory = array.name.startswith("numpy array")
        if not array.source.shareable or (in_memory and array.nbytes > PICKLED_NBYTES):
            message = (
                f"workers of a cluster read samples from a store; {array.name} ({array.nbytes:,} "
                "bytes) is in the memory of this process. Write it to Zarr first"
            )
            raise OptionError(message)


class Shown:
    """Gives what ranks tell to a progress bar.

    Parameters
    ----------
    bar : Progress
        The bar.
    recipe : Recipe
        What is trained.
    """

    def __init__(self, bar: Progress, recipe: Recipe) -> None:
        self._bar, self._done = bar, 0
        bar.begin("batches", recipe.settings.epochs * recipe.order.batches)

    def __call__(self, told: Mapping[str, Any]) -> None:
        """Move the bar on; after a restart it stands until it is passed."""
        done = told["epoch"] * told["batches"] + told["batch"]
        if done > self._done:
            self._bar.advance(done - self._done)
            self._done = done


def result_of(recipe: Recipe, gang: GangOutcome, began: float) -> TrainResult:
    """Put together what ranks gave.

    Parameters
    ----------
    recipe : Recipe
        What was trained.
    gang : GangOutcome
        With a `RankOutcome` of each rank.
    began : float
        When `fit` was called.

    Returns
    -------
    TrainResult
        The outcome.
    """
    ranks: Sequence[RankOutcome] = gang.values
    state = State(**from_bytes(ranks[0].state)) if ranks[0].state else _end_of(recipe)
    model = seeded_model(recipe.model_fn, recipe.settings.seed)
    model.load_state_dict(state.model)
    report = TrainReport(
        recipe.strategy, state.seconds, time.perf_counter() - began, len(ranks), gang.addresses,
        tuple(rank.share for rank in ranks), tuple(rank.samples for rank in ranks),
        tuple(rank.compute_seconds for rank in ranks), sum(rank.sent_nbytes for rank in ranks),
        gang.restarts, gang.regroups, max(rank.divergence for rank in ranks),
        inference_seconds=state.inference_seconds,
        held=tuple(rank.held for rank in ranks),
    )  # fmt: skip
    return finish(recipe, state, report, model)


def _end_of(recipe: Recipe) -> State:
    """Read what rank 0 stored last: the whole model does not go through the scheduler."""
    assert recipe.checkpoint is not None
    deadline = time.monotonic() + _SEEN_SECONDS
    while True:
        state = load_state(recipe.checkpoint, recipe)
        if state.finished:
            return state
        if time.monotonic() > deadline:
            message = (
                f"the workers ended, and this process does not see the end in {recipe.checkpoint!r}"
                f" after {_SEEN_SECONDS:g} seconds. Use a file system that shows what others write"
            )
            raise StoreError(message)
        time.sleep(_LOOK_SECONDS)


def finish(
    recipe: Recipe, state: State, report: TrainReport, model: torch.nn.Module
) -> TrainResult:
    """Note in the store what came of a run, and give it.

    Parameters
    ----------
    recipe : Recipe
        What was trained.
    state : State
        At the end.
    report : TrainReport
        What it cost.
    model : torch.nn.Module
        With the trained parameters.

    Returns
    -------
    TrainResult
        All of it.
    """
    if recipe.checkpoint is not None:
        found = {"history": state.history, "report": report.to_dict(), "finished": True}
        store.update_attributes(recipe.checkpoint, found)
    return TrainResult(
        model.eval(), tuple(state.history), np.array(state.losses), recipe.settings.loss,
        recipe.outputs, report, state.optimiser,
    )  # fmt: skip

"""A trainer without a gang: takes parameters and batches from the server, gives gradients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from leptonhpc.cluster.gangs_ranks import Abandoned, Seat
from leptonhpc.errors import NonFiniteError
from leptonhpc.train.compression import largest
from leptonhpc.train.objectives import a_parameter, inputs_of, loss_sum, seed_draws, targets_of
from leptonhpc.train.parameter_server import Gradient
from leptonhpc.train.reading import Batch, keeping, read_window
from leptonhpc.train.recipe import Recipe
from leptonhpc.train.sending import AsRaised

_LOOK_SECONDS = 0.001
"""Who must wait asks again after so long, then after twice that, and so on."""
_MOST_SECONDS = 0.005
"""For parameters: others need some milliseconds."""
_MOST_LEASE_SECONDS = 0.05
"""For batches: all are lent, and come back if a trainer is lost."""
_NOBODY = "nobody waits for this training any more"

Call = Callable[..., Any]
"""Calls a method of the server: ``call("pull", name)``."""


def train_freely(seat: Seat, call: Call, name: str, recipe: Recipe) -> int:
    """Learn from what the server lends until nothing is left.

    Parameters
    ----------
    seat : Seat
        Says whether somebody still waits.
    call : callable
        Calls a method of the `ParameterServer`.
    name : str
        Of this trainer.
    recipe : Recipe
        What is trained.

    Returns
    -------
    int
        Samples that it learnt from.

    Raises
    ------
    NonFiniteError
        If the loss is NaN or infinite.
    """
    if seat.threads:
        torch.set_num_threads(seat.threads)
    samples = 0
    with torch.random.fork_rng():
        torch.manual_seed(recipe.settings.seed)
        model = recipe.model_fn().to("cuda" if torch.cuda.is_available() else "cpu").train()
        compress = _Compressing(recipe.settings.compression)
        with AsRaised(), closing(cast("Any", _lent(call, name, recipe, seat))) as lent:
            found: Any = None  # parameters that came with the answer to the last gradient
            for batch in lent:
                if found is None:
                    found = _asked(lambda: call("pull", name), seat.is_wanted, _MOST_SECONDS)
                elif not seat.is_wanted():
                    raise Abandoned(_NOBODY)
                step = batch.epoch * recipe.order.batches + batch.index
                seed_draws((recipe.settings.seed + step * 2**20) % 2**63)
                loss = _gradients(model, recipe, found[1], batch)
                gradient = Gradient(batch.epoch, batch.index, loss, *compress(model))
                # who has no batch yet takes no parameters: others would wait for what it gives
                found = call("push_and_pull" if batch.is_followed() else "push", name, gradient)
                if found is False:
                    break
                found = None if found is True else found
                samples += len(batch.x)
    return samples


@dataclass(frozen=True, slots=True)
class _Read:
    """A batch that was lent."""

    epoch: int
    index: int
    """Of the batch in its epoch."""
    x: NDArray[Any]
    y: NDArray[Any]
    is_followed: Callable[[], bool]
    """Whether there is one more, without waiting for it."""


def _lent(call: Call, name: str, recipe: Recipe, seat: Seat) -> Iterator[_Read]:
    """Read what is lent, one lease ahead; of a window that is begun, the rest is there."""
    ended, order = Event(), recipe.order
    held: tuple[int, int, list[Batch]] = (-1, -1, [])
    x, y = keeping(recipe.x.source, recipe.y.source, recipe.kept_nbytes)

    def is_wanted() -> bool:
        return seat.is_wanted() and not ended.is_set()

    def read() -> tuple[int, list[Batch]] | None:
        nonlocal held
        lease = _asked(lambda: call("lend", name), is_wanted, _MOST_LEASE_SECONDS)
        if lease is False:
            return None
        epoch, first, stop = lease
        window, place = divmod(first, order.window_batches)
        if held[:2] != (epoch, window):
            held = -1, -1, []
            held = epoch, window, read_window(x, y, order, epoch, window)
        return epoch, held[2][place : place + stop - first]

    with ThreadPoolExecutor(1, thread_name_prefix="leptonhpc-samples") as reader:
        try:
            lease = reader.submit(read).result()
            while lease is not None:
                ahead = reader.submit(read)
                epoch, batches = lease
                for batch in batches:
                    is_last = batch is batches[-1]
                    follows = partial(_is_there, ahead) if is_last else lambda: True
                    yield _Read(epoch, batch.index, batch.x, batch.y, follows)
                lease = ahead.result()
        finally:
            ended.set()  # else the reader would wait for what others have


def _is_there(ahead: Future[Any]) -> bool:
    return ahead.done() and ahead.exception() is None and ahead.result() is not None


def _asked(ask: Callable[[], Any], is_wanted: Callable[[], bool], most_seconds: float) -> Any:
    """Ask until the answer is not None, less and less often."""
    seconds = _LOOK_SECONDS
    while is_wanted():
        if (answer := ask()) is not None:
            return answer
        time.sleep(seconds)
        seconds = min(2 * seconds, most_seconds)
    raise Abandoned(_NOBODY)


def _gradients(
    model: torch.nn.Module, recipe: Recipe, parameters: NDArray[Any], batch: _Read
) -> float:
    """Leave the gradient of a batch's mean loss in the model; give the loss."""
    x, y = batch.x, batch.y
    like, name = a_parameter(model), recipe.settings.loss
    flat = torch.from_numpy(np.array(parameters)).to(like.device)
    torch.nn.utils.vector_to_parameters(flat, model.parameters())
    model.zero_grad()
    loss: Any = loss_sum(name, model(inputs_of(x, like)), targets_of(y, name, like)) / len(x)
    value = float(loss.detach())
    if not np.isfinite(value):
        message = (
            f"the loss is {value} in epoch {batch.epoch + 1}, batch {batch.index + 1} of "
            f"{recipe.order.batches}. Use a smaller learning_rate than "
            f"{recipe.settings.learning_rate:g}, and look for NaN in the samples"
        )
        raise NonFiniteError(message)
    loss.backward()
    return value


class _Compressing:
    """Gives gradients with fewer bytes; what "topk" does not send is added to the next."""

    def __init__(self, compression: str) -> None:
        self._compression = compression
        self._kept: torch.Tensor | None = None

    def __call__(self, model: torch.nn.Module) -> tuple[NDArray[Any], NDArray[np.int32] | None]:
        """Give values, and places where not all are given."""
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
        flat = torch.cat([part.reshape(-1) for part in parts]).cpu()
        if self._compression == "fp16":
            return flat.half().numpy(), None
        if self._compression == "none":
            return flat.numpy(), None
        total = flat if self._kept is None else flat + self._kept
        index, values = largest(total)
        self._kept = total.clone()
        self._kept[index] = 0
        return values.numpy(), index.to(torch.int32).numpy()

"""A trainer without a gang: takes parameters and batches from the server, gives gradients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from leptonhpc.cluster.gangs_ranks import Abandoned, Seat
from leptonhpc.errors import NonFiniteError
from leptonhpc.train.compression import largest
from leptonhpc.train.objectives import a_parameter, inputs_of, loss_sum, targets_of
from leptonhpc.train.parameter_server import Gradient
from leptonhpc.train.reading import read_rows
from leptonhpc.train.recipe import Recipe

_LOOK_SECONDS = 0.002

Call = Callable[..., Any]
"""Calls a method of the server: ``call("pull", name)``."""
Read = tuple[int, int, NDArray[Any], NDArray[Any]]
"""Epoch, batch, samples and targets."""


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
        with closing(cast("Any", _lent(call, name, recipe, seat))) as batches:
            for epoch, batch, x, y in batches:
                pulled = _asked(lambda: call("pull", name), seat.is_wanted)
                step = epoch * recipe.order.batches + batch
                torch.manual_seed((recipe.settings.seed + step * 2**20) % 2**63)
                loss = _gradients(model, recipe, pulled[1], (epoch, batch, x, y))
                values, places = compress(model)
                if not call("push", name, Gradient(epoch, batch, loss, values, places)):
                    break
                samples += len(x)
    return samples


def _lent(call: Call, name: str, recipe: Recipe, seat: Seat) -> Iterator[Read]:
    """Read what is lent, one lease ahead."""
    ended = Event()

    def read() -> list[Read] | bool:
        lease = _asked(lambda: call("lend", name), lambda: seat.is_wanted() and not ended.is_set())
        if lease is False:
            return False
        epoch, first, stop = lease
        found: list[Read] = []
        order = recipe.order
        for batch in range(first, stop):
            window, place = divmod(batch, order.window_batches)
            rows = np.sort(order.window(epoch, window)[place])
            x, y = read_rows(recipe.x.source, rows), read_rows(recipe.y.source, rows)
            found.append((epoch, batch, x, y))
        return found

    with ThreadPoolExecutor(1, thread_name_prefix="leptonhpc-samples") as reader:
        try:
            lease = reader.submit(read).result()
            while isinstance(lease, list):
                ahead = reader.submit(read)
                yield from lease
                lease = ahead.result()
        finally:
            ended.set()  # else the reader would wait for what others have


def _asked(ask: Callable[[], Any], is_wanted: Callable[[], bool]) -> Any:
    """Ask until the answer is not None."""
    while is_wanted():
        if (answer := ask()) is not None:
            return answer
        time.sleep(_LOOK_SECONDS)
    raise Abandoned("nobody waits for this training any more")


def _gradients(
    model: torch.nn.Module, recipe: Recipe, parameters: NDArray[Any], read: Read
) -> float:
    """Leave the gradient of a batch's mean loss in the model; give the loss."""
    epoch, batch, x, y = read
    like, name = a_parameter(model), recipe.settings.loss
    flat = torch.from_numpy(np.array(parameters)).to(like.device)
    torch.nn.utils.vector_to_parameters(flat, model.parameters())
    model.zero_grad()
    loss: Any = loss_sum(name, model(inputs_of(x, like)), targets_of(y, name, like)) / len(x)
    value = float(loss.detach())
    if not np.isfinite(value):
        message = (
            f"the loss is {value} in epoch {epoch + 1}, batch {batch + 1} of "
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

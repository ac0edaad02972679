"""The largest entries alone are sent; what is not sent is added to what comes next."""

from typing import Any

import numpy as np
import torch

from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.train.compression import KEPT, Meter, _Residuals, _send_largest, largest
from leptonhpc.train.trainers import _Compressing

from .processes import Ranks

COUNT, STEPS = 1000, 80


class Bucket:
    """What torch gives to a hook."""

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values

    def buffer(self) -> torch.Tensor:
        return self._values

    def index(self) -> int:
        return 0


def _averaged(seat: Seat) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Give the averages of some steps, what was kept in the end, and bytes."""
    gradient = torch.linspace(-1, 1 + seat.rank, COUNT)
    state, found = _Residuals(Meter()), []
    for _ in range(STEPS):
        future: Any = _send_largest(state, Bucket(gradient.clone()))
        found.append(future.wait().numpy())
    return found, state.kept[0].numpy(), state.meter.sent_nbytes


def test_workers_in_step_send_all_of_a_gradient_sooner_or_later(ranks: Ranks) -> None:
    (first, kept, nbytes), (second, more, _) = ranks.run(2, _averaged)
    assert np.array_equal(first, second)
    assert nbytes == STEPS * 8 * round(KEPT * COUNT)
    given = sum(STEPS * np.linspace(-1, 1 + rank, COUNT) for rank in range(2))
    # sums of so many single precision numbers below 2 STEPS, in another order
    bound = 4 * STEPS * 2 * STEPS * np.finfo("f4").eps
    assert np.max(np.abs(2 * np.sum(first, axis=0) + kept + more - given)) <= bound


def test_a_trainer_gives_all_of_a_gradient_sooner_or_later() -> None:
    model, compress = torch.nn.Linear(COUNT, 1, bias=False), _Compressing("topk")
    gradient = torch.linspace(-1, 1, COUNT)
    total = np.zeros(COUNT)
    for _ in range(STEPS):
        model.weight.grad = gradient.clone().reshape(1, -1)
        values, places = compress(model)
        assert places is not None
        assert len(values) == len(places) == round(KEPT * COUNT)
        total[places] += values
    kept = compress._kept
    assert kept is not None
    bound = 4 * STEPS * STEPS * np.finfo("f4").eps
    assert np.max(np.abs(total + kept.numpy() - STEPS * gradient.numpy())) <= bound


def test_the_largest_are_those_of_largest_magnitude() -> None:
    values = torch.tensor([0.1, -5.0, 2.0, 0.0])
    index, found = largest(values)
    assert (index.tolist(), found.tolist()) == ([1], [-5.0])

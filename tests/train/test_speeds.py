"""Shares of batches: what is measured, what follows from it, and when it is used anew."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.cluster.gangs_ranks import Seat
from leptonhpc.train import speeds
from leptonhpc.train.recipe import Recipe, Settings
from leptonhpc.train.running import make_recipe
from leptonhpc.train.speeds import differ, forward_rate, gather_shares, probe_rate, shares_of

from .conftest import three_classes
from .processes import Ranks

X, Y = three_classes(100)


class Clock:
    """Moves when a model is called, and by nothing else."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Takes(torch.nn.Module):
    """Takes so many seconds for each sample."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds, self.inner = [clock], seconds, torch.nn.Linear(6, 3)

    def __deepcopy__(self, memo: Any) -> "Takes":
        return Takes(self.clock[0], self.seconds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock[0].now += self.seconds * len(x)
        return self.inner(x)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(speeds, "time", made)
    return made


@pytest.fixture
def recipe() -> Recipe:
    return make_recipe(
        lambda: torch.nn.Linear(6, 3), (X, Y), None, Settings(batch_size=50), strategy="data",
        memory=None, checkpoint=None, checkpoint_seconds=60,
    )  # fmt: skip


@pytest.mark.parametrize("measured", [probe_rate, forward_rate])
def test_a_rate_is_samples_a_second(clock: Clock, recipe: Recipe, measured: Any) -> None:
    fast, slow = (measured(Takes(clock, seconds), recipe) for seconds in (1e-3, 4e-3))
    assert (fast, slow) == pytest.approx((1000.0, 250.0))
    assert shares_of(np.array([slow, fast]), 2) == pytest.approx((0.2, 0.8))


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=8), st.integers(1, 3))
def test_shares_are_in_proportion_to_the_slowest_of_each_group(
    slowest: list[float], each: int
) -> None:
    rates = np.repeat(slowest, each) * np.resize([1.0, 2.0, 3.0], len(slowest) * each)
    rates = rates.reshape(len(slowest), each)
    rates[:, 0] = slowest
    shares = np.array(shares_of(rates.ravel(), len(slowest)))
    least = np.maximum(slowest, 1e-3 * max(slowest))
    assert shares == pytest.approx(least / least.sum())


def test_who_did_not_answer_while_it_was_measured_gets_a_little() -> None:
    assert shares_of(np.array([0.0, 1000.0]), 2) == pytest.approx((1 / 1001, 1000 / 1001))


def test_shares_are_used_anew_when_one_is_off_by_a_tenth_of_itself() -> None:
    assert not differ((0.8, 0.2), (0.785, 0.215))
    assert differ((0.8, 0.2), (0.77, 0.23))
    assert differ((0.5, 0.5), (0.8, 0.2))


def _gathered(seat: Seat, groups: int) -> tuple[float, ...]:
    return gather_shares(100.0 * (1 + seat.rank), seat.world, groups)


@pytest.mark.parametrize(
    ("groups", "expected"), [(4, (0.1, 0.2, 0.3, 0.4)), (2, (0.25, 0.75)), (1, (1.0,))]
)
def test_all_ranks_find_the_same_shares(ranks: Ranks, groups: int, expected: Any) -> None:
    found = ranks.run(4, _gathered, groups)
    assert len(set(found)) == 1
    assert found[0] == pytest.approx(expected)

"""A parameter server and trainers that come and go: every batch once, no gradient too old."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.errors import NonFiniteError, OptionError, WorkerError
from leptonhpc.testing import put
from leptonhpc.train.leases import Leases
from leptonhpc.train.parameter_server import Gradient, ParameterServer
from leptonhpc.train.recipe import Settings
from leptonhpc.train.running import make_recipe
from leptonhpc.train.staleness import Ages

from .conftest import network, three_classes

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

X, Y = three_classes(1000)
OPTIONS: dict[str, Any] = {
    "strategy": "async", "optimiser": "momentum", "learning_rate": 0.03, "batch_size": 25,
    "seed": 2, "epochs": 6,
}  # fmt: skip


@given(
    st.integers(0, 5), st.integers(1, 6), st.lists(st.integers(0, 5), max_size=200),
    st.sets(st.integers(0, 5)),
)  # fmt: skip
def test_no_gradient_is_older_than_it_may_be_and_nobody_waits_for_ever(
    most: int, trainers: int, turns: list[int], lost: set[int]
) -> None:
    ages = Ages(most)
    names = [str(n) for n in range(trainers)]
    for turn in turns:
        name = names[turn % trainers]
        if name in ages.under_way:
            if ages.may_push(name):
                ages.push(name)
        elif ages.may_begin():
            ages.begin(name)
        if ages.under_way:  # the oldest may always push
            oldest = min(ages.under_way, key=lambda n: ages.under_way[n])
            assert ages.may_push(oldest)
        else:
            assert ages.may_begin()
    for n in lost:
        ages.leave(str(n))
    while ages.under_way:
        ages.push(next(n for n in ages.under_way if ages.may_push(n)))
    assert max(ages.counts, default=0) <= most


@given(
    st.integers(1, 4), st.integers(1, 20), st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60),
)  # fmt: skip
def test_each_batch_is_applied_once_whoever_is_lost(
    epochs: int, batches: int, length: int, events: list[tuple[int, bool]]
) -> None:
    leases = Leases(epochs, batches, length)
    applied: list[tuple[int, int]] = []

    def work(name: str, *, is_lost: bool) -> None:
        lease = leases.lend(name)
        if lease is None:
            return
        if is_lost:
            leases.take_back(name)
        taken = [(lease[0], batch) for batch in range(lease[1], lease[2])]
        applied.extend(pair for pair in taken if leases.settle(name, *pair))

    for trainer, is_lost in events:
        work(str(trainer), is_lost=is_lost)
    again = Leases.going_on(epochs, batches, length, set(applied))
    assert again.done == len(applied)
    leases = again
    while not leases.is_done:
        work("last", is_lost=False)
    assert sorted(applied) == [(e, b) for e in range(epochs) for b in range(batches)]


def test_one_process_alone_steps_as_in_step() -> None:
    """With one trainer no gradient is old: the numbers are those of the other strategy."""
    found = lh.train.fit(network, (X, Y), **OPTIONS)
    same = lh.train.fit(network, (X, Y), **{**OPTIONS, "strategy": "data"})
    assert found.report.staleness == {0: 240}
    # single precision, 240 steps: means of 25 losses formed in another order
    assert np.max(np.abs(found.step_losses - same.step_losses)) <= 1e-4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("samples")
    put(X, folder / "x", chunks=(100, 6))
    zarr.save_array(folder / "y", Y)
    return folder / "x", folder / "y"


@pytest.mark.parametrize(
    ("staleness", "compression"), [(None, "none"), (0, "none"), (1, "fp16"), (2, "topk")]
)
def test_two_trainers_learn_as_well_with_gradients_no_older_than_allowed(
    client: Client, data: tuple[Path, Path], staleness: int | None, compression: Any
) -> None:
    found = lh.train.fit(
        network, data, validation=data, staleness=staleness, compression=compression, **OPTIONS
    )
    assert sum(found.report.staleness.values()) == 240
    if staleness is not None:
        assert max(found.report.staleness) <= staleness
    assert sum(found.report.samples) == 6000
    assert len(found.report.samples) == 2
    assert found.metrics["accuracy"] > 0.9
    parameters = 6 * 16 + 16 + 16 * 3 + 3
    kept = {"none": 4 * parameters, "fp16": 2 * parameters, "topk": 8 * round(0.02 * parameters)}
    assert found.report.sent_nbytes == 240 * kept[compression]


def test_a_nan_ends_all_trainers_and_names_its_batch(client: Client) -> None:
    x = X.copy()
    x[500] = np.nan
    with pytest.raises(NonFiniteError, match=r"in epoch 1, batch \d+ of 40"):
        lh.train.fit(network, (x, Y), **OPTIONS)


def test_normalisation_over_batches_is_refused() -> None:
    def model() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3))

    with pytest.raises(OptionError, match=r"buffers too \(0.running_mean\)"):
        lh.train.fit(model, (X, Y), **OPTIONS)


def test_who_was_given_up_gives_nothing_and_all_batches_are_done_before_the_end() -> None:
    settings = Settings(
        loss="cross_entropy", optimiser="sgd", learning_rate=0.1, momentum=0.9, epochs=1,
        batch_size=10, seed=0, shuffle=False, patience=None, compression="none", local_steps=1,
    )  # fmt: skip
    recipe = make_recipe(
        lambda: torch.nn.Linear(2, 3), (X[:200, :2], Y[:200]), None, settings, strategy="async",
        memory=None, checkpoint=None, checkpoint_seconds=60,
    )  # fmt: skip
    server = ParameterServer(recipe, None)

    def gradient(batch: int) -> Gradient:
        return Gradient(0, batch, 0.1, np.zeros(9, "f4"))

    lease: Any = server.lend("silent")
    server.pull("silent")
    server.leave("silent")
    assert server.push("silent", gradient(lease[1])) is False
    assert server.lend("silent") is False
    assert server.pull("silent") is None
    with pytest.raises(WorkerError, match="0 batches of 20"):
        server.outcome()
    done = []
    while lease := server.lend("other"):
        for batch in range(lease[1], lease[2]):
            server.pull("other")
            assert server.push("other", gradient(batch))
            done.append(batch)
    assert sorted(done) == list(range(20))
    assert server.outcome()["received_nbytes"] == 20 * 36

"""A parameter server and trainers that come and go: every batch once, no gradient too old."""

from collections import Counter
from dataclasses import replace
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
from leptonhpc.cluster.gangs_ranks import Abandoned, Seat
from leptonhpc.errors import NonFiniteError, OptionError, WorkerError
from leptonhpc.testing import put
from leptonhpc.train.leases import Leases
from leptonhpc.train.parameter_server import Gradient, ParameterServer
from leptonhpc.train.recipe import Recipe, Settings
from leptonhpc.train.running import make_recipe
from leptonhpc.train.staleness import Ages
from leptonhpc.train.trainers import _asked, train_freely

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
    st.integers(1, 4), st.integers(1, 20), st.integers(1, 5), st.integers(1, 8),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60),
)  # fmt: skip
def test_each_batch_is_applied_once_whoever_is_lost(
    epochs: int, batches: int, length: int, window: int, events: list[tuple[int, bool]]
) -> None:
    leases = Leases(epochs, batches, length, window)
    applied: list[tuple[int, int]] = []

    def work(name: str, *, is_lost: bool) -> None:
        lease = leases.lend(name)
        if lease is None:
            return
        assert lease[1] // window == (lease[2] - 1) // window
        if is_lost:
            leases.take_back(name)
        taken = [(lease[0], batch) for batch in range(lease[1], lease[2])]
        applied.extend(pair for pair in taken if leases.settle(name, *pair))

    for trainer, is_lost in events:
        work(str(trainer), is_lost=is_lost)
    again = Leases.going_on(epochs, batches, length, window, set(applied))
    assert again.done == len(applied)
    leases = again
    while not leases.is_done:
        work("last", is_lost=False)
    assert sorted(applied) == [(e, b) for e in range(epochs) for b in range(batches)]


def test_a_slow_trainer_does_not_keep_the_others_waiting_at_the_end() -> None:
    """One learns four times as fast as the other; each has a lease, and one ahead."""
    leases, turn = Leases(4, 100, 12, 50), {"slow": 4, "fast": 1}
    ends, left = dict.fromkeys(turn, 0), {name: [leases.lend(name)] * 1 for name in turn}
    for name in turn:
        left[name].append(leases.lend(name))
    while any(any(have) for have in left.values()):
        name = min((n for n in turn if left[n][0]), key=lambda n: ends[n])
        epoch, first, stop = left[name].pop(0) or (0, 0, 0)
        ends[name] += turn[name] * (stop - first)
        assert all(leases.settle(name, epoch, batch) for batch in range(first, stop))
        left[name].append(leases.lend(name))
    assert leases.is_done
    ideal = 400 / (1 + 1 / 4)
    assert max(ends.values()) <= ideal + 3 * turn["slow"]


def trained(recipe: Recipe) -> Counter[str]:
    """Train in this process; count what the trainer asks the server."""
    server, asked = ParameterServer(recipe, None), Counter[str]()

    def call(method: str, *values: Any) -> Any:
        answer = getattr(server, method)(*values)
        asked[method] += answer is not None and answer is not False
        return answer

    train_freely(Seat(), call, "one", recipe)
    server.outcome()
    return asked


def test_who_waits_for_parameters_is_not_passed_over() -> None:
    small = X[:200, :2], Y[:200]
    recipe = recipe_of(small, lambda: torch.nn.Linear(2, 3), batch_size=10)
    server = ParameterServer(recipe, 0)
    leases: dict[str, Any] = {name: server.lend(name) for name in ("one", "other")}

    def gradient(name: str) -> Gradient:
        return Gradient(0, leases[name][1], 0.1, np.zeros(9, "f4"))

    assert server.pull("one") is not None
    assert server.pull("other") is None  # a second gradient would be one update old
    assert server.push_and_pull("one", gradient("one")) is None
    assert server.pull("other") is not None
    assert server.pull("one") is None
    server.leave("one")
    assert server.push_and_pull("other", gradient("other")) is not None  # nobody waits


def test_a_trainer_that_nobody_waits_for_ends_at_its_next_batch() -> None:
    recipe = recipe_of((X, Y), batch_size=5)
    server, pushed = ParameterServer(recipe, None), []

    def call(method: str, *values: Any) -> Any:
        if method.startswith("push"):
            pushed.append(method)
        return getattr(server, method)(*values)

    with pytest.raises(Abandoned):
        train_freely(Seat(is_wanted=lambda: len(pushed) < 3), call, "one", recipe)
    assert len(pushed) == 3


def test_who_must_wait_asks_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, slept = [None] * 5 + [7], []
    monkeypatch.setattr("time.sleep", slept.append)
    assert _asked(lambda: answers.pop(0), lambda: True, 0.005) == 7
    assert slept == [0.001, 0.002, 0.004, 0.005, 0.005]
    with pytest.raises(Abandoned):
        _asked(lambda: None, lambda: False, 0.005)


def test_a_step_is_one_round_trip() -> None:
    asked = trained(recipe_of((X, Y), batch_size=5))
    assert asked["push"] + asked["push_and_pull"] == 200
    assert asked["pull"] <= asked["lend"] < 200 / 4


@pytest.mark.parametrize(("room", "epochs_read"), [(0, 2), (10**6, 1)])
def test_a_trainer_reads_each_chunk_once_an_epoch_and_those_with_room_once(
    data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, room: int, epochs_read: int
) -> None:
    recipe = recipe_of(data, batch_size=25, epochs=2)
    assert recipe.kept_nbytes == recipe.x.nbytes + recipe.y.nbytes  # all: memory is plenty
    recipe = replace(recipe, kept_nbytes=room)
    reads: list[str] = []

    def count(name: str, source: Any) -> None:
        plain = source.read
        monkeypatch.setattr(source, "read", lambda box: reads.append(name) or plain(box))

    count("x", recipe.x.source)
    count("y", recipe.y.source)
    trained(recipe)
    assert Counter(reads) == {"x": epochs_read * 10, "y": epochs_read * 1}  # chunks


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


def recipe_of(data: Any, model_fn: Any = network, **settings: Any) -> Recipe:
    return make_recipe(
        model_fn, data, None, Settings(**settings), strategy="async", memory=None, checkpoint=None,
        checkpoint_seconds=60,
    )  # fmt: skip


def test_who_was_given_up_gives_nothing_and_all_batches_are_done_before_the_end() -> None:
    small = X[:200, :2], Y[:200]
    recipe = recipe_of(small, lambda: torch.nn.Linear(2, 3), batch_size=10, shuffle=False)
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

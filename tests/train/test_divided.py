"""One model on several workers: layers, columns and rows, or parts of all parameters."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

import leptonhpc as lh
from leptonhpc.cluster.gangs import GangLimits
from leptonhpc.errors import NonFiniteError, OptionError
from leptonhpc.train import Layout, TorchClassifier
from leptonhpc.train.layout import settle_layout
from leptonhpc.train.stages import balance

from .conftest import three_classes
from .models import batch_normalised, broken, deep, normalised, uneven
from .processes import Ranks

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

X, Y = three_classes(1010)
OPTIONS: dict[str, Any] = {
    "optimiser": "momentum", "learning_rate": 0.05, "batch_size": 50, "seed": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def alone() -> Any:
    return lh.train.fit(deep, (X, Y), validation=(X, Y), **OPTIONS)


@pytest.mark.parametrize(
    ("world", "strategy", "layout"),
    [
        (2, "model", Layout()),
        (4, "model", Layout(schedule="gpipe", micro_batches=7)),
        (2, "model", Layout(kind="tensor")),
        (4, "hybrid", Layout()),
        (2, "hybrid", Layout(parts=1)),
        (4, "hybrid", Layout(kind="tensor")),
        (2, "hybrid", Layout(kind="fsdp")),
        (4, "hybrid", Layout(kind="fsdp", parts=2)),
    ],
    ids=lambda v: v if isinstance(v, str) else f"{getattr(v, 'kind', v)}",
)
def test_the_losses_of_twenty_steps_are_those_of_one_process(
    ranks: Ranks, alone: Any, world: int, strategy: str, layout: Layout
) -> None:
    found = ranks.fit(
        world, deep, (X, Y), strategy=strategy, layout=layout, validation=(X, Y), **OPTIONS
    )
    assert len(found.step_losses) == 21  # the last batch has ten samples
    assert np.max(np.abs(found.step_losses - alone.step_losses)) <= 1e-5
    assert found.report.divergence == 0.0
    for own, other in zip(found.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.allclose(own, other, atol=1e-5)
    assert found.metrics["loss"] == pytest.approx(alone.metrics["loss"], abs=1e-5)


@pytest.mark.parametrize("kind", ["pipeline", "tensor", "fsdp"])
def test_a_run_goes_on_from_its_store_on_other_workers(
    ranks: Ranks, kind: Any, tmp_path: Path
) -> None:
    """The whole model and the whole state of its optimiser are in the store."""
    options: dict[str, Any] = {"batch_size": 101, "seed": 3, "learning_rate": 0.01}
    alone = lh.train.fit(deep, (X, Y), epochs=2, **options)
    found = [
        ranks.fit(
            world, deep, (X, Y), strategy="hybrid", layout=Layout(kind=kind, parts=world),
            epochs=epochs, out=tmp_path / "run", **options,
        )
        for epochs, world in ((1, 2), (2, 4))
    ]  # fmt: skip
    assert len(found[0].step_losses) == 10
    # Adam divides by the root of small squares: single precision is lost sooner
    assert np.max(np.abs(found[1].step_losses - alone.step_losses)) <= 1e-5
    assert found[1].report.samples[-1] in (1010, 1010 // 4, 1010 // 4 + 1) or kind == "fsdp"


def test_squared_errors_of_a_filled_up_batch_are_those_of_one_process(ranks: Ranks) -> None:
    y = X @ np.arange(18.0, dtype="f4").reshape(6, 3) / 20
    options: dict[str, Any] = {**OPTIONS, "loss": "mse", "batch_size": 47}
    alone = lh.train.fit(deep, (X, y), **options)
    found = ranks.fit(2, deep, (X, y), strategy="model", **options)
    assert np.max(np.abs(found.step_losses - alone.step_losses)) <= 1e-5


@given(
    arrays(float, st.tuples(st.integers(1, 3), st.integers(3, 6)), elements=st.floats(0.1, 10.0))
)
def test_no_cut_is_better_than_the_one_that_is_chosen(seconds: np.ndarray) -> None:
    workers, units = seconds.shape

    def slowest(cuts: tuple[int, ...]) -> float:
        return max(float(seconds[w, cuts[w] : cuts[w + 1]].sum()) for w in range(workers))

    every = [(0, *inner, units) for inner in itertools.combinations(range(1, units), workers - 1)]
    # sums of at most six numbers below ten, formed in another order
    assert slowest(balance(seconds)) <= min(map(slowest, every)) + 60 * 6 * np.finfo(float).eps


def test_a_slow_layer_has_a_worker_for_itself(ranks: Ranks) -> None:
    """Two units sleep for as long: each is on another worker, wherever the fast ones are."""
    found = ranks.fit(2, uneven, (X[:100], Y[:100]), strategy="model", **OPTIONS)
    assert found.report.held == ("layers 0 to 3", "layers 4 to 5")
    # a micro-batch of 13 rows: 8 numbers each way, four times, two steps
    assert found.report.sent_nbytes == 2 * 2 * 4 * 13 * 8 * 4


def test_a_batch_too_small_to_normalise_over_changes_no_statistics(ranks: Ranks) -> None:
    """One sample is left for the last batch: a rank has it, or none."""
    x, y = three_classes(301)
    for world in (1, 2):
        found = ranks.fit(world, batch_normalised, (x, y), strategy="data", batch_size=50)
        layer: Any = found.model[1]  # type: ignore[index]
        assert int(layer.num_batches_tracked) == 6
        assert len(found.step_losses) == 7
    with pytest.raises(ValueError, match="more than 1 value"):
        ranks.fit(1, batch_normalised, (x, y), strategy="data", batch_size=1)


def test_what_a_layer_raises_comes_back_as_itself(ranks: Ranks) -> None:
    with pytest.raises(ZeroDivisionError, match="of the user"):
        ranks.fit(2, broken, (X, Y), strategy="model", **OPTIONS)


def test_a_loss_that_is_nan_names_epoch_and_batch(ranks: Ranks) -> None:
    x = X.copy()
    x[500] = np.nan
    with pytest.raises(NonFiniteError, match=r"in epoch 1, batch \d+ of 21"):
        ranks.fit(2, deep, (x, Y), strategy="hybrid", layout=Layout(kind="tensor"), **OPTIONS)


@pytest.mark.parametrize(
    ("model_fn", "plan"),
    [(deep, {"0": "colwise"}), (normalised, {"0": "colwise", "2": "rowwise"})],
)
def test_a_plan_that_gives_another_model_is_refused(ranks: Ranks, model_fn: Any, plan: Any) -> None:
    layout = Layout(kind="tensor", plan=plan)
    with pytest.raises(OptionError, match="do not give what the model gives"):
        ranks.fit(2, model_fn, (X, Y), strategy="model", layout=layout, **OPTIONS)


class NoSequential(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)


def tied() -> nn.Module:
    first = nn.Linear(6, 6)
    return nn.Sequential(first, nn.Linear(6, 6), first)


@pytest.mark.parametrize(
    ("model_fn", "layout", "words"),
    [
        (NoSequential, Layout(), r"gave NoSequential.*Layout\(kind='fsdp'\)"),
        (deep, Layout(parts=5), "parts=5 needs as many workers; there are 4"),
        (normalised, Layout(parts=4), r"the model has 3.*workers=3"),
        (tied, Layout(parts=2), "share a parameter"),
        (normalised, Layout(kind="tensor"), "the model has none"),
        (deep, Layout(kind="tensor", plan={"1": "colwise"}), r"\(0, 2, 4, 6\); '1' is Tanh"),
        (deep, Layout(kind="tensor", plan={"x": "rowwise"}), "'x' is no layer"),
        (deep, Layout(kind="tensor", plan={"6": "colwise"}), "width 3 does not divide by 2"),
    ],
)
def test_a_model_that_cannot_be_divided_is_refused(
    model_fn: Any, layout: Layout, words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        settle_layout(layout, "hybrid", model_fn(), 4, GangLimits())


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "x"}, {"schedule": "x"}, {"parts": 0}, {"micro_batches": 1.5}, {"plan": {}},
     {"kind": "tensor", "plan": {"0": "across"}}],
)  # fmt: skip
def test_layouts_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="found"):
        Layout(**wrong)


def test_on_a_cluster_the_whole_model_comes_back(client: Client, alone: Any) -> None:
    found = lh.train.fit(deep, (X, Y), strategy="model", **OPTIONS)
    assert np.max(np.abs(found.step_losses - alone.step_losses)) <= 1e-5
    chances = [of.predict(X, probabilities=True) for of in (found, alone)]
    assert np.max(np.abs(chances[0] - chances[1])) <= 1e-4
    assert all(part.startswith("layers") for part in found.report.held)
    words = np.array(["low", "middle", "high"])[Y]
    estimator = TorchClassifier(
        hidden=(16,), strategy="hybrid", layout=Layout(kind="fsdp"), epochs=4, learning_rate=0.02
    )
    assert estimator.fit(X, words).score(X, words) > 0.9
    assert estimator.result_.report.held[0] == "part 1 of 2 of all parameters"

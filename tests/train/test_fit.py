"""Training in one process: the mathematics, the record, bad input, and going on after an end."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

import leptonhpc as lh
from leptonhpc import store
from leptonhpc.cluster.gangs import GangOutcome
from leptonhpc.errors import (
    DTypeError,
    JobMismatchError,
    MemoryBudgetError,
    NonFiniteError,
    OptionError,
    OutputExistsError,
    ShapeError,
    StoreError,
)
from leptonhpc.testing import put
from leptonhpc.train import Layout
from leptonhpc.train.checkpoints import State, save_state
from leptonhpc.train.inputs import plan_order
from leptonhpc.train.ranks import RankOutcome
from leptonhpc.train.recipe import Settings
from leptonhpc.train.running import make_recipe, result_of

from .conftest import double_network, network, three_classes

X, Y = three_classes()


def by_hand(optimiser: Any, epochs: int, batch: int, loss: Any, y: np.ndarray) -> np.ndarray:
    """Train as torch's tutorials do, on the same batches."""
    torch.manual_seed(5)
    model = double_network()
    steps = optimiser(model.parameters())
    order = plan_order(lh.open(X), lh.open(y), Settings(batch_size=batch, seed=5), (0, 0), None)
    losses = []
    for epoch in range(epochs):
        for rows in order.window(epoch, 0):
            rows = np.sort(rows)
            steps.zero_grad()
            value = loss(model(torch.from_numpy(X[rows]).double()), torch.from_numpy(y[rows]))
            value.backward()
            steps.step()
            losses.append(value.item())
    return np.array(losses)


@pytest.mark.parametrize(
    ("name", "rate", "optimiser"),
    [
        ("sgd", 0.1, lambda p: torch.optim.SGD(p, lr=0.1)),
        ("momentum", 0.05, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        ("adam", 0.01, lambda p: torch.optim.Adam(p, lr=0.01)),
    ],
)
def test_the_losses_are_those_of_a_loop_by_hand(name: Any, rate: float, optimiser: Any) -> None:
    expected = by_hand(optimiser, 2, 50, torch.nn.functional.cross_entropy, Y)
    found = lh.train.fit(
        double_network, (X, Y), optimiser=name, learning_rate=rate, epochs=2, batch_size=50, seed=5
    )
    # sums of 50 terms in another order, 24 steps; the map of one step is not expansive by much
    assert np.max(np.abs(found.step_losses - expected)) <= 24 * 50 * np.finfo(float).eps * 10


def test_squared_errors_are_learnt_too() -> None:
    y = X @ np.arange(18.0).reshape(6, 3)
    expected = by_hand(
        lambda p: torch.optim.Adam(p, lr=0.01), 1, 50, torch.nn.functional.mse_loss, y
    )
    found = lh.train.fit(
        double_network, (X, y), loss="mse", learning_rate=0.01, batch_size=50, seed=5
    )
    bound = 12 * 50 * np.finfo(float).eps * 10 * np.max(expected)
    assert np.max(np.abs(found.step_losses - expected)) <= bound
    assert found.evaluate(X, y).accuracy is None


def test_the_record_of_an_epoch_is_the_mean_over_its_samples() -> None:
    found = lh.train.fit(network, (X, Y), epochs=2, batch_size=256, validation=(X, Y))
    assert len(found.step_losses) == 2 * 3
    sizes = np.array([256, 256, 88])
    for entry, losses in zip(found.history, found.step_losses.reshape(2, 3), strict=True):
        assert entry["loss"] == pytest.approx(float(losses @ sizes) / 600)
    assert found.report.samples == (1200,)
    score = found.evaluate(X, Y)
    assert found.metrics["accuracy"] == score.accuracy


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    found = lh.train.fit(network, (X, Y), epochs=3, learning_rate=0.01)
    score, said = found.evaluate(X, Y), found.predict(X)
    assert score.accuracy == pytest.approx(accuracy_score(Y, said))
    assert score.precision == pytest.approx(precision_score(Y, said, average="macro"))
    assert score.recall == pytest.approx(recall_score(Y, said, average="macro"))
    assert score.f1 == pytest.approx(f1_score(Y, said, average="macro"))


def test_samples_in_a_store_train_as_those_in_memory_do(tmp_path: Path) -> None:
    put(X, tmp_path / "x", chunks=(600, 6))
    zarr.save_array(tmp_path / "y", Y)
    stored = lh.train.fit(network, (tmp_path / "x", tmp_path / "y"), shuffle=False)
    held = lh.train.fit(network, (X, Y), shuffle=False)
    assert np.array_equal(stored.step_losses, held.step_losses)
    out = stored.predict(tmp_path / "x", out=tmp_path / "said")
    assert np.array_equal(np.asarray(out), held.predict(X))
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        stored.predict(tmp_path / "x", out=tmp_path / "said")


def test_probabilities_sum_to_one_and_are_largest_at_the_class() -> None:
    found = lh.train.fit(network, (X, Y))
    chances = found.predict(X, probabilities=True)
    assert np.allclose(chances.sum(axis=1), 1, atol=3 * np.finfo(np.float32).eps)
    assert np.array_equal(chances.argmax(axis=1), found.predict(X))


def test_patience_stops_and_gives_the_best_model() -> None:
    few = slice(0, 40)  # so few samples are learnt by heart
    found = lh.train.fit(
        network, (X[few], Y[few]), validation=(X, Y), epochs=500, patience=3, learning_rate=0.1
    )
    losses = [entry["validation_loss"] for entry in found.history]
    assert len(losses) < 500
    assert int(np.argmin(losses)) == len(losses) - 1 - 3
    assert found.evaluate(X, Y).loss == pytest.approx(min(losses))


def test_a_run_goes_on_from_its_store(tmp_path: Path) -> None:
    whole = lh.train.fit(network, (X, Y), epochs=4)
    lh.train.fit(network, (X, Y), epochs=2, out=tmp_path / "run")
    rest = lh.train.fit(network, (X, Y), epochs=4, out=tmp_path / "run")
    assert np.array_equal(rest.step_losses, whole.step_losses)
    again = lh.train.fit(network, (X, Y), epochs=4, out=tmp_path / "run")
    assert np.array_equal(again.predict(X), whole.predict(X))
    assert again.report.samples == (0,)  # nothing was left to do
    with pytest.raises(JobMismatchError, match=r"\(seed=0 there, 1 now\).*overwrite=True"):
        lh.train.fit(network, (X, Y), epochs=4, seed=1, out=tmp_path / "run")
    with pytest.raises(JobMismatchError, match=r"\(the samples are others\)"):
        lh.train.fit(network, (X + 1, Y), epochs=4, out=tmp_path / "run")
    lh.train.fit(network, (X, Y), seed=1, out=tmp_path / "run", overwrite=True)


def test_two_living_runs_do_not_share_a_store(tmp_path: Path) -> None:
    out = tmp_path / "run"

    class Intrudes(torch.nn.Module):
        """While it is trained, somebody trains in the same place."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                for overwrite in (False, True):
                    with pytest.raises(OutputExistsError, match=f"process {os.getpid()} on this"):
                        lh.train.fit(network, (X, Y), out=out, overwrite=overwrite)
            return self.inner(x)

    options: dict[str, Any] = {"batch_size": 300, "out": out}
    found = lh.train.fit(Intrudes, (X, Y), **options)
    assert len(found.step_losses) == 2
    lh.train.fit(Intrudes, (X, Y), epochs=2, **options)  # the first has ended


class Stops(torch.nn.Module):
    """A model with dropout whose user presses Ctrl-C in some step."""

    at = 10**9
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Stops.calls += self.training
        if Stops.calls == Stops.at and self.training:
            raise KeyboardInterrupt
        return self.inner(x)


def test_a_run_that_was_interrupted_in_an_epoch_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lh.train.fit(Stops, (X, Y), epochs=2)
    monkeypatch.setattr(Stops, "calls", 0)
    monkeypatch.setattr(Stops, "at", 9)  # of the first epoch's ten steps
    with pytest.raises(KeyboardInterrupt):
        lh.train.fit(Stops, (X, Y), epochs=2, out=tmp_path / "run", checkpoint_seconds=0.0)
    rest = lh.train.fit(Stops, (X, Y), epochs=2, out=tmp_path / "run")
    assert np.array_equal(rest.step_losses, whole.step_losses)
    assert 600 < rest.report.samples[0] < 1200  # from the middle of the first epoch


@pytest.mark.parametrize("strategy", ["data", "async"])
@pytest.mark.parametrize("optimiser", ["adam", "momentum"])
def test_training_goes_on_from_what_an_earlier_call_gave(strategy: Any, optimiser: Any) -> None:
    options: dict[str, Any] = {
        "shuffle": False, "batch_size": 100, "learning_rate": 0.01, "optimiser": optimiser,
    }  # fmt: skip
    whole = lh.train.fit(network, (X, Y), epochs=2, **options)
    first = lh.train.fit(network, (X, Y), validation=(X, Y), **options)
    assert first.report.inference_seconds == first.history[-1]["validation_seconds"] > 0
    for _ in range(2):  # what was given stays as it was
        rest = lh.train.fit(network, (X, Y), start=first, strategy=strategy, **options)
        assert rest.step_losses == pytest.approx(whole.step_losses[6:], abs=1e-5)


def test_a_new_start_has_the_rates_of_its_call_and_another_optimiser_begins_anew() -> None:
    first = lh.train.fit(network, (X, Y), learning_rate=0.01)
    more = lh.train.fit(network, (X, Y), learning_rate=1e-9, start=first)
    assert torch.allclose(more.model[0].weight, first.model[0].weight, atol=1e-7)
    assert lh.train.fit(network, (X, Y), optimiser="sgd", start=first).history


def test_an_end_that_cannot_be_seen_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that shows what was there before."""
    run = str(tmp_path / "run")
    store.create_group(run, attributes={})
    recipe = make_recipe(
        network, (X, Y), None, Settings(), strategy="data", memory=None,
        checkpoint=run, checkpoint_seconds=60,
    )  # fmt: skip
    monkeypatch.setattr("leptonhpc.train.running._SEEN_SECONDS", 0.0)
    nothing = RankOutcome(0, 600, 1.0, 0, 1.0, 0.0)
    gang = GangOutcome((nothing,), ("a",), 0, 0)
    with pytest.raises(StoreError, match="does not see the end"):
        result_of(recipe, gang, 0.0)
    save_state(run, State(recipe.fingerprint(), network().state_dict(), finished=True))
    assert result_of(recipe, gang, 0.0).report.workers == 1


def test_a_start_of_another_model_is_refused() -> None:
    first = lh.train.fit(network, (X, Y))
    with pytest.raises(OptionError, match=r"start= is of a model with .*\(16, 6\)"):
        lh.train.fit(lambda: torch.nn.Linear(6, 3), (X, Y), start=first)
    with pytest.raises(OptionError, match="a TrainResult; found Sequential"):
        lh.train.fit(network, (X, Y), start=first.model)  # type: ignore[arg-type]


def test_a_loss_that_is_nan_names_epoch_and_batch() -> None:
    x = X.copy()
    x[123, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"loss is nan in epoch 1, batch \d+ of 10"):
        lh.train.fit(network, (x, Y))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"y": Y[:-1]}, ShapeError, "a target for each sample"),
        ({"y": Y + 1}, OptionError, "labels are from 0 to 2"),
        ({"y": Y - 1}, OptionError, "-1 at row"),
        ({"y": Y + 0.5}, DTypeError, "whole numbers"),
        ({"y": np.stack([Y, Y], axis=1)}, ShapeError, "one label for each sample"),
        ({"x": X[:, :5]}, ShapeError, r"does not take samples of shape \(5,\)"),
        ({"x": X.astype(complex)}, DTypeError, "real numbers"),
        ({"loss": "mse"}, ShapeError, "the model gives 3 numbers"),
        ({"loss": "hinge"}, OptionError, "cross_entropy, mse; found 'hinge'"),
        ({"batch_size": 0}, OptionError, "from 1; found 0"),
        ({"learning_rate": -1.0}, OptionError, "above 0; found -1.0"),
        ({"patience": 2}, OptionError, "needs validation"),
        ({"local_steps": 2, "compression": "fp16"}, OptionError, "use one of them"),
        ({"strategy": "magic"}, OptionError, "found 'magic'"),
        ({"layout": Layout()}, OptionError, "is of strategy='model' and 'hybrid'"),
        ({"strategy": "model", "layout": Layout(kind="fsdp")}, OptionError, "of strategy='hybrid'"),
        ({"strategy": "model", "compression": "fp16"}, OptionError, "use strategy='data'"),
        ({"strategy": "model", "layout": Layout(parts=3)}, OptionError, "has 2. Pass workers=2"),
        (
            {"strategy": "model", "layout": Layout(kind="tensor", parts=3)},
            OptionError,
            "that divides by 3; the model has none",
        ),
        ({"staleness": 2}, OptionError, "is of strategy='async'"),
        ({"strategy": "async", "staleness": -1}, OptionError, "from 0; found -1"),
        ({"strategy": "async", "local_steps": 2}, OptionError, "use strategy='data'"),
        ({"strategy": "async", "compression": "powersgd"}, OptionError, "workers in step"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    options = dict(change)
    data = options.pop("x", X), options.pop("y", Y)
    with pytest.raises(error, match=words):
        lh.train.fit(network, data, **options)


def test_a_target_that_is_nan_names_its_row() -> None:
    y = X[:, :3].copy()
    y[77, 1] = np.nan
    with pytest.raises(NonFiniteError, match="at row 77"):
        lh.train.fit(network, (X, y), loss="mse")


def test_a_model_function_that_gives_no_model_is_refused() -> None:
    with pytest.raises(OptionError, match="it gave int"):
        lh.train.fit(lambda: 3, (X, Y))  # type: ignore[arg-type,return-value]
    with pytest.raises(ShapeError, match="none to learn"):
        lh.train.fit(torch.nn.Identity, (X, Y))


def test_a_batch_that_does_not_fit_says_which_would(tmp_path: Path) -> None:
    wide = np.zeros((400, 60_000), np.float32)
    y = np.zeros(400, np.int64)

    def model() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool1d(4), torch.nn.Linear(4, 2))

    with pytest.raises(MemoryBudgetError, match=r"needs at least memory='\d+ MB'.*batch_size="):
        lh.train.fit(model, (wide, y), batch_size=400, memory="300 MB")
    lh.train.fit(model, (wide, y), batch_size=20, memory="300 MB")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(OptionError, match=r"leptonhpc\[train\]"):
        lh.train.fit(network, (X, Y))


def test_the_generator_of_the_user_stays_where_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    lh.train.fit(network, (X, Y))
    assert torch.equal(torch.rand(1), expected)


def test_a_bad_argument_leaves_the_run_that_overwrite_would_replace(tmp_path: Path) -> None:
    out = tmp_path / "run"
    lh.train.fit(network, (X, Y), out=out)
    before = sorted(p.relative_to(out) for p in out.rglob("*"))
    with pytest.raises(ShapeError):
        lh.train.fit(lambda: torch.nn.Linear(X.shape[1] + 1, 3), (X, Y), out=out, overwrite=True)
    with pytest.raises(OptionError):
        lh.train.fit(network, (X, Y), strategy="async", staleness=-1, out=out, overwrite=True)
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == before

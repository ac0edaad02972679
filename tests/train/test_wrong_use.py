"""What users do wrong, or in unusual ways: an error that names the way out, or what is usual."""

import threading
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
from distributed import Client

import leptonhpc as lh
from leptonhpc.errors import (
    DTypeError,
    JobMismatchError,
    NonFiniteError,
    OptionError,
    ShapeError,
    WorkerError,
)
from leptonhpc.train import TorchClassifier
from leptonhpc.train.sending import Sendable

from .conftest import network, three_classes

# distributed looks for a port with a socket that it leaves to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

X, Y = three_classes()
ONE_NAN = X.copy()
ONE_NAN[123, 2] = np.nan


@pytest.fixture(scope="module")
def usual() -> Any:
    return lh.train.fit(network, (X, Y))


@pytest.mark.parametrize(
    "data",
    [(X.astype(">f4"), Y.astype(">i8")), (X, Y[:, None]), (X.tolist(), Y.tolist())],
    ids=["byte order", "one column", "lists"],
)
def test_the_same_numbers_in_another_form_give_the_same(usual: Any, data: Any) -> None:
    found = lh.train.fit(network, data, validation=data)
    assert np.array_equal(found.step_losses, usual.step_losses)
    assert found.evaluate(*data).accuracy == usual.evaluate(X, Y).accuracy


def test_numbers_of_numpy_are_options_that_a_checkpoint_gives_back(
    usual: Any, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "learning_rate": np.float32(0.01), "batch_size": np.int64(64), "seed": np.uint8(3),
        "out": tmp_path / "run",
    }  # fmt: skip
    lh.train.fit(network, (X, Y), **options)
    again = lh.train.fit(network, (X, Y), epochs=np.int64(2), **options)  # type: ignore[arg-type]
    assert len(again.history) == 2
    assert again.report.samples == (600,)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": None}, "seed is a whole number from 0; found None"),
        ({"learning_rate": "1e-3"}, "learning_rate is a number; found '1e-3'"),
        ({"batch_size": 20.0}, "batch_size is a whole number from 1; found 20.0"),
        ({"patience": 0, "validation": (X, Y)}, "patience is a whole number from 1; found 0"),
        ({"workers": 0}, "workers is a whole number from 1; found 0"),
        ({"timeout": None}, "timeout is a number; found None"),
        ({"max_restarts": -1}, "max_restarts is a whole number from 0; found -1"),
        ({"checkpoint_seconds": "1 min"}, "checkpoint_seconds is a number"),
    ],
)
def test_options_of_another_kind_are_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        lh.train.fit(network, (X, Y), **wrong)


def test_labels_that_are_words_are_told_where_to_go() -> None:
    with pytest.raises(DTypeError, match=r"y needs numbers.*TorchClassifier.*return_inverse"):
        lh.train.fit(network, (X, np.array(["a", "b", "c"])[Y]))


def test_a_model_in_place_of_what_makes_it_is_refused() -> None:
    with pytest.raises(OptionError, match=r"found Sequential.*copy\.deepcopy"):
        lh.train.fit(network(), (X, Y))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"model\(features, outputs\).*found Sequential"):
        TorchClassifier(model=network()).fit(X, Y)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"such as \(128,\); found 16"):
        TorchClassifier(hidden=16).fit(X, Y)  # type: ignore[arg-type]


class Says(torch.nn.Module):
    """Gives what it is told to, or raises it."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.inner, self.what = network(), what

    def forward(self, x: torch.Tensor) -> Any:
        if isinstance(self.what, BaseException):
            raise self.what
        return self.inner(x), self.what


def test_an_error_of_the_user_is_not_taken_for_one_of_shapes(usual: Any) -> None:
    for error in (RuntimeError("mine"), NotImplementedError("later")):
        with pytest.raises(type(error), match=str(error)) as caught:
            lh.train.fit(lambda error=error: Says(error), (X, Y))  # type: ignore[misc]
        assert type(caught.value) is type(error)
    with pytest.raises(ShapeError, match=r"shape \(5,\)"):
        usual.predict(X[:, :5])


@pytest.mark.parametrize("strategy", ["data", "async"])
def test_a_stop_iteration_of_the_samples_comes_back_as_itself(strategy: Any) -> None:
    """They are read inside a generator, where Python makes a RuntimeError of it."""
    blocks = iter(range(3))

    def some(block: np.ndarray) -> np.ndarray:
        next(blocks)
        return block

    x = da.from_array(X, chunks=(100, 6)).map_blocks(some, dtype=X.dtype, meta=X[:0])
    with pytest.raises(StopIteration):
        lh.train.fit(network, (x, Y), strategy=strategy)


class Locked(Exception):  # noqa: N818
    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


class Told(Exception):  # noqa: N818
    def __init__(self, what: str, *, more: int) -> None:
        super().__init__(what)
        self.more = more


def test_workers_send_what_they_can_of_exceptions() -> None:
    def fail(error: BaseException) -> None:
        raise error

    for error in (StopIteration("s"), Told("t", more=1), ExceptionGroup("g", [ValueError(1)])):
        with pytest.raises(type(error)) as caught:
            Sendable(fail)(error)
        assert caught.value is error
    # these would come without their kind, or end the worker
    for unsendable in (Locked(), KeyboardInterrupt("k")):
        with pytest.raises(WorkerError, match=type(unsendable).__name__):
            Sendable(fail)(unsendable)


def test_indices_that_half_precision_rounds_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"torch\.bfloat16 makes others of them: 257 is 256 there"):
        lh.train.fit(lambda: network().bfloat16(), (np.full_like(X, 257, np.int64), Y))


def test_a_model_that_gives_a_tuple_is_refused() -> None:
    with pytest.raises(ShapeError, match="gives a tensor; it gave tuple"):
        lh.train.fit(lambda: Says(1), (X, Y))


def test_a_sample_that_is_nan_has_no_class(usual: Any) -> None:
    with pytest.raises(NonFiniteError, match="NaN for row 123 of"):
        usual.predict(ONE_NAN)
    chances = usual.predict(ONE_NAN, probabilities=True)
    assert np.flatnonzero(np.isnan(chances).any(axis=1)).tolist() == [123]


def test_what_is_scored_is_checked_as_what_is_learnt(usual: Any) -> None:
    for labels, error in ((Y + 1, OptionError), (Y + 0.5, DTypeError), (Y[:-1], ShapeError)):
        with pytest.raises(error):
            usual.evaluate(X, labels)
    with pytest.raises(ShapeError, match=r"shape \(5,\)"):
        usual.evaluate(X[:, :5], Y)


def test_numbers_have_no_probabilities() -> None:
    found = lh.train.fit(lambda: torch.nn.Linear(6, 1), (X, X[:, 0]), loss="mse")
    with pytest.raises(OptionError, match="probabilities are of classes"):
        found.predict(X, probabilities=True)


def test_a_store_of_another_model_is_refused(tmp_path: Path) -> None:
    lh.train.fit(network, (X, Y), out=tmp_path / "run")
    with pytest.raises(JobMismatchError, match=r"another model.*overwrite=True"):
        lh.train.fit(lambda: torch.nn.Linear(6, 3), (X, Y), epochs=2, out=tmp_path / "run")


def test_brain_floats_are_predicted_with_and_not_sent_to_a_server() -> None:
    def model() -> torch.nn.Module:
        return network().bfloat16()

    assert lh.train.fit(model, (X, Y)).predict(X, probabilities=True).dtype == np.float32
    with pytest.raises(OptionError, match=r"0\.weight is torch\.bfloat16"):
        lh.train.fit(model, (X, Y), strategy="async")


# -- on workers


class Unused(torch.nn.Module):
    """Has parameters that its outputs do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.other = network(), torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found


def test_parameters_that_are_not_used_do_no_harm(client: Client) -> None:
    found = lh.train.fit(Unused, (X, Y))
    with_one = torch.nn.utils.parameters_to_vector(found.model.parameters())
    assert found.report.divergence == 0.0
    assert len(found.step_losses) == 10
    assert bool(with_one.isfinite().all())


def test_a_rank_may_have_no_sample_of_any_batch(client: Client) -> None:
    few = X[:5], Y[:5]
    found = lh.train.fit(network, few, batch_size=1, validation=few)
    assert sorted(found.report.samples) == [0, 5]
    assert found.report.divergence == 0.0


@pytest.mark.parametrize("strategy", ["data", "model"])
def test_workers_are_free_when_one_rank_has_failed(client: Client, strategy: Any) -> None:
    """The other one waits for it in the middle of a step, as long as its sockets are open."""
    with pytest.raises(NonFiniteError, match="in epoch 1, batch"):
        lh.train.fit(network, (ONE_NAN, Y), strategy=strategy, timeout=1000.0)
    assert lh.train.fit(network, (X, Y)).report.restarts == 0


def ends() -> torch.nn.Module:
    return Ends(6, 3)


class Ends(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise SystemExit(3)
        return super().forward(x)


@pytest.mark.parametrize("strategy", ["data", "async"])
def test_a_model_that_ends_its_process_does_not_end_workers(client: Client, strategy: Any) -> None:
    before = client.scheduler_info(n_workers=-1)["workers"].keys()
    with pytest.raises(WorkerError, match=r"called sys\.exit\(3\)"):
        lh.train.fit(ends, (X, Y), strategy=strategy)
    assert client.scheduler_info(n_workers=-1)["workers"].keys() == before


def test_what_makes_the_model_must_be_sendable(client: Client, tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:

        def model() -> torch.nn.Module:
            log.write("made")
            return network()

        with pytest.raises(OptionError, match=r"model_fn cannot be sent.*inside it"):
            lh.train.fit(model, (X, Y))

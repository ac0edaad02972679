"""What a non-negative factorisation refuses, and what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import (
    DTypeError,
    MemoryBudgetError,
    NegativeValueError,
    NonFiniteError,
    NotConvergedWarning,
    NumericRangeError,
    OptionError,
    ShapeError,
)
from leptonhpc.testing import put

X = np.random.default_rng(0).random((90, 20))
METHODS: list[dict[str, Any]] = [
    {"init": "random"}, {"init": "nndsvd"}, {"method": "compressed"},
    {"loss": "kullback-leibler"}, {"h0": np.ones((2, 20)), "update_h": False},
]  # fmt: skip


@pytest.mark.parametrize("options", METHODS)
@pytest.mark.parametrize("wide", [False, True])
def test_a_negative_number_is_named_by_block_and_index(
    wide: bool, options: dict[str, Any], tmp_path: Path
) -> None:
    if wide and "h0" in options:
        options = {"h0": np.ones((2, 90)), "update_h": False}
    x = X.copy()
    x[70, 11] = -0.5
    place = put(x.T if wide else x, tmp_path / "x", chunks=(8, 16) if wide else (16, 8))
    index, block = ("(11, 70)", "(1, 4)") if wide else ("(70, 11)", "(4, 1)")
    with pytest.raises(NegativeValueError) as caught:
        lh.nmf(place, rank=2, memory="1 GB", out=tmp_path / "r", **options)
    assert f"-0.5 at index {index}, in block {block}" in str(caught.value)
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "r.partial").exists()


@pytest.mark.parametrize("options", METHODS)
def test_what_is_not_finite_is_named_by_block_and_index(options: dict[str, Any]) -> None:
    for value in (np.nan, np.inf):
        x = X.copy()
        x[70, 11] = value
        with pytest.raises(NonFiniteError, match=rf"{value} at index \(70, 11\).* first$"):
            lh.nmf(x, rank=2, memory="1 GB", **options)


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, OptionError, "rank= is needed"),
    ({"rank": 0}, OptionError, "at least 1; found 0"),
    ({"rank": 2.5}, OptionError, "whole number; found 2.5"),
    ({"rank": True}, OptionError, "whole number; found True"),
    ({"rank": 2, "tol": -1.0}, OptionError, "tol is from 0"),
    ({"rank": 2, "tol": np.nan}, OptionError, "tol is from 0"),
    ({"rank": 2, "most_sweeps": 0}, OptionError, "most_sweeps"),
    ({"rank": 2, "seed": -1}, OptionError, "seed is from 0"),
    ({"rank": 2, "loss": "hinge"}, OptionError, "loss is one of frobenius, kullback-leibler"),
    ({"rank": 2, "init": "zeros"}, OptionError, "init is one of"),
    ({"rank": 2, "method": "mu"}, OptionError, "method is one of"),
    ({"rank": 21, "init": "nndsvd"}, OptionError, "rank up to 20"),
    (
        {"rank": 2, "loss": "kullback-leibler", "method": "compressed"},
        OptionError, "Use method='sweeps'",
    ),
    ({"rank": 2, "loss": "kullback-leibler", "init": "nndsvd"}, OptionError, "'nndsvda'"),
    ({"rank": 2, "update_h": False}, OptionError, "pass h0="),
    ({"rank": 2, "w0": np.ones((90, 2))}, OptionError, "together with h0="),
    ({"rank": 2, "h0": np.ones((2, 20))}, OptionError, "needs w0= beside it"),
    ({"rank": 3, "h0": np.ones((2, 20)), "update_h": False}, ShapeError, r"found \(2, 20\)"),
    ({"h0": np.ones((2, 19)), "update_h": False}, ShapeError, r"h0 has shape \(2, 20\)"),
    ({"h0": 1j * np.ones((2, 20)), "update_h": False}, DTypeError, "h0 is real"),
    ({"h0": np.ones((2, 20)), "w0": np.ones((90, 2)), "init": "random"}, OptionError, "no init="),
    ({"h0": -np.ones((2, 20)), "update_h": False}, NegativeValueError, "-1.0 in component 0"),
    ({"h0": np.ones((2, 20)), "w0": -np.ones((90, 2))}, NegativeValueError, "-1.0 in row"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "words"), REFUSED)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        lh.nmf(X, memory="1 GB", **options)


def test_only_real_matrices_are_factored() -> None:
    with pytest.raises(DTypeError, match="complex128"):
        lh.nmf(X + 1j, rank=2)
    for x in (np.ones(3), np.ones((2, 2, 2)), np.ones((0, 3))):
        with pytest.raises(ShapeError, match="nmf needs a matrix"):
            lh.nmf(x, rank=1)


def test_too_little_memory_is_refused_with_what_would_do() -> None:
    with pytest.raises(MemoryBudgetError, match=r"memory='(\d+) MB'") as caught:
        lh.nmf(X, rank=2, memory="10 MB")
    needed = str(caught.value).partition("memory='")[2].partition("'")[0]
    assert lh.nmf(X, rank=2, memory=needed, most_sweeps=1, tol=0.9).certificate.sweeps == 1


@pytest.mark.parametrize("options", [{"init": "random"}, {"init": "nndsvd"}])
def test_numbers_whose_products_leave_the_range_are_refused(options: dict[str, Any]) -> None:
    for factor, dtype in ((1e-30, "f4"), (1e30, "f4"), (1e160, "f8")):
        with pytest.raises(NumericRangeError, match="Scale") as caught:
            lh.nmf((factor * X).astype(dtype), rank=2, memory="1 GB", **options)
        assert str(caught.value).count("Scale") == 1


def test_what_did_not_converge_warns_and_says_so() -> None:
    with pytest.warns(NotConvergedWarning, match="NOT CONVERGED in 1 sweeps"):
        r = lh.nmf(X, rank=4, most_sweeps=1, memory="1 GB")
    assert not r.certificate.converged
    assert r.certificate.reason == "sweeps"


def test_certificate_says_what_it_measured() -> None:
    r = lh.nmf(X, rank=4, memory="1 GB")
    text = str(r.certificate)
    assert f"{r.certificate.relative_error:.6g}" in text
    assert "HALS" in text
    kl = lh.nmf(X + 0.1, rank=2, loss="kullback-leibler", tol=1e-2, memory="1 GB")
    assert "D(X | WH)" in str(kl.certificate)


@pytest.mark.parametrize("given", [{"update_h": False}, {"w0": np.ones((20, 2))}])
def test_a_divergence_that_is_infinite_is_said_to_be(given: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x, h0 = rng.random((20, 6)) + 0.1, rng.random((2, 6))
    h0[:, 3] = 0  # no product leaves zero
    with pytest.warns(NotConvergedWarning):
        r = lh.nmf(x, rank=2, loss="kullback-leibler", h0=h0, most_sweeps=5, **given)
    assert r.certificate.error == np.inf


@pytest.mark.parametrize(
    ("loss", "w0", "h0", "what"),
    [
        ("frobenius", 0.0, 0.0, r"component 0 \(3 of 3"),
        ("frobenius", [1.0, 0.0, 1.0], [1.0, 0.0, 1.0], r"component 1 \(1 of 3"),
        ("kullback-leibler", 0.0, 1.0, r"component 0 \(3 of 3"),
        ("kullback-leibler", 1.0, [1.0, 1.0, 0.0], r"component 2 \(1 of 3"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_start_at_a_saddle_is_refused_and_not_called_converged(
    loss: Any, w0: Any, h0: Any, what: str, turned: bool
) -> None:
    x = np.random.default_rng(0).random((20, 6)) + 0.1
    starts = np.ones((20, 3)) * w0, np.ones((3, 6)) * np.reshape(h0, (-1, 1))
    if turned:
        x, starts = x.T, (starts[1].T, starts[0].T)
    with pytest.raises(OptionError, match=f"start of nmf .* is zero in {what}"):
        lh.nmf(x, rank=3, loss=loss, w0=starts[0], h0=starts[1])


@pytest.mark.parametrize("zero", ["w", "h"])
def test_one_factor_of_zeros_is_found_from_the_other(zero: str) -> None:
    rng = np.random.default_rng(0)
    w, h = rng.random((20, 2)), rng.random((2, 6))
    starts = {"w0": w * (zero != "w"), "h0": h * (zero != "h")}
    r = lh.nmf(w @ h, rank=2, **starts)
    assert r.certificate.converged
    assert r.certificate.relative_error < 0.1
    nothing = lh.nmf(np.zeros((20, 6)), rank=2, w0=0 * w, h0=0 * h)  # that is its answer
    assert nothing.certificate.error == 0


def test_the_divergence_from_no_components_is_refused() -> None:
    with pytest.raises(OptionError, match="is zero in component 0"):
        lh.nmf(np.ones((5, 4)), h0=np.zeros((2, 4)), update_h=False, loss="kullback-leibler")


def test_precision_is_that_of_the_input_converted() -> None:
    x = np.random.default_rng(0).random((40, 6))
    single = lh.nmf(x, rank=2, precision="float32")
    assert single.w.dtype == single.h.dtype == np.float32
    assert np.array_equal(single.w, lh.nmf(x.astype("f4"), rank=2).w)
    assert lh.nmf(x.astype("f4"), rank=2, precision="float64").w.dtype == np.float64
    with pytest.raises(OptionError, match="nmf has no precision='tf32'.*'float32'"):
        lh.nmf(x, rank=2, precision="tf32")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="found 'half'"):
        lh.nmf(x, rank=2, precision="half")  # type: ignore[arg-type]

"""Numbers of NumPy are numbers; what is none is refused before anything is planned."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.api import planned
from leptonhpc.errors import OptionError

A = np.random.default_rng(0).standard_normal((60, 20))
NUMBERS = [
    (driver, name)
    for driver, (planner, _) in planned._DRIVERS.items()
    for name, p in inspect.signature(planner).parameters.items()
    if p.annotation in {"int", "int | None", "float", "float | None"}
]


@pytest.mark.parametrize(("driver", "name"), NUMBERS)
@pytest.mark.parametrize("value", ["3", True, [3], 3j, np.array([3, 4])], ids=str)
def test_what_is_no_number_is_refused_by_name(driver: Any, name: str, value: Any) -> None:
    arrays = (A,) * (2 if driver in {"matmul", "solve", "lstsq", "cg", "lsmr"} else 1)
    with pytest.raises(OptionError, match=f"{driver}: {name} is a (whole )?number; found"):
        lh.plan(driver, *arrays, **{name: value})


@pytest.mark.parametrize("option", [{"weights": "junk"}, {"weights": np.ones(20, complex)},
                                    {"scale": {"a": 1}}], ids=str)  # fmt: skip
def test_weights_and_scales_are_real_numbers(option: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="needs one real number per column; found"):
        lh.plan("svd", A, rank=2, **option)


def test_numbers_of_numpy_are_the_same_job(tmp_path: Path) -> None:
    options: dict[str, Any] = {"rank": 3, "method": "krylov", "accuracy": 1e-4, "seed": 2}
    a = np.random.default_rng(0).standard_normal((300, 80)) * 0.5 ** np.arange(80)
    first = lh.svd(a, out=tmp_path / "r", **options)
    again = {"rank": np.int64(3), "accuracy": np.float64(1e-4), "seed": np.uint8(2)}
    second = lh.svd(a, out=tmp_path / "r", **{**options, **again})  # found, not refused
    assert np.array_equal(first.s, second.s)


def test_sizes_made_of_narrow_numbers_do_not_overflow() -> None:
    wide, narrow = (
        lh.plan("svd", np.ones((3000, 200)), rank=rank, memory="1 GB").explanation
        for rank in (5, np.int16(5))
    )
    assert wide == narrow

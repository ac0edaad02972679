"""The cubics of the sign iteration, and where a spectrum is divided."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.linalg.eigh_recursion import split_points
from leptonhpc.linalg.sign import cubic, iterations


@given(exponent=st.floats(-16, 0))
def test_values_stay_between_the_new_bounds(exponent: float) -> None:
    lower = 10.0**exponent
    a, b, least = cubic(lower)
    x = np.concatenate([np.geomspace(lower, 1, 400), [np.sqrt(a / (3 * b))]])
    x = x[x <= 1]
    p = a * x - b * x**3
    assert p.max() <= 1 + 1e-15
    assert p.min() >= least * (1 - 1e-12)
    assert least >= lower


@given(exponent=st.floats(-16, 0))
def test_the_largest_is_not_taken_near_zero(exponent: float) -> None:
    a, b, _ = cubic(10.0**exponent)
    assert a - b >= 0.24


def test_signs_are_found_in_as_many_iterations_as_are_planned() -> None:
    for lower in (1e-16, 1e-5, 0.3, 0.99):
        x, bound = np.array([lower, -lower, max(0.5, lower), -1.0, 1.0, np.sqrt(lower)]), lower
        for _ in range(iterations(lower)):
            a, b, bound = cubic(bound)
            x = a * x - b * x**3
        assert np.max(np.abs(np.abs(x) - 1)) <= 4 * np.finfo(float).eps
        assert np.array_equal(np.sign(x), [1, -1, 1, -1, 1, 1])


@pytest.mark.parametrize("seed", range(5))
def test_a_spectrum_is_divided_in_a_wide_gap_near_its_middle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    theta = np.sort(np.r_[rng.uniform(0, 1, 20), rng.uniform(3, 4, 20)])
    first = split_points(theta, np.full(40, 1 / 40), 4)[0]
    assert 1 < first < 3


def test_a_spectrum_of_one_value_is_not_divided() -> None:
    assert split_points(np.ones(5), np.full(5, 0.2), 4) == []
    assert split_points(np.ones(1), np.ones(1), 4) == []

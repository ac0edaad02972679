"""Amounts of memory are read, and durations written, as people do."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.errors import OptionError
from leptonhpc.planning.amounts import parse_nbytes, smallest_megabytes
from leptonhpc.planning.costs import format_seconds


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("2 GB", 2 * 10**9), ("512MiB", 2**29), ("1.5 GB", 1_500_000_000), ("2e9", 2 * 10**9),
        (2e9, 2 * 10**9), (5, 5), (" 3 kB ", 3000), ("3K", 3000), ("1 TiB", 2**40), ("7B", 7),
        ("7", 7), (np.int64(10**9), 10**9), (np.float64(1e9), 10**9), (None, None),
    ],
)  # fmt: skip
def test_amounts_of_memory_are_read(text: Any, nbytes: int | None) -> None:
    assert parse_nbytes(text) == nbytes


@pytest.mark.parametrize(
    "text",
    ["", "GB", "-1 GB", "1 PB", "1,5 GB", "1..2 GB", ".", "many", "1e400 GB", 0, -1, True, b"1 GB",
     float("nan"), float("inf"), "0 GB", "1 GB 2", [1]],
)  # fmt: skip
def test_what_is_no_amount_of_memory_is_refused(text: Any) -> None:
    with pytest.raises(OptionError, match="memory is a number of bytes"):
        parse_nbytes(text)


@given(st.floats(0, 1e8))
def test_durations_are_written_with_a_unit(value: float) -> None:
    text = format_seconds(value)
    assert re.fullmatch(r"[\d.e+-]+ ms|[\d.]+ s|\d+ min \d+ s|\d+ h \d+ min", text)


@given(
    st.integers(1, 10**6), st.integers(1, 10**9), st.none() | st.integers(1, 10**9),
)  # fmt: skip
def test_the_smallest_size_that_fits_is_found(low: int, more: int, guess: int | None) -> None:
    least = min(low + more, 10**9)
    assert smallest_megabytes(lambda size: size >= least, low, guess) == least


def test_a_right_guess_takes_two_trials_and_what_never_fits_ends() -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size >= 7000

    assert smallest_megabytes(fits, 100, 7000) == 7000
    assert tried == [7000, 6999]
    assert smallest_megabytes(lambda _: False, 100) is None

"""What lanes summed is added: an accumulator that was handed on is nobody's to add."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonhpc.errors import CoverageError
from leptonhpc.kernels import Accumulator, combine, settled
from leptonhpc.runtime.device import device_here
from leptonhpc.runtime.foreign import in_words
from leptonhpc.runtime.kept import Kept
from leptonhpc.store.buffers import drop_buffers

TAKEN = "taken over"
"""Marks an accumulator whose arrays belong to another now."""


def sum_afresh(parts: list[Accumulator]) -> Accumulator:
    """Add the accumulators of lanes into a new one: theirs stay as they are, for another try."""
    drop_buffers()  # the lanes have read all; their plan has no room for the sum beside buffers
    total: Accumulator = Kept()
    for part in parts:
        added = _whole(part)
        combine(total, {k: v if k in total else _copied(v) for k, v in added.items()})
    return total


def take_only(parts: list[Accumulator]) -> Accumulator:
    """Give the accumulator of a stage's only lane, without a copy: its plan has room for none."""
    (only,) = parts
    return Kept(_whole(only))


def sum_accumulators(parts: list[Accumulator]) -> Accumulator:
    """Add the accumulators of lanes; a step that is in two of them is an error."""
    total = Kept({k: writable(v) for k, v in _whole(parts[0]).items()})
    for part in parts[1:]:
        combine(total, _whole(part))
    return total


def writable(value: Any) -> Any:
    """Give a value that may be changed: arrays that came over the wire may be read-only."""
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        return value.copy()
    return value


def _whole(part: Accumulator) -> Accumulator:
    """Give an accumulator on the host, if its arrays are its own."""
    if part.get(TAKEN):
        raise CoverageError("an accumulator that another task changed, or that came late, is added")
    try:
        return settled(part)
    except Exception as error:  # a device's: the host has nothing to copy
        words = in_words(error, device_here(), "copying a sum to the host")
    raise words


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value

"""What is done for one part, wherever that is; values and errors as they travel."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle
import numpy as np

from leptonhpc.errors import OptionError, WorkerError
from leptonhpc.parallel.parts import Part, Rows


@dataclass(frozen=True)
class Outcome:
    """What the function gave for a part, or raised."""

    number: int
    value: Any
    error: BaseException | None
    where: str
    """The worker, process or thread."""


@dataclass(frozen=True)
class Work:
    """A function for parts, with random numbers that are a part's own if there is a seed."""

    function: Callable[..., Any]
    seed: int | None

    def of_part(self, part: Part) -> Any:
        """Read a part and run the function."""
        data = part.load()
        if self.seed is None:
            return self.function(data)
        return self.function(data, rng=generator(self.seed, part.number))

    def __call__(self, payload: bytes) -> bytes:
        """Run the function on a packed part; give the packed value, or the packed error."""
        try:
            value = self.of_part(pickle.loads(payload))
            return _packed_value(value)
        except BaseException as error:
            return _packed_error(error)


def generator(seed: int, part: int) -> np.random.Generator:
    """Give the random numbers of one part.

    Parameters
    ----------
    seed : int
        Of the job.
    part : int
        Number of the part.

    Returns
    -------
    numpy.random.Generator
        Philox with the key (seed, part): streams of different keys are independent.
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed, part], np.uint64)))


def packed_part(part: Part) -> bytes:
    """Give what is sent of a part: rows of a stored array are read where they arrive.

    Parameters
    ----------
    part : Part
        The part.

    Returns
    -------
    bytes
        Pickled.

    Raises
    ------
    OptionError
        If it cannot be pickled.
    """
    if isinstance(part.data, Rows) and part.data.stored is None:
        part = part.in_memory()
    try:
        sent: bytes = cloudpickle.dumps(replace(part, device=None))
    except Exception as error:  # what is not pickled says so in many ways
        message = f"{part.name} cannot be sent to another process: {error}"
        raise OptionError(message) from error
    return sent


def unpacked(number: int, outcome: bytes, where: str) -> Outcome:
    """Read what `Work` gave.

    Parameters
    ----------
    number : int
        Of the part.
    outcome : bytes
        What came back.
    where : str
        From where.

    Returns
    -------
    Outcome
        Value or error.
    """
    worked, result = pickle.loads(outcome)
    return Outcome(number, result if worked else None, None if worked else result, where)


def _packed_value(value: Any) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps((True, value))
    except Exception as error:  # as above
        message = f"what the function gave, a {type(value).__name__}, cannot be sent back: {error}"
        raise WorkerError(message) from error
    return packed


def _packed_error(error: BaseException) -> bytes:
    """Pack an error with its traceback as text; one that cannot be unpickled is told of."""
    told = "".join(traceback.format_exception(error)).rstrip()
    error.add_note(f"there:\n{told}")
    try:
        packed: bytes = cloudpickle.dumps((False, error))
        pickle.loads(packed)
    except Exception:  # an exception whose constructor takes other arguments than it keeps
        other = WorkerError(f"the function raised {type(error).__name__}: {error}")
        other.add_note(f"there:\n{told}")
        packed = cloudpickle.dumps((False, other))
    return packed

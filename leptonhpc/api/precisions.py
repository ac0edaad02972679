"""What a driver computes with: the input's own precision, or one that was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from leptonhpc.api.inputs import open as open_array
from leptonhpc.blocks import BlockedArray
from leptonhpc.blocks.changed import converted_source
from leptonhpc.errors import OptionError
from leptonhpc.linalg import Job
from leptonhpc.planning import Precision, Resources, computing_dtype
from leptonhpc.planning.precision import require_precision

__all__ = [
    "DtypePrecision", "Precision", "converted", "described", "in_precision", "refuse_rounding",
    "require_precision",
]  # fmt: skip

DtypePrecision = Literal["float64", "float32"]
"""Where factors are not rounded to TF32."""

_NUMBERS = "biufc"
"""Kinds of dtypes; what is none of them is refused by whoever plans."""


def converted(x: Any, precision: Precision | None) -> BlockedArray:
    """Open an array as what it is computed with.

    Parameters
    ----------
    x : array, or what `leptonhpc.open` takes
        The input.
    precision : {None, "float64", "float32", "tf32"}
        What was asked for; None: as it is.

    Returns
    -------
    BlockedArray
        Its numbers are converted as they are read, piece by piece; nothing is stored.

    Raises
    ------
    OptionError
        If there is no such precision.
    """
    require_precision(precision)
    array = open_array(x)
    dtype = computing_dtype(array.dtype, precision)
    if dtype == array.dtype or array.dtype.kind not in _NUMBERS:
        return array
    return BlockedArray(converted_source(array.source, dtype), array.grid)


def in_precision(resources: Resources, precision: Precision | None) -> Resources:
    """Give resources for a job that computes with a precision.

    Parameters
    ----------
    resources : Resources
        What there is.
    precision : {None, "float64", "float32", "tf32"}
        What was asked for; None: as the kinds of the devices say.

    Returns
    -------
    Resources
        With the rates of that precision.

    Raises
    ------
    OptionError
        If TF32 is asked for where no device has it.
    """
    chosen = resources.precision if precision is None else precision
    if chosen == "tf32":
        if not resources.tf32_workers:
            message = (
                "precision='tf32' needs a device whose products can round their factors to TF32: "
                "an NVIDIA GPU, LEPTONHPC_DEVICE=cuda; found none on "
                f"{resources.workers} worker{'s' * (resources.workers > 1)}. Pass "
                "precision='float32', which all devices have"
            )
            raise OptionError(message)
        rates = replace(resources.rates, single_speedup=resources.rates.tf32_speedup)
        return replace(resources, precision=chosen, rates=rates)
    return replace(resources, precision=chosen)


def refuse_rounding(precision: Precision | None, driver: str, why: str) -> None:
    """Refuse TF32 where it was asked for and cannot be had.

    Parameters
    ----------
    precision : {None, "float64", "float32", "tf32"}
        What was asked for.
    driver : str
        Of whom.
    why : str
        What stands against it.

    Raises
    ------
    OptionError
        If it is TF32.
    """
    if precision == "tf32":
        message = f"{driver} has no precision='tf32': {why}. Pass precision='float32'"
        raise OptionError(message)


def described(job: Job) -> dict[str, Any]:
    """Give what a job's numbers depend on besides its parameters: its precision, if it has one."""
    precision = job.resources.precision
    return {} if precision is None else {"computed_in": precision}

"""The parts of a result of `eof` and its kin, for the functions that go on with it."""

from __future__ import annotations

import json
from numbers import Integral
from typing import TYPE_CHECKING, Any

from leptonhpc.errors import OptionError

if TYPE_CHECKING:
    import xarray as xr


def require_modes(modes: xr.Dataset) -> None:
    """Refuse what is not a result with EOFs and their scores.

    Parameters
    ----------
    modes : Dataset
        A result of `eof`, `rotate` or `hilbert_eof`.

    Raises
    ------
    OptionError
        If it is something else.
    """
    told = getattr(modes, "attrs", {})
    if "fields" not in told or "pcs" not in modes:
        raise OptionError("what is needed is a Dataset that leptonhpc.climate.eof gave")


def require_whole(**numbers: Any) -> None:
    """Refuse what is no whole number; None is what was not given.

    Parameters
    ----------
    **numbers : int or None
        By name.

    Raises
    ------
    OptionError
        If one is something else.
    """
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, Integral)):
            raise OptionError(f"{name} is a whole number; found {number!r}")


def field_names(modes: xr.Dataset) -> list[str]:
    """Give the names of the fields that were decomposed.

    Parameters
    ----------
    modes : Dataset
        The result.

    Returns
    -------
    list of str
        In the order of columns.
    """
    names: list[str] = json.loads(modes.attrs["fields"])
    return names


def part(modes: xr.Dataset, what: str, field: str) -> xr.DataArray:
    """Give the maps of one field.

    Parameters
    ----------
    modes : Dataset
        The result.
    what : {"eofs", "weights", "mean", "removed"}
        Which.
    field : str
        Whose.

    Returns
    -------
    DataArray
        The maps.
    """
    names = field_names(modes)
    if field not in names:
        raise OptionError(f"there is no field {field!r}; there are {', '.join(names)}")
    return modes[what if len(names) == 1 else f"{what}_{field}"]


def one_field(modes: xr.Dataset, field: str | None) -> str:
    """Give the name of the field that is meant.

    Parameters
    ----------
    modes : Dataset
        The result.
    field : str or None
        As the user said; None: the only one.

    Returns
    -------
    str
        Its name.

    Raises
    ------
    OptionError
        If there are several and none is named.
    """
    require_modes(modes)
    names = field_names(modes)
    if field is None and len(names) > 1:
        raise OptionError(f"field= says which is meant; there are {', '.join(names)}")
    return names[0] if field is None else field


def sample_dim(modes: xr.Dataset) -> str:
    """Give the name of the dimension of samples.

    Parameters
    ----------
    modes : Dataset
        The result.

    Returns
    -------
    str
        Its name.
    """
    name: str = modes.attrs["dim"]
    return name

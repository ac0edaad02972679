"""Formats of files, and what they can hold."""

from __future__ import annotations

import os

from leptonhpc.errors import OptionError


def require_complex_format(out: str | os.PathLike[str] | None) -> None:
    """Refuse a format that holds no complex numbers.

    Parameters
    ----------
    out : str, path or None
        Where complex numbers would go.

    Raises
    ------
    OptionError
        If it is a netCDF file.
    """
    if out is not None and os.fspath(out).endswith((".nc", ".nc4")):
        message = f"complex modes go to a Zarr group; netCDF has no complex numbers: {out!s}"
        raise OptionError(f"{message}. Give out= a name that ends in .zarr")

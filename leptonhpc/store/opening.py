"""Opening a Zarr array, or saying why that cannot be."""

from __future__ import annotations

from typing import Any, cast

import zarr
from zarr.abc.store import Store
from zarr.errors import BaseZarrError

from leptonhpc.errors import NotAnArrayError, StoreError
from leptonhpc.store.locations import Location, describe, exists, resolve


def opened(location: Location, writable: bool, inside: str) -> zarr.Array[Any]:
    """Open an array.

    Parameters
    ----------
    location : str, path or zarr store
        Where it is.
    writable : bool
        Whether it may be written.
    inside : str
        Where in the location.

    Returns
    -------
    zarr.Array
        The array.
    """
    mode = "r+" if writable else "r"
    store, path = resolve(location, read_only=not writable)
    path = f"{path}/{inside}".strip("/")
    try:
        return zarr.open_array(store, path=path, mode=cast("Any", mode))
    except (FileNotFoundError, BaseZarrError, KeyError, TypeError, ValueError) as error:
        if not exists(location):
            message = f"nothing is stored at {describe(location)!r}"
            raise StoreError(message) from error
        message = (
            f"{describe(location)!r} is not a Zarr array: {_what_is_there(store, path, error)}"
        )
        raise NotAnArrayError(message) from error
    except Exception as error:  # every store has exceptions of its own
        message = f"{describe(location)!r} could not be opened: {error}"
        raise StoreError(message) from error


def _what_is_there(store: Store, path: str, error: Exception) -> str:
    try:
        group = zarr.open_group(store, path=path, mode="r")
        names = sorted(name for name, _ in group.arrays())
    except Exception:  # any failure here only means that there is no group to describe
        return str(error) or "no Zarr metadata was found"
    return f"it is a group with the arrays {', '.join(names) or '(none)'}; open one of them"

"""Local Zarr 3 arrays decoded by zarrs, where the extra ``fast`` is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import zarr

from leptonhpc.store.units import Region

_PIPELINE = "zarrs.ZarrsCodecPipeline"


def by_zarrs(array: zarr.Array[Any], reopen: Callable[[], zarr.Array[Any]]) -> zarr.Array[Any]:
    """Give an array as zarrs reads it: 1.4 to 1.7 times as fast, and in less memory.

    Parameters
    ----------
    array : zarr.Array
        As zarr-python opened it.
    reopen : callable
        Opens it again.

    Returns
    -------
    zarr.Array
        The same array; as it was if zarrs is not installed, or cannot open it (attributes that are
        no strict JSON, such as NaN).
    """
    if array.metadata.zarr_format != 3 or find_spec("zarrs") is None:
        return array
    try:
        with zarr.config.set({"codec_pipeline.path": _PIPELINE}):
            return reopen()
    except Exception:  # zarr-python reads what it opened
        return array


def is_proven(array: zarr.Array[Any], region: Region) -> bool:
    """Read one chunk of a sharded array as zarr-python does, which asks whether it is too long.

    zarrs takes what it needs of a longer one, and that is another number where the metadata have
    another dtype, or shape of chunks, than what was stored.

    Parameters
    ----------
    array : zarr.Array
        As zarr-python opened it.
    region : tuple of (start, stop)
        What is to be read; its first chunk is.

    Returns
    -------
    bool
        Whether a chunk was there: one that is not is no proof.
    """
    if any(start >= stop for start, stop in region):
        return False
    place = tuple(
        slice(start // chunk * chunk, start // chunk * chunk + chunk)
        for (start, _), chunk in zip(region, array.chunks, strict=True)
    )
    return bool(np.any(np.asarray(array[place]) != array.fill_value))

"""Local Zarr 3 arrays decoded by zarrs, where the extra ``fast`` is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import zarr

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

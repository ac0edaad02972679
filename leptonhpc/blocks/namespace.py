"""The namespace that an array names as its own, by the array API standard."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from leptonhpc.errors import OptionError


def array_namespace(array: object, /, *, api_version: str | None = None) -> ModuleType:
    """Give `leptonhpc.array_api`, by its name: it is far above this layer, and loaded when asked.

    Parameters
    ----------
    array : BlockedArray
        The array whose method this is.
    api_version : str, optional
        Version of the standard that is needed.

    Returns
    -------
    module
        The namespace.

    Raises
    ------
    OptionError
        If it is of an earlier version.
    """
    namespace = import_module("leptonhpc.array_api")
    if api_version is not None and api_version > namespace.__array_api_version__:
        message = (
            f"leptonhpc.array_api is of version {namespace.__array_api_version__} of the array "
            f"API standard; found a request for {api_version!r}"
        )
        raise OptionError(message)
    return namespace

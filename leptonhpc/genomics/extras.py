"""What is not installed with leptonhpc itself, and asked for before anything is computed."""

from __future__ import annotations

from leptonhpc.errors import OptionError


def require_xarray() -> None:
    """Refuse to begin what could not be given back.

    Raises
    ------
    OptionError
        If xarray is not installed.
    """
    try:
        import xarray  # noqa: F401
    except ImportError as error:
        message = "results are xarray datasets; it is missing: pip install 'leptonhpc[genomics]'"
        raise OptionError(message) from error

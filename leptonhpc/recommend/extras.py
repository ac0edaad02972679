"""What is not installed with leptonhpc itself, and asked for before anything is computed."""

from __future__ import annotations

from leptonhpc.errors import OptionError


def require_numba() -> None:
    """Refuse to begin what could not be computed.

    Raises
    ------
    OptionError
        If numba is not installed.
    """
    try:
        import numba  # noqa: F401
    except ImportError as error:
        message = (
            "alternating least squares compiles its inner solver with numba, which is missing: "
            "pip install 'leptonhpc[recommend]'"
        )
        raise OptionError(message) from error

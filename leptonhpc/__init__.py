"""Linear algebra on arrays that do not fit in memory: Zarr in, certified results out, on Dask."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leptonhpc.api import (
        CholeskyResult,
        LuResult,
        MatmulResult,
        NormResult,
        Plan,
        SolveResult,
        SvdResult,
        cholesky,
        info,
        load,
        lu,
        matmul,
        norm,
        open,  # noqa: A004  (as xarray and zarr call it)
        plan,
        probe,
        solve,
        svd,
    )
    from leptonhpc.blocks import BlockedArray

__version__ = metadata.version("leptonhpc")

_PUBLIC = {
    "BlockedArray": "leptonhpc.blocks",
    **dict.fromkeys(
        (
            "CholeskyResult", "LuResult", "MatmulResult", "NormResult", "Plan", "SolveResult", "SvdResult", "solve",
            "cholesky", "info", "load", "lu", "matmul", "norm", "open", "plan", "probe", "svd",
        ),
        "leptonhpc.api",
    ),
}  # fmt: skip

__all__ = [
    "BlockedArray",
    "CholeskyResult",
    "LuResult",
    "MatmulResult",
    "NormResult",
    "Plan",
    "SolveResult",
    "SvdResult",
    "cholesky",
    "info",
    "load",
    "lu",
    "matmul",
    "norm",
    "open",
    "plan",
    "probe",
    "solve",
    "svd",
]


def __getattr__(name: str) -> Any:
    """Load public names on first use: importing leptonhpc imports neither Dask nor Zarr."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    message = f"module 'leptonhpc' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List public names."""
    return [*__all__, "__version__"]

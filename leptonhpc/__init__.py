"""Linear algebra on arrays that do not fit in memory: Zarr in, certified results out, on Dask."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leptonhpc.api import (
        CgResult,
        CholeskyResult,
        CondResult,
        EighResult,
        InvResult,
        JobStatus,
        LsmrResult,
        LstsqResult,
        LuResult,
        MatmulResult,
        MatrixRankResult,
        NormResult,
        PinvResult,
        Plan,
        PolarResult,
        QrResult,
        SlogdetResult,
        SolveResult,
        SvdResult,
        cg,
        cholesky,
        clean,
        cond,
        det,
        eigh,
        info,
        inv,
        load,
        lsmr,
        lstsq,
        lu,
        matmul,
        matrix_rank,
        norm,
        open,  # noqa: A004  (as xarray and zarr call it)
        pinv,
        plan,
        polar,
        probe,
        qr,
        slogdet,
        solve,
        status,
        svd,
    )
    from leptonhpc.blocks import BlockedArray

__version__ = metadata.version("leptonhpc")

__all__ = [
    "BlockedArray",
    "CgResult",
    "CholeskyResult",
    "CondResult",
    "EighResult",
    "InvResult",
    "JobStatus",
    "LsmrResult",
    "LstsqResult",
    "LuResult",
    "MatmulResult",
    "MatrixRankResult",
    "NormResult",
    "PinvResult",
    "Plan",
    "PolarResult",
    "QrResult",
    "SlogdetResult",
    "SolveResult",
    "SvdResult",
    "cg",
    "cholesky",
    "clean",
    "cond",
    "det",
    "eigh",
    "info",
    "inv",
    "load",
    "lsmr",
    "lstsq",
    "lu",
    "matmul",
    "matrix_rank",
    "norm",
    "open",
    "pinv",
    "plan",
    "polar",
    "probe",
    "qr",
    "slogdet",
    "solve",
    "status",
    "svd",
]


_PACKAGES = ("climate", "cluster", "decomposition", "genomics")
"""Loaded when they are named: ``lh.cluster.local()``."""


def __getattr__(name: str) -> Any:
    """Load public names on first use: importing leptonhpc imports neither Dask nor Zarr."""
    if name in _PACKAGES:
        return import_module(f"leptonhpc.{name}")
    if name in __all__:
        home = "leptonhpc.blocks" if name == "BlockedArray" else "leptonhpc.api"
        return getattr(import_module(home), name)
    message = f"module 'leptonhpc' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List public names."""
    return [*__all__, *_PACKAGES, "__version__"]

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
        NmfResult,
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
        nmf,
        norm,
        open,  # noqa: A004  (as xarray and zarr call it)
        pinv,
        plan,
        polar,
        probe,
        qr,
        report,
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
    "NmfResult",
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
    "nmf",
    "norm",
    "open",
    "pinv",
    "plan",
    "polar",
    "probe",
    "qr",
    "report",
    "slogdet",
    "solve",
    "status",
    "svd",
]


_PACKAGES = (
    "climate",
    "cluster",
    "datasets",
    "decomposition",
    "genomics",
    "parallel",
    "recommend",
    "streams",
    "train",
)
"""Loaded when they are named: ``lh.cluster.local()``."""
_OF_PACKAGES = {"watch": "streams"}
"""Names that packages above this one lend it."""


def __getattr__(name: str) -> Any:
    """Load public names on first use: importing leptonhpc imports neither Dask nor Zarr."""
    if name in _PACKAGES:
        return import_module(f"leptonhpc.{name}")
    if name in _OF_PACKAGES:
        return getattr(import_module(f"leptonhpc.{_OF_PACKAGES[name]}"), name)
    if name in __all__:
        home = "leptonhpc.blocks" if name == "BlockedArray" else "leptonhpc.api"
        return getattr(import_module(home), name)
    message = f"module 'leptonhpc' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List public names."""
    return [*__all__, *_PACKAGES, *_OF_PACKAGES, "__version__"]

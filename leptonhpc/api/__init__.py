"""What a user calls: check, plan, run, certify."""

from leptonhpc.api.drivers import matmul, norm, svd
from leptonhpc.api.factorisations import cholesky, lu
from leptonhpc.api.factors import CholeskyResult, LuResult, SolveResult
from leptonhpc.api.inputs import info, open  # noqa: A004  (as xarray and zarr call it)
from leptonhpc.api.iterative import CgResult, LsmrResult, cg, lsmr
from leptonhpc.api.jobs import JobStatus
from leptonhpc.api.left import clean, status
from leptonhpc.api.nonnegative import NmfResult, nmf
from leptonhpc.api.orthogonal import LstsqResult, QrResult, lstsq, qr
from leptonhpc.api.planned import plan
from leptonhpc.api.plans import Plan
from leptonhpc.api.pseudoinverses import PinvResult, PolarResult, pinv, polar
from leptonhpc.api.results import MatmulResult, NormResult, SvdResult, load, report
from leptonhpc.api.spectra import (
    CondResult,
    EighResult,
    MatrixRankResult,
    cond,
    eigh,
    matrix_rank,
)
from leptonhpc.api.systems import InvResult, SlogdetResult, det, inv, slogdet, solve
from leptonhpc.runtime import probe

__all__ = [
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

"""What a user calls: check, plan, run, certify."""

from leptonhpc.api.drivers import matmul, norm, svd
from leptonhpc.api.factorisations import cholesky, lu
from leptonhpc.api.factors import CholeskyResult, LuResult
from leptonhpc.api.inputs import info, open  # noqa: A004  (as xarray and zarr call it)
from leptonhpc.api.planned import plan
from leptonhpc.api.plans import Plan
from leptonhpc.api.results import MatmulResult, NormResult, SvdResult, load
from leptonhpc.api.systems import SolveResult, solve
from leptonhpc.runtime import probe

__all__ = [
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

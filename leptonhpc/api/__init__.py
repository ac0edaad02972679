"""What a user calls: check, plan, run, certify."""

from leptonhpc.api.drivers import matmul, norm, plan, svd
from leptonhpc.api.inputs import info, open  # noqa: A004  (as xarray and zarr call it)
from leptonhpc.api.plans import Plan
from leptonhpc.api.results import MatmulResult, NormResult, SvdResult, load
from leptonhpc.runtime import probe

__all__ = [
    "MatmulResult",
    "NormResult",
    "Plan",
    "SvdResult",
    "info",
    "load",
    "matmul",
    "norm",
    "open",
    "plan",
    "probe",
    "svd",
]

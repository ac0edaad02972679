"""Algorithms: from arrays and options to jobs, which are plans in stages.

A job names kernels and never calls them; between stages it works on small host arrays only.
"""

from leptonhpc.linalg.certificates import (
    Certificate,
    FactorCertificate,
    NormCertificate,
    ProductCertificate,
    SolveCertificate,
    SvdCertificate,
)
from leptonhpc.linalg.cholesky import plan_cholesky
from leptonhpc.linalg.jobs import Execute, Job, Outcome
from leptonhpc.linalg.matmul import plan_matmul
from leptonhpc.linalg.norm import plan_norm
from leptonhpc.linalg.solve import plan_solve
from leptonhpc.linalg.svd import plan_svd

__all__ = [
    "Certificate",
    "Execute",
    "FactorCertificate",
    "Job",
    "NormCertificate",
    "Outcome",
    "ProductCertificate",
    "SolveCertificate",
    "SvdCertificate",
    "plan_cholesky",
    "plan_matmul",
    "plan_norm",
    "plan_solve",
    "plan_svd",
]

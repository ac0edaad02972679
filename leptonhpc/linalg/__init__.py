"""Algorithms: from arrays and options to jobs, which are plans in stages.

A job names kernels and never calls them; between stages it works on small host arrays only.
"""

from leptonhpc.linalg.certificates import (
    Certificate,
    ConditionCertificate,
    FactorCertificate,
    IterationCertificate,
    NormCertificate,
    ProductCertificate,
    PseudoinverseCertificate,
    RankCertificate,
    SolveCertificate,
    SpectrumCertificate,
    SvdCertificate,
)
from leptonhpc.linalg.cg import plan_cg
from leptonhpc.linalg.cholesky import plan_cholesky
from leptonhpc.linalg.eigh import plan_eigh
from leptonhpc.linalg.jobs import Execute, Job, Outcome
from leptonhpc.linalg.lsmr import plan_lsmr
from leptonhpc.linalg.lstsq import plan_lstsq
from leptonhpc.linalg.lstsq_certificate import LstsqCertificate
from leptonhpc.linalg.matmul import plan_matmul
from leptonhpc.linalg.nmf import plan_nmf
from leptonhpc.linalg.nmf_certificate import NmfCertificate
from leptonhpc.linalg.norm import plan_norm
from leptonhpc.linalg.qr import plan_qr
from leptonhpc.linalg.qr_tall import QrCertificate
from leptonhpc.linalg.solve import plan_solve
from leptonhpc.linalg.spectra import plan_pinv, plan_polar, plan_values
from leptonhpc.linalg.svd import plan_svd

__all__ = [
    "Certificate",
    "ConditionCertificate",
    "Execute",
    "FactorCertificate",
    "IterationCertificate",
    "Job",
    "LstsqCertificate",
    "NmfCertificate",
    "NormCertificate",
    "Outcome",
    "ProductCertificate",
    "PseudoinverseCertificate",
    "QrCertificate",
    "RankCertificate",
    "SolveCertificate",
    "SpectrumCertificate",
    "SvdCertificate",
    "plan_cg",
    "plan_cholesky",
    "plan_eigh",
    "plan_lsmr",
    "plan_lstsq",
    "plan_matmul",
    "plan_nmf",
    "plan_norm",
    "plan_pinv",
    "plan_polar",
    "plan_qr",
    "plan_solve",
    "plan_svd",
    "plan_values",
]

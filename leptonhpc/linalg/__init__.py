"""Algorithms: from arrays and options to jobs, which are plans in stages.

A job names kernels and never calls them; between stages it works on small host arrays only.
"""

from leptonhpc.linalg.certificates import Certificate, ProductCertificate, SvdCertificate
from leptonhpc.linalg.jobs import Execute, Job, Outcome
from leptonhpc.linalg.matmul import plan_matmul
from leptonhpc.linalg.norm import plan_norm
from leptonhpc.linalg.svd import plan_svd

__all__ = [
    "Certificate",
    "Execute",
    "Job",
    "Outcome",
    "ProductCertificate",
    "SvdCertificate",
    "plan_matmul",
    "plan_norm",
    "plan_svd",
]

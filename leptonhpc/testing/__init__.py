"""Matrices with known answers, measures of error, and strategies: for tests of leptonhpc and on it.

Nothing here is needed to run a job. `strategies` needs Hypothesis and imports it only when called.
"""

from leptonhpc.testing.cases import CASES, Case, put
from leptonhpc.testing.errors import (
    factorization_error,
    largest_departure,
    nearest_distance,
    orthogonality,
    rounding,
)
from leptonhpc.testing.matrices import SPECTRA, matrix_with_spectrum, spectrum

__all__ = [
    "CASES",
    "SPECTRA",
    "Case",
    "factorization_error",
    "largest_departure",
    "matrix_with_spectrum",
    "nearest_distance",
    "orthogonality",
    "put",
    "rounding",
    "spectrum",
]

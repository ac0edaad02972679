"""Hypothesis strategies: shapes, grids and matrices that find what a table forgets.

Hypothesis is imported when a strategy is made, not when this module is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leptonhpc.testing.matrices import SPECTRA, matrix_with_spectrum, spectrum

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy
    from numpy.typing import NDArray


def shapes(most: int = 64) -> SearchStrategy[tuple[int, int]]:
    """Draw shapes of matrices that are not empty.

    Parameters
    ----------
    most : int
        Largest length of a side.

    Returns
    -------
    SearchStrategy
        Of (rows, columns).
    """
    from hypothesis import strategies as st

    return st.tuples(st.integers(1, most), st.integers(1, most))


def grids(shape: tuple[int, int]) -> SearchStrategy[tuple[int, int]]:
    """Draw chunk shapes for a matrix, dividing it or not, larger than it at times.

    Parameters
    ----------
    shape : tuple of int
        Shape of the matrix.

    Returns
    -------
    SearchStrategy
        Of (rows, columns).
    """
    from hypothesis import strategies as st

    return st.tuples(*(st.integers(max(1, n // 12), n + 3) for n in shape))


def matrices(
    most: int = 64, *, dtypes: tuple[str, ...] = ("float32", "float64", "complex64", "complex128")
) -> SearchStrategy[NDArray[Any]]:
    """Draw matrices of every named spectrum.

    Parameters
    ----------
    most : int
        Largest length of a side.
    dtypes : tuple of str
        Floating dtypes to choose from.

    Returns
    -------
    SearchStrategy
        Of matrices.
    """
    from hypothesis import strategies as st

    def build(shape: tuple[int, int], name: str, dtype: str, seed: int) -> NDArray[Any]:
        values = spectrum(name, min(shape))
        return matrix_with_spectrum(shape, values, dtype=np.dtype(dtype), seed=seed)

    return st.builds(
        build, shapes(most), st.sampled_from(sorted(SPECTRA)), st.sampled_from(dtypes),
        st.integers(0, 2**16),
    )  # fmt: skip

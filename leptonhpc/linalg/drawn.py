"""Random numbers of the host: the same for the same seed, whatever runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def drawn(shape: tuple[int, int], dtype: np.dtype[Any], seed: int) -> NDArray[Any]:
    """Give independent normal numbers of variance one.

    Parameters
    ----------
    shape : tuple of int
        How many.
    dtype : dtype
        Real or complex.
    seed : int
        The same numbers for the same seed.

    Returns
    -------
    array
        Of that shape and dtype.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    numbers: NDArray[Any] = generator.standard_normal(shape)
    if dtype.kind == "c":
        numbers = (numbers + 1j * generator.standard_normal(shape)) / np.sqrt(2)
    return numbers.astype(dtype)

"""Kernels of a device with memory of its own: blocks come as its arrays, sums stay there.

`folds(blas)` gives them by name. What is not among them is done by the host: reading, decoding,
checks of symmetry, and all that does a few operations for each number that it reads.
"""

from leptonhpc.kernels.accelerated.tables import folds

__all__ = ["folds"]

"""Pure functions on the arrays of one device, in one table per device.

`table(device)` gives the kernels by name. `reference` has every kernel, slow and right; `host`
overrides what it does faster. Kernels know nothing of storage, plans or Dask.
"""

from leptonhpc.kernels.fold import Accumulator, Fold, combine, held, settled, taken
from leptonhpc.kernels.tables import DEVICES, primitives_of, table

__all__ = [
    "DEVICES",
    "Accumulator",
    "Fold",
    "combine",
    "held",
    "primitives_of",
    "settled",
    "table",
    "taken",
]

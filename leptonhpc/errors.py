"""Every error that leptonhpc raises on purpose.

Each is a `LeptonError` and also the standard exception that a caller would expect, takes one
message, and survives pickling. Messages say what was required, what was found and what to do.
"""

from __future__ import annotations

import numpy as np


class LeptonError(Exception):
    """Base of all errors raised by leptonhpc."""


class ShapeError(LeptonError, ValueError):
    """Shapes, ranks or block grids do not fit the operation."""


class DTypeError(LeptonError, TypeError):
    """The dtype cannot be used in the operation."""


class OptionError(LeptonError, ValueError):
    """A keyword has a value that it cannot take."""


class MemoryBudgetError(LeptonError, ValueError):
    """No plan fits into `memory`; the message names the smallest budget that would do."""


class StoreError(LeptonError, OSError):
    """A store cannot be opened, read or written."""


class NotAnArrayError(StoreError):
    """What was opened is not a Zarr array."""


class CorruptChunkError(StoreError):
    """A chunk is there and cannot be decoded; the message names it.

    Parameters
    ----------
    message : str
        What was found.
    array : str
        Name of the array.
    chunk : str
        Key of the chunk in it.
    """

    def __init__(self, message: str, array: str = "", chunk: str = "") -> None:
        super().__init__(message)
        self.array, self.chunk = array, chunk

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Pickle the names too."""
        return type(self), (str(self), self.array, self.chunk)


class OutputExistsError(LeptonError, FileExistsError):
    """The output is there already and neither `overwrite` nor a matching journal allows it."""


class JobMismatchError(LeptonError, ValueError):
    """The journal beside the output belongs to another input, other parameters or version."""


class NonFiniteError(LeptonError, ValueError):
    """The input holds NaN or infinity; the message names the block and the global index."""


class NegativeValueError(LeptonError, ValueError):
    """The input holds a negative number; the message names the block and the global index."""


class NumericRangeError(LeptonError, OverflowError):
    """Numbers are too large for the sums of squares that the algorithm needs."""


class CoverageError(LeptonError, RuntimeError):
    """A pass did not take every band exactly once (an internal check; nothing was written)."""


class WorkerError(LeptonError, RuntimeError):
    """The cluster cannot run the job: no worker, or a worker that cannot see the data."""


class StreamError(LeptonError, RuntimeError):
    """A watched array shrank or became another one, or somebody else watches with its state."""


class DatasetError(LeptonError, RuntimeError):
    """A data set cannot be fetched, or is not what it should be."""


class NotConvergedWarning(UserWarning):
    """The result did not reach its tolerance; the certificate says by how much."""


class LinAlgError(LeptonError, np.linalg.LinAlgError):
    """The numbers do not allow the operation."""


class NotPositiveDefiniteError(LinAlgError):
    """A pivot of a Cholesky factorisation is not positive.

    Parameters
    ----------
    message : str
        What was required and found.
    order : int
        Order of the leading minor that is not positive definite, counted from 1.
    """

    def __init__(self, message: str, order: int = 0) -> None:
        super().__init__(message)
        self.order = order

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        """Pickle the order too."""
        return type(self), (str(self), self.order)


class SingularMatrixError(LinAlgError):
    """A matrix is singular to working precision; the message names the column."""


class NotHermitianError(LinAlgError):
    """A matrix that must be symmetric (or Hermitian) is not; the message names an index."""

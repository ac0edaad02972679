"""What drivers return, and reading a stored result again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.api.outputs import FORMAT
from leptonhpc.blocks import BlockedArray, StoredSource
from leptonhpc.errors import NotAnArrayError, NotConvergedWarning, StoreError
from leptonhpc.linalg import ProductCertificate, SvdCertificate
from leptonhpc.linalg.certificates import NormCertificate
from leptonhpc.runtime import Report
from leptonhpc.runtime.report import StageReport
from leptonhpc.runtime.targets import Workspace
from leptonhpc.store.locations import Location, describe

Array = NDArray[Any] | BlockedArray

_IN_MEMORY_NBYTES = 1 << 28
"""Stored fields up to this size are loaded as NumPy arrays."""


@dataclass(frozen=True)
class SvdResult:
    """Singular value decomposition A = U diag(s) Vh, after centring, scaling and weights."""

    u: Array | None
    """(m, k): orthonormal columns; None if not asked for."""
    s: NDArray[Any]
    """(k,): descending."""
    vh: Array | None
    """(k, n): orthonormal rows; the largest entry of each is real and positive (of the short
    factor: of vh where the array is tall, of u where it is wide)."""
    certificate: SvdCertificate
    report: Report
    mean: NDArray[Any] | None = None
    """(n,): what was subtracted from the columns."""
    scale: NDArray[Any] | None = None
    """(n,): what the columns were divided by."""
    _workspace: Workspace | None = field(default=None, repr=False, compare=False)

    def __iter__(self) -> Any:
        """Unpack as u, s, vh."""
        return iter((self.u, self.s, self.vh))

    def __repr__(self) -> str:
        """Show shapes, certificate and report."""
        shapes = ", ".join(
            f"{name}{getattr(self, name).shape}"
            for name in ("u", "s", "vh")
            if getattr(self, name) is not None
        )
        return f"SvdResult {shapes}\n{self.certificate}\n{self.report}"

    def __del__(self) -> None:
        """Remove the temporary folder of a result that was not stored."""
        if self._workspace is not None:
            self._workspace.close()


@dataclass(frozen=True)
class MatmulResult:
    """Matrix product."""

    product: Array
    """(m, n)."""
    certificate: ProductCertificate
    report: Report
    _workspace: Workspace | None = field(default=None, repr=False, compare=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the product into memory."""
        return np.asarray(self.product, dtype=dtype)

    def __repr__(self) -> str:
        """Show shape, certificate and report."""
        return f"MatmulResult {self.product.shape}\n{self.certificate}\n{self.report}"

    def __del__(self) -> None:
        """Remove the temporary folder of a result that was not stored."""
        if self._workspace is not None:
            self._workspace.close()


@dataclass(frozen=True)
class NormResult:
    """Norm of a matrix."""

    value: float
    certificate: NormCertificate | SvdCertificate
    report: Report

    def __float__(self) -> float:
        """Give the value."""
        return self.value


def load(location: Location) -> SvdResult | MatmulResult:
    """Read a stored result.

    Parameters
    ----------
    location : str or path
        What was given as `out`.

    Returns
    -------
    SvdResult or MatmulResult
        The same result; large arrays as BlockedArray.

    Raises
    ------
    StoreError
        If nothing is there.
    NotAnArrayError
        If it is not a result of leptonhpc.
    """
    if not store.exists(location):
        partial = store.partial_location(location)
        hint = "" if not store.exists(partial) else f"; {describe(partial)!r} is not finished"
        raise StoreError(f"nothing is stored at {describe(location)!r}{hint}")
    attributes = store.read_attributes(location)
    if attributes.get("format") != FORMAT:
        raise NotAnArrayError(f"{describe(location)!r} is not a result of leptonhpc")
    report = _report(attributes["report"])
    if attributes["driver"] == "matmul":
        product = BlockedArray(StoredSource(store.open_array(location)))
        certificate = ProductCertificate(**attributes["certificate"])
        return MatmulResult(product, certificate, report)
    found = {}
    for name in ("u", "s", "vh", "mean", "scale"):
        place = store.join(location, name)
        if store.exists(place):
            found[name] = _loaded(store.open_array(place))
    return SvdResult(
        u=found.get("u"), s=np.asarray(found["s"]), vh=found.get("vh"),
        certificate=SvdCertificate(**_tuples(attributes["certificate"])), report=report,
        mean=_array(found.get("mean")), scale=_array(found.get("scale")),
    )  # fmt: skip


def from_outcome(
    value: Any, workspace: Workspace, out: Location | None, name: str, *, single: bool = False
) -> Array | None:
    """Give a field for the user: a small array, or the large one that a target holds."""
    if not isinstance(value, str):
        return None if value is None else np.asarray(value)
    if out is not None:
        place = out if single else store.join(out, name)
        return BlockedArray(StoredSource(store.open_array(place)))
    array = workspace.arrays[value]
    if isinstance(array, np.ndarray):
        return array
    return BlockedArray(StoredSource(array))


def warn_unless_converged(inputs: Sequence[str], certificate: Any, s: Any) -> None:
    """Say which result is not as accurate as asked for, and what to do."""
    if certificate.converged:
        return
    message = (
        f"svd of {', '.join(inputs)} did not reach its accuracy: largest residual "
        f"{max(certificate.residuals):.2e}, largest singular value {s[0]:.6g}. More passes, more "
        "modes or a larger accuracy= would; the certificate says how far each mode is"
    )
    warnings.warn(message, NotConvergedWarning, stacklevel=4)


def _loaded(array: store.StoredArray) -> Array:
    if array.nbytes <= _IN_MEMORY_NBYTES:
        return array.read(tuple((0, n) for n in array.shape))
    return BlockedArray(StoredSource(array))


def _array(value: Array | None) -> NDArray[Any] | None:
    return None if value is None else np.asarray(value)


def _report(data: dict[str, Any]) -> Report:
    stages = tuple(StageReport(**stage) for stage in data["stages"])
    return Report(**{**data, "stages": stages})


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}

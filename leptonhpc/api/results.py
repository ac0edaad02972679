"""What drivers return, and reading a stored result again."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.api.destinations import attributes_of_result
from leptonhpc.blocks import BlockedArray, StoredSource
from leptonhpc.errors import NotConvergedWarning, StoreError
from leptonhpc.linalg import ProductCertificate, SvdCertificate
from leptonhpc.linalg.certificates import NormCertificate
from leptonhpc.runtime import Report
from leptonhpc.runtime.targets import Workspace
from leptonhpc.store.locations import Location, describe, store_errors

Array = NDArray[Any] | BlockedArray

_IN_MEMORY_NBYTES = 1 << 28
"""Stored fields up to this size are loaded as NumPy arrays."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Result:
    """What every driver with array results gives."""

    FIELDS: ClassVar[tuple[str, ...]] = ()
    """Its arrays; a small one is a NumPy array, a large one a BlockedArray."""
    SINGLE: ClassVar[str | None] = None
    """The one array that is the whole result, where it is stored as an array and not as a group."""
    CERTIFICATE: ClassVar[type]

    report: Report
    _workspace: Workspace | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        """Show shapes, of single numbers themselves, certificate and report."""
        shapes = ", ".join(
            f"{name}{value.shape}" if value.shape else f"{name}={value}"
            for name, value in self.arrays().items()
        )
        certificate: Any = getattr(self, "certificate", None)
        return f"{type(self).__name__} {shapes}\n{certificate}\n{self.report}"

    @classmethod
    def remembered(cls, description: dict[str, Any]) -> dict[str, Any]:
        """Give what a stored result keeps beside its arrays.

        Parameters
        ----------
        description : dict
            Of its job.

        Returns
        -------
        dict
            Fields by name.
        """
        return {}

    def arrays(self) -> dict[str, Array]:
        """Give the arrays by name, without those that were not asked for."""
        found = {name: getattr(self, name) for name in self.FIELDS}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, repr=False, kw_only=True)
class SvdResult(Result):
    """Singular value decomposition A = U diag(s) Vh, after centring, scaling and weights."""

    FIELDS: ClassVar[tuple[str, ...]] = ("u", "s", "vh", "mean", "scale")
    CERTIFICATE: ClassVar[type] = SvdCertificate

    u: Array | None
    """(m, k): orthonormal columns; None if not asked for."""
    s: NDArray[Any]
    """(k,): descending."""
    vh: Array | None
    """(k, n): orthonormal rows; the largest entry of each is real and positive (of the short
    factor: of vh where the array is tall, of u where it is wide)."""
    certificate: SvdCertificate
    mean: NDArray[Any] | None = None
    """(n,): what was subtracted from the columns."""
    scale: NDArray[Any] | None = None
    """(n,): what the columns were divided by."""

    def __iter__(self) -> Any:
        """Unpack as u, s, vh."""
        return iter((self.u, self.s, self.vh))


@dataclass(frozen=True, repr=False, kw_only=True)
class MatmulResult(Result):
    """Matrix product."""

    FIELDS: ClassVar[tuple[str, ...]] = ("product",)
    SINGLE: ClassVar[str | None] = "product"
    CERTIFICATE: ClassVar[type] = ProductCertificate

    product: Array
    """(m, n)."""
    certificate: ProductCertificate

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read the product into memory."""
        return np.asarray(self.product, dtype=dtype)


@dataclass(frozen=True)
class NormResult:
    """Norm of a matrix."""

    value: float
    certificate: NormCertificate | SvdCertificate
    report: Report

    def __float__(self) -> float:
        """Give the value."""
        return self.value


def load(location: Location) -> Any:
    """Read a stored result.

    Parameters
    ----------
    location : str or path
        What was given as `out`.

    Returns
    -------
    SvdResult, MatmulResult, CholeskyResult, ...
        The same result; large arrays as BlockedArray.

    Raises
    ------
    StoreError
        If nothing is there.
    NotAnArrayError
        If it is not a result of leptonhpc.
    """
    attributes = _attributes(location)
    kind = result_kind(attributes["driver"])
    found: dict[str, Any] = {}
    if kind.SINGLE is not None:
        found[kind.SINGLE] = BlockedArray(StoredSource(store.open_array(location)))
    for name in kind.FIELDS if kind.SINGLE is None else ():
        place = store.join(location, name)
        found[name] = _loaded(store.open_array(place)) if store.exists(place) else None
    certificate = kind.CERTIFICATE(**_tuples(attributes["certificate"]))
    made: Any = kind
    return made(
        **found, **kind.remembered(attributes["description"]), certificate=certificate,
        report=Report.from_dict(attributes["report"]),
    )  # fmt: skip


def report(out: Location, *, html: str | os.PathLike[str] | None = None) -> Report:
    """Read what the job of a stored result took.

    Parameters
    ----------
    out : str or path
        What was given to the job as `out`.
    html : str or path, optional
        Also write it, with the certificate, as a page that any browser opens from the disk; what
        is there is replaced.

    Returns
    -------
    Report
        Of the run that finished it.

    Raises
    ------
    StoreError
        If nothing is there, or the page cannot be written.
    NotAnArrayError
        If it is not a result of leptonhpc.
    """
    attributes = _attributes(out)
    found = Report.from_dict(attributes["report"])
    if html is not None:
        kind = result_kind(attributes["driver"])
        with store_errors(os.path.abspath(html)):
            found.to_html(html, certificate=kind.CERTIFICATE(**_tuples(attributes["certificate"])))
    return found


def _attributes(location: Location) -> dict[str, Any]:
    """Give the attributes of a stored result, or say why there are none."""
    if not store.exists(location):
        partial = store.partial_location(location)
        hint = "" if not store.exists(partial) else f"; {describe(partial)!r} is not finished"
        raise StoreError(f"nothing is stored at {describe(location)!r}{hint}")
    attributes = attributes_of_result(location)
    attributes["report"]["snapshot"] = store.snapshot_of(location)
    return attributes


def result_kind(driver: str) -> type[Result]:
    """Give the class of a driver's result.

    Parameters
    ----------
    driver : str
        Its name.

    Returns
    -------
    type
        The class.
    """
    import leptonhpc.api as api

    kind: type[Result] = getattr(api, f"{driver.title().replace('_', '')}Result")
    return kind


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
    return array if isinstance(array, np.ndarray) else BlockedArray(workspace.sources()[value])


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


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}

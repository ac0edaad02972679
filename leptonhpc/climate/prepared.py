"""A field made ready: its matrix, its land, its weights, and what is removed from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.climate.fields import TAKEN, Field, open_fields
from leptonhpc.climate.fitting import fit_terms, require_room
from leptonhpc.climate.matrix import FieldMatrix, JoinedFields, Removed
from leptonhpc.climate.removal import Terms, choose_terms
from leptonhpc.climate.weights import Weighting, cell_weights
from leptonhpc.errors import MemoryBudgetError, NonFiniteError, OptionError, ShapeError
from leptonhpc.planning.amounts import parse_nbytes

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Prepared:
    """One field, ready to be read as a matrix."""

    field: Field
    matrix: FieldMatrix
    weights: NDArray[np.float64]
    """(cells,): what a cell is multiplied by."""
    terms: Terms | None

    @property
    def held_nbytes(self) -> int:
        """What is held in memory while the field is read: the terms that are removed."""
        removed = self.matrix.removed
        return 0 if removed is None else removed.design.nbytes + removed.coefficients.nbytes

    @property
    def name(self) -> str:
        """Name of the variable."""
        return str(self.field.array.name or "field")


def prepare(
    data: Any,
    *,
    dim: str,
    variable: str | Sequence[str] | None,
    weights: Weighting | xr.DataArray | Sequence[Any] | None,
    anomalies: str | None,
    detrend: bool | int,
    memory: Any,
) -> list[Prepared]:
    """Open fields and find what has to be known before they can be streamed.

    Parameters
    ----------
    data, dim, variable, weights, anomalies, detrend, memory : as for `eof`
        The fields and what is done to them.

    Returns
    -------
    list of Prepared
        One per variable.

    Raises
    ------
    LeptonError
        If a field is not what it should be.
    """
    fields = open_fields(data, dim=dim, variable=variable)
    require_one_grid(fields)
    _require_names(fields)
    _require_free_dims(fields)
    if isinstance(weights, list | tuple):
        if len(weights) != len(fields):
            message = f"weights are one for all fields, or {len(fields)}; found {len(weights)}"
            raise ShapeError(message)
        each: Sequence[Any] = weights
    else:
        each = [weights] * len(fields)
    found: list[Prepared] = []
    for field, weight in zip(fields, each, strict=True):
        terms = choose_terms(field, anomalies=anomalies, detrend=detrend)
        found.append(_prepare_one(field, weight, terms, rest_of(memory, found)))
    return found


def rest_of(memory: Any, prepared: Sequence[Prepared]) -> int | None:
    """Give what is left of a budget beside what is held of fields.

    Parameters
    ----------
    memory : int, float, str or None
        The budget.
    prepared : sequence of Prepared
        The fields.

    Returns
    -------
    int or None
        Bytes.

    Raises
    ------
    MemoryBudgetError
        If nothing is left.
    """
    budget = parse_nbytes(memory)
    held = sum(one.held_nbytes for one in prepared)
    if budget is not None and held >= budget:
        message = f"what is removed from each cell takes {held / 1e6:.0f} MB; memory is"
        raise MemoryBudgetError(
            f"{message} {budget / 1e6:.0f} MB. Remove fewer terms, or give more"
        )
    return None if budget is None else budget - held


def joined(prepared: Sequence[Prepared]) -> FieldMatrix | JoinedFields:
    """Give the one matrix of all fields.

    Parameters
    ----------
    prepared : sequence of Prepared
        The fields.

    Returns
    -------
    FieldMatrix or JoinedFields
        Times by cells of all.
    """
    matrices = tuple(one.matrix for one in prepared)
    return matrices[0] if len(matrices) == 1 else JoinedFields(matrices)


def matrix_of(field: Field, land: NDArray[np.bool_], removed: Removed | None = None) -> FieldMatrix:
    """See a field as a matrix, samples by cells.

    Parameters
    ----------
    field : Field
        The field.
    land : array of shape (cells,)
        Cells without data.
    removed : Removed, optional
        What is subtracted.

    Returns
    -------
    FieldMatrix
        The matrix, not read yet.
    """
    name = str(field.array.name or "")
    return FieldMatrix(field.source, field.axis, land, removed, field.labels, name)


def require_one_grid(fields: Sequence[Field]) -> None:
    """Refuse dimensions of one name and different coordinates: a Dataset has one of each.

    Parameters
    ----------
    fields : sequence of Field
        What goes into one result.

    Raises
    ------
    ShapeError
        If two fields differ in a dimension of the same name.
    """
    seen: dict[str, tuple[str, NDArray[Any]]] = {}
    for field in fields:
        for dim in field.space:
            values = field.labels[dim]
            name, others = seen.setdefault(dim, (str(field.array.name), values))
            if values is not others and not np.array_equal(values, others):
                message = (
                    f"{name} and {field.array.name} have different {dim}, {others.size} and "
                    f"{values.size} long; rename the dimension of one (x.rename({dim}=...))"
                )
                raise ShapeError(message)


def find_land(field: Field) -> NDArray[np.bool_]:
    """Find the cells without data at the first sample; that they have none at all is seen later.

    Parameters
    ----------
    field : Field
        The field.

    Returns
    -------
    array of shape (cells,)
        True on land.

    Raises
    ------
    NonFiniteError
        If there are no data.
    """
    region = [(0, n) for n in field.source.shape]
    region[field.axis] = (0, 1)
    first = field.source.read(tuple(region)).reshape(-1)
    land = np.isnan(first) if first.dtype.kind in "fc" else np.zeros(first.shape, bool)
    if land.all():
        message = (
            f"{field.array.name} has no value at its first {field.dim}, "
            f"{field.labels[field.dim][0]}; leave out what is all missing"
        )
        raise NonFiniteError(message)
    return land


def _require_names(fields: Sequence[Field]) -> None:
    names = [field.array.name for field in fields]
    if len(set(names)) < len(names):
        message = (
            f"several fields need names of their own; found {', '.join(map(str, names))}. "
            "Use x.rename('sst')"
        )
        raise OptionError(message)


def _require_free_dims(fields: Sequence[Field]) -> None:
    """Refuse dimensions that are called as those of results, or as what is in them."""
    for field in fields:
        for dim in TAKEN & set(map(str, field.array.dims)):
            message = f"{field.array.name} has a dimension {dim!r}, a name that results use"
            raise OptionError(f"{message} for something else: x.rename({dim}=...)")


def _prepare_one(field: Field, weights: Any, terms: Terms | None, memory: Any) -> Prepared:
    land = find_land(field)
    matrix = matrix_of(field, land)
    factors = cell_weights(field, weights, land)
    if terms is not None:
        require_room(matrix, len(terms.names), memory)
        design = terms.evaluate(field.array[field.dim])
        removed = Removed(design, fit_terms(matrix, design, memory))
        matrix = matrix_of(field, land, removed)
    return Prepared(field, matrix, factors, terms)

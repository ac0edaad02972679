"""Tables of traits and covariates: read as PLINK writes them, and put in the samples' order."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.errors import DTypeError, NonFiniteError, OptionError, ShapeError, StoreError
from leptonhpc.genomics.genotypes import Genotypes

Unmatched = Literal["raise", "drop"]
_MISSING = {"NA", "NaN", "nan", "na", "."}
_MISSING_NUMBER = -9.0  # PLINK's
_APART = 0.5
"""Of the range of all other numbers: farther below them, -9 is none of them."""


@dataclass(frozen=True)
class Table:
    """Numbers of people by name."""

    name: str
    """Where they come from, for messages."""
    keys: tuple[tuple[str, ...], ...]
    """(family, sample) of each row, or (sample,) where there are no families."""
    columns: tuple[str, ...]
    values: NDArray[np.float64]
    """(rows, columns), NaN where missing."""


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table of traits or covariates.

    Parameters
    ----------
    path : str or path
        Text in columns between blanks. The first line names them: FID and IID, or IID alone, with
        or without #; without such a line the first two columns are FID and IID. NA, ``nan`` and -9
        are missing.

    Returns
    -------
    Table
        Its rows.

    Raises
    ------
    StoreError
        If it is not there, is separated by something else, a line is too short or too long, or a
        value is no finite number.
    """
    file = Path(path)
    if not file.is_file():
        raise StoreError(f"nothing is stored at {str(file)!r}; a table of samples is needed")
    lines = _lines(file)
    first = lines[0][0].lstrip("#").upper()
    header = first in ("FID", "IID")
    names = 1 if first == "IID" else 2
    if len(lines[0]) <= names:
        message = f"{str(file)!r} needs sample names and at least one column of numbers"
        raise StoreError(f"{message}; a line that names them begins with FID or IID")
    traits = lines[0][names:] if header else [f"PHENO{i + 1}" for i in range(len(lines[0]) - names)]
    rows = list(enumerate(lines, 1))[1:] if header else list(enumerate(lines, 1))
    for number, row in rows:
        if len(row) != names + len(traits):
            message = (
                f"{str(file)!r} has {names + len(traits)} columns; line {number} has {len(row)}"
            )
            raise StoreError(message)
    keys = tuple(tuple(row[:names]) for _, row in rows)
    _require_once(str(file), keys)
    values = [[_number(text, str(file), number) for text in row[names:]] for number, row in rows]
    return Table(str(file), keys, tuple(traits), np.array(values).reshape(len(rows), len(traits)))


def _lines(file: Path) -> list[list[str]]:
    """Give the words of each line; refuse columns that are not between blanks."""
    try:
        text = file.read_text("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise StoreError(f"{str(file)!r} is no text in UTF-8: {error}") from None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines:
        raise StoreError(f"{str(file)!r} is empty: it needs sample names and columns of numbers")
    for mark in ",;":
        if mark in lines[0][0]:
            message = f"{str(file)!r} has {mark!r} between its columns, or in its first name"
            raise StoreError(f"{message}; write it with blanks or tabs between columns")
    return lines


def aligned(
    given: Any, cohort: Genotypes, *, what: str, unmatched: Unmatched
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Put numbers of people in the order of a cohort's samples.

    Parameters
    ----------
    given : path, Table, array of shape (n,) or (n, k), mapping of names to arrays, or of pandas
        The numbers; without samples' names they are in the samples' order. The index of a pandas
        object holds sample ids, or (family, sample); one that counts rows from 0 says nothing.
    cohort : Genotypes
        The samples.
    what : str
        "phenotypes" or "covariates", for messages.
    unmatched : {"raise", "drop"}
        Whether all samples must be in both.

    Returns
    -------
    tuple of (array of shape (samples, k), names)
        NaN where there is no number.

    Raises
    ------
    ShapeError
        If samples are in one and not in the other; the message names the first.
    DTypeError
        If they are no numbers.
    NonFiniteError
        If one is infinite; the message names its sample.
    OptionError
        If `unmatched` is unknown.

    Warns
    -----
    UserWarning
        If -9, which is missing in a table and a number elsewhere, stands far below all others.
    """
    if unmatched not in ("raise", "drop"):
        raise OptionError(f"unmatched is 'raise' or 'drop'; found {unmatched!r}")
    if isinstance(given, str | os.PathLike):
        given = read_table(given)
    given = _from_pandas(given, cohort, what)
    if isinstance(given, Table):
        values, names = _matched(given, cohort, what, unmatched), given.columns
    else:
        values, names = _in_order(given, cohort, what)
    _warn_of_missing(values, names, what)
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        sample, column = infinite[0]
        message = f"{what}: {names[column]!r} of sample {cohort.samples.label(sample)!r} is"
        raise NonFiniteError(f"{message} {values[sample, column]}; NaN is what is missing")
    return values, names


def _warn_of_missing(values: NDArray[np.float64], names: Sequence[str], what: str) -> None:
    """Warn of -9 where PLINK's users mean that there is no number; tables have none left."""
    for name, column in zip(names, values.T, strict=True):
        others = column[np.isfinite(column) & (column != _MISSING_NUMBER)]
        count = np.count_nonzero(column == _MISSING_NUMBER)
        if not count or not others.size:
            continue
        least, span = float(others.min()), float(np.ptp(others))
        if least >= 0 or least - _MISSING_NUMBER > _APART * span:
            message = (
                f"{what}: {name!r} is -9 for {count} samples, far from all others; PLINK takes -9 "
                "as missing, and so does a table of text, but in arrays it is a number. Write NaN "
                "where it is missing"
            )
            warnings.warn(message, UserWarning, stacklevel=4)


def _from_pandas(given: Any, cohort: Genotypes, what: str) -> Any:
    """Make a table of what has an index of samples; give other things back."""
    if isinstance(given, Mapping) and any(_is_pandas(v) for v in given.values()):
        import pandas

        given = pandas.DataFrame(dict(given))  # which puts rows of the same name together
    if not _is_pandas(given):
        return given
    index = given.index
    if given.ndim == 1:
        stem = "PHENO1" if what == "phenotypes" else "COVAR1"
        given = given.to_frame(stem if given.name is None else given.name)
    counting = type(index).__name__ == "RangeIndex" and (index.start, index.step) == (0, 1)
    if counting:
        return given
    if index.nlevels > 2:
        message = f"the index of {what} holds sample ids, or (family, sample)"
        raise ShapeError(f"{message}; it has {index.nlevels} levels")
    if index.nlevels == 1 and index.dtype.kind in "iu":
        _require_names_not_rows(index.to_numpy(), cohort, what)
    rows = index.tolist() if index.nlevels == 2 else [(key,) for key in index]
    keys = tuple(tuple(str(part) for part in row) for row in rows)
    name = f"the {what}' index"
    _require_once(name, keys)
    values = _floats(given, what)
    return Table(name, keys, tuple(str(column) for column in given.columns), values)


def _require_names_not_rows(index: NDArray[np.integer[Any]], cohort: Genotypes, what: str) -> None:
    """Refuse an index that may count rows from 0 where samples are called 1 to n."""
    numbers = np.arange(1, cohort.shape[0] + 1)
    if np.array_equal(np.sort(index), numbers):
        return
    if np.array_equal(cohort.samples.sample_id, numbers.astype(np.str_)):
        message = (
            f"the index of {what} is of numbers, and the samples of {cohort.name} are called 1 to "
            f"{len(numbers)}: they may be names, or rows from 0. Give names as text "
            "(index.astype(str)), or one row for each sample in their order, as an array"
        )
        raise ShapeError(message)


def _floats(values: Any, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        message = f"{what} are columns of numbers, of one length: {error}"
        raise DTypeError(f"{message}. Write cases as 1 and controls as 0") from None


def _is_pandas(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas"


def _in_order(
    given: Any, cohort: Genotypes, what: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    names: Sequence[str] | None = None
    if hasattr(given, "keys"):
        names = [str(name) for name in given.keys()]  # noqa: SIM118  (a dataset's keys are not all)
        columns = [_floats(given[name], what) for name in names]
        for name, column in zip(names, columns, strict=True):
            if column.shape != (cohort.shape[0],):
                message = f"{what}: {name!r} needs a number for each of the {cohort.shape[0]}"
                raise ShapeError(f"{message} samples of {cohort.name}; found shape {column.shape}")
        given = np.column_stack(columns) if columns else np.empty((cohort.shape[0], 0))
    values = _floats(given, what)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != cohort.shape[0]:
        message = (
            f"{what} need one row for each of the {cohort.shape[0]} samples of {cohort.name}; "
            f"found shape {values.shape}"
        )
        raise ShapeError(message)
    stem = "PHENO" if what == "phenotypes" else "COVAR"
    return values, tuple(names or (f"{stem}{i + 1}" for i in range(values.shape[1])))


def _matched(
    table: Table, cohort: Genotypes, what: str, unmatched: Unmatched
) -> NDArray[np.float64]:
    people = cohort.samples
    ours: list[tuple[str, ...]] = [(str(s),) for s in people.sample_id]
    if table.keys and len(table.keys[0]) == 2:
        pairs = zip(people.family_id, people.sample_id, strict=True)
        ours = [(str(f), str(s)) for f, s in pairs]
    _require_once(cohort.name, tuple(ours))
    row = {key: i for i, key in enumerate(table.keys)}
    absent = [key for key in ours if key not in row]
    known = set(ours)
    strangers = [key for key in table.keys if key not in known]
    if len(absent) == len(ours) or (unmatched == "raise" and (absent or strangers)):
        parts = [
            f"{len(keys)} of {total} samples of {there!r} are not in {other!r} (the first: "
            f"{' '.join(keys[0])!r})"
            for keys, total, there, other in (
                (absent, len(ours), cohort.name, table.name),
                (strangers, len(table.keys), table.name, cohort.name),
            )
            if keys
        ]
        way = "unmatched='drop' analyses the common ones"
        if len(absent) == len(ours):
            way = "they have none in common: compare their FID and IID columns"
        raise ShapeError(f"{what} and genotypes are of other samples: {'; '.join(parts)}; {way}")
    values = np.full((len(ours), len(table.columns)), np.nan)
    for i, key in enumerate(ours):
        if key in row:
            values[i] = table.values[row[key]]
    return values


def _require_once(name: str, keys: tuple[tuple[str, ...], ...]) -> None:
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        if key in seen:
            message = f"{name!r} has the sample {' '.join(key)!r} twice; names must tell rows apart"
            raise StoreError(message)
        seen.add(key)


def _number(text: str, file: str, line: int) -> float:
    if text in _MISSING:
        return np.nan
    try:
        value = float(text.replace("_", "?"))  # which Python takes, and nobody else
    except ValueError:
        raise StoreError(f"{file!r} has {text!r}, no number, in line {line}") from None
    if np.isinf(value):
        raise StoreError(f"{file!r} has {text!r}, which is infinite, in line {line}")
    return np.nan if value == _MISSING_NUMBER else value

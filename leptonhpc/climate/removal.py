"""Climatologies and trends: terms that are fitted to every cell and removed while it is read.

A term is evaluated from the coordinate alone, so that the same terms are removed from new samples.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc.climate.fields import Field
from leptonhpc.errors import OptionError, ShapeError

CALENDAR = ("season", "month", "dayofyear", "hour")


@dataclass(frozen=True)
class Terms:
    """Which terms: an indicator of each group, and powers of the coordinate."""

    groups: tuple[Any, ...] = ()
    """Labels of groups, each with its own mean."""
    by: str | None = None
    """What says which sample is in which group: a part of the calendar."""
    degree: int = 0
    """Largest power of the coordinate."""
    origin: float = 0.0
    span: float = 1.0
    """Where the coordinate is -1 and how far it is to 1, in its own units (days for dates)."""
    counted: str | None = None
    """How the coordinate counts: numbers, lengths of time, or dates of a calendar. None: not known,
    or of no account."""

    @property
    def names(self) -> list[str]:
        """Give a name to each term."""
        means = [f"{self.by} {group}" for group in self.groups] or ["mean"]
        return means + [f"trend {power}" for power in range(1, self.degree + 1)]

    def evaluate(self, coordinate: Any) -> NDArray[np.float64]:
        """Give the terms at some samples.

        Parameters
        ----------
        coordinate : DataArray of shape (m,)
            Of the samples.

        Returns
        -------
        array of shape (m, terms)
            One column for each term.
        """
        terms = np.zeros((coordinate.size, len(self.names)))
        if self.by is None:
            terms[:, 0] = 1
        else:
            labels = _labels(coordinate, self.by).tolist()
            places = {group: at for at, group in enumerate(self.groups)}
            strange = set(labels) - set(places)
            if strange:
                raise OptionError(f"no climatology is known of {self.by} {sorted(strange)}")
            terms[np.arange(len(labels)), [places[label] for label in labels]] = 1
        if self.degree:
            self._require_counted_alike(coordinate)
            where = 2 * (numbers(coordinate) - self.origin) / self.span - 1
            powers = range(1, self.degree + 1)
            terms[:, -self.degree :] = np.stack([where**power for power in powers], axis=1)
        return terms

    def _require_counted_alike(self, coordinate: Any) -> None:
        """Refuse dates of another calendar: the same day is not as far from the origin there."""
        found = _counted(coordinate)
        if self.counted not in (None, found):
            message = (
                f"the trend is along {self.counted}; {coordinate.name} here has {found}. "
                "x.convert_calendar or x.assign_coords makes them agree"
            )
            raise OptionError(message)

    def to_json(self) -> str:
        """Give it as an attribute of a file."""
        data = {"by": self.by, "groups": list(self.groups), "degree": self.degree}
        return json.dumps(
            {**data, "origin": self.origin, "span": self.span, "counted": self.counted}
        )

    @staticmethod
    def from_json(text: str) -> Terms:
        """Read what `to_json` wrote.

        Parameters
        ----------
        text : str
            The attribute.

        Returns
        -------
        Terms
            The same terms.
        """
        data = json.loads(text)
        return Terms(**{**data, "groups": tuple(data["groups"])})


def choose_terms(field: Field, *, anomalies: str | None, detrend: bool | int) -> Terms | None:
    """Choose the terms that are removed from a field.

    Parameters
    ----------
    field : Field
        The field.
    anomalies : str or None
        From which climatology departures are taken.
    detrend : bool or int
        Degree of the polynomial; True is 1.

    Returns
    -------
    Terms or None
        None: nothing but the mean is removed.

    Raises
    ------
    OptionError
        If the coordinate has no calendar, or too few samples are there.
    """
    whole = isinstance(detrend, int | np.integer | np.bool_)
    degree = int(detrend) if whole else -1
    if not 0 <= degree <= 9:
        raise OptionError(f"detrend is True, False or a degree up to 9; found {detrend!r}")
    if anomalies is None and not degree:
        return None
    coordinate = field.array[field.dim]
    groups = () if anomalies is None else _groups(coordinate, anomalies)
    where = numbers(coordinate) if degree else np.zeros(2)
    low, high = float(where.min()), float(where.max())
    counted = _counted(coordinate) if degree else None
    return Terms(groups, anomalies, degree, low, high - low or 1.0, counted)


def numbers(coordinate: Any) -> NDArray[np.float64]:
    """Give a coordinate as numbers; dates as days since 1970, lengths of time as days.

    Parameters
    ----------
    coordinate : DataArray of shape (m,)
        Numbers, dates or lengths of time.

    Returns
    -------
    array of shape (m,)
        In double precision.

    Raises
    ------
    OptionError
        If one is missing, or they are neither.
    """
    values = coordinate.values
    _require_known(coordinate)
    if values.dtype.kind == "M":
        values = values - np.datetime64("1970-01-01")
    if values.dtype.kind == "m":  # in days, whatever they are stored in
        return np.asarray(values / np.timedelta64(1, "D"), dtype=np.float64)
    if values.dtype.kind not in "biuf" and not hasattr(values[0], "calendar"):
        message = f"a trend needs numbers or dates; {coordinate.name} has {values[0]}"
        raise OptionError(message)
    if values.dtype == object:  # dates of cftime
        import cftime  # type: ignore[import-untyped]

        days = cftime.date2num(values, "days since 1970-01-01", calendar=values[0].calendar)
        return np.asarray(days, dtype=np.float64)
    return np.asarray(values, dtype=np.float64)


def _counted(coordinate: Any) -> str:
    if coordinate.dtype.kind == "m":
        return "lengths of time"
    if not hasattr(coordinate, "dt"):
        return "numbers"
    calendar = str(coordinate.dt.calendar)
    alike = ("standard", "gregorian", "proleptic_gregorian")  # since 1582
    return f"dates of the {'standard' if calendar in alike else calendar} calendar"


def _require_known(coordinate: Any) -> None:
    missing = np.flatnonzero(coordinate.isnull().values)
    if missing.size:
        message = f"{coordinate.name} must be known of all samples; it is missing of number"
        raise OptionError(f"{message} {missing[0]}. Leave that out, or give its place a value")


def _groups(coordinate: Any, anomalies: str) -> tuple[Any, ...]:
    if anomalies not in CALENDAR:
        message = f"anomalies is one of {', '.join(CALENDAR)}, or None; found {anomalies!r}"
        raise OptionError(message)
    if not hasattr(coordinate, "dt"):
        message = (
            f"anomalies={anomalies!r} needs dates; {coordinate.name} has dtype {coordinate.dtype}"
        )
        raise OptionError(message)
    _require_known(coordinate)
    labels, counts = np.unique(_labels(coordinate, anomalies), return_counts=True)
    if counts.min() < 2:
        message = (
            f"anomalies={anomalies!r} needs at least two samples of each {anomalies}; there is one "
            f"of {labels[counts.argmin()]}"
        )
        raise ShapeError(message)
    return tuple(labels.tolist())


def _labels(coordinate: Any, by: str) -> NDArray[Any]:
    """Say which group a sample is in; days of the year are month and day, whatever the year."""
    if by != "dayofyear":
        return np.asarray(getattr(coordinate.dt, by).values)
    month, day = (np.asarray(getattr(coordinate.dt, unit).values) for unit in ("month", "day"))
    if coordinate.dt.calendar != "360_day":  # where 29 February comes every year
        day = np.where((month == 2) & (day == 29), 28, day)
    return np.array([f"{m:02d}-{d:02d}" for m, d in zip(month, day, strict=True)])

"""When each lane did what: a bounded record, however many tasks a job has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

MOST_SPANS = 1000
"""So many are kept: neighbours of the same stage are joined, short gaps first."""
_MOST_LANES = 256
"""Lanes that come later are counted in the shares of their devices, and not drawn."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tasks of one stage that a lane did one after another."""

    device: str
    lane: int
    stage: str
    began_seconds: float
    """Since the job began."""
    seconds: float
    """From the first task's beginning to the last one's end."""
    busy_seconds: float
    """Of `seconds`, in tasks."""
    tasks: int

    @property
    def ended_seconds(self) -> float:
        """Since the job began."""
        return self.began_seconds + self.seconds


class Timeline:
    """Spans of all lanes of a job, in the order in which they ended."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, int], list[Span]] = {}
        self._count = 0
        self._gap_seconds = 1e-3

    def __iter__(self) -> Iterator[Span]:
        """Give the spans, lane by lane, to a tenth of a millisecond."""
        for _, spans in sorted(self._lanes.items()):
            for span in spans:
                began, ended = round(span.began_seconds, 4), round(span.ended_seconds, 4)
                seconds, busy = round(ended - began, 4), round(span.busy_seconds, 4)
                yield replace(
                    span, began_seconds=began, seconds=seconds, busy_seconds=min(busy, seconds)
                )

    def __len__(self) -> int:
        """Count the spans."""
        return self._count

    def add(
        self, device: str, lane: int, stage: str, *, ended_seconds: float, seconds: float
    ) -> None:
        """Take note of a task.

        Parameters
        ----------
        device : str
            Who did it.
        lane : int
            Of that device.
        stage : str
            Of the job.
        ended_seconds : float
            When it ended, or when that became known, since the job began.
        seconds : float
            How long it took. A lane does one task at a time: news that are late do not make two
            of its tasks overlap.
        """
        if (device, lane) not in self._lanes and len(self._lanes) >= _MOST_LANES:
            return
        spans = self._lanes.setdefault((device, lane), [])
        earliest = spans[-1].ended_seconds if spans else 0.0
        began = min(max(earliest, ended_seconds - seconds), ended_seconds)
        took = ended_seconds - began
        span = Span(device, lane, stage, began, took, min(seconds, took), 1)
        before = len(spans)
        _append(spans, span, self._gap_seconds, across=False)
        self._count += len(spans) - before
        if self._count > 2 * MOST_SPANS:
            self._coarsen(ended_seconds)

    def _coarsen(self, until_seconds: float) -> None:
        """Join neighbours until few enough are left; of two stages only if nothing else helps.

        Each lane is left one span in the end, and lanes are fewer than spans.
        """
        across = False
        while self._count > MOST_SPANS:
            if self._gap_seconds > until_seconds:
                across, self._gap_seconds = True, until_seconds / MOST_SPANS
            self._gap_seconds *= 2
            for spans in self._lanes.values():
                joined: list[Span] = []
                for span in spans:
                    _append(joined, span, self._gap_seconds, across=across)
                spans[:] = joined
            self._count = sum(map(len, self._lanes.values()))


def _append(spans: list[Span], span: Span, gap_seconds: float, *, across: bool) -> None:
    """Add a span, as a part of the last one if it follows that closely."""
    last = spans[-1] if spans else None
    fits = last is not None and span.began_seconds - last.ended_seconds <= gap_seconds
    short = last is not None and min(last.seconds, span.seconds) <= gap_seconds
    if last is None or not fits or not (last.stage == span.stage or (across and short)):
        spans.append(span)
        return
    longer = max(last, span, key=lambda each: each.busy_seconds)
    spans[-1] = Span(
        span.device, span.lane, longer.stage, last.began_seconds,
        span.ended_seconds - last.began_seconds, last.busy_seconds + span.busy_seconds,
        last.tasks + span.tasks,
    )  # fmt: skip


def spans_to_dict(spans: tuple[Span, ...]) -> dict[str, Any]:
    """Give spans as JSON can hold them in little space.

    Parameters
    ----------
    spans : tuple of Span
        The spans.

    Returns
    -------
    dict
        Names of devices and stages, and a row of numbers for each span.
    """
    devices = list(dict.fromkeys(span.device for span in spans))
    stages = list(dict.fromkeys(span.stage for span in spans))
    rows = [
        [
            devices.index(s.device), s.lane, stages.index(s.stage), s.began_seconds,
            s.seconds, s.busy_seconds, s.tasks,
        ]
        for s in spans
    ]  # fmt: skip
    return {"devices": devices, "stages": stages, "rows": rows}


def spans_from_dict(data: dict[str, Any]) -> tuple[Span, ...]:
    """Give back what `spans_to_dict` made.

    Parameters
    ----------
    data : dict
        Names and rows.

    Returns
    -------
    tuple of Span
        The spans.
    """
    devices, stages = data["devices"], data["stages"]
    return tuple(
        Span(devices[device], lane, stages[stage], *numbers)
        for device, lane, stage, *numbers in data["rows"]
    )

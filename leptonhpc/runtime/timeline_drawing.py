"""The timeline of a job as a picture: a row for each lane, a colour for each kind of stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from leptonhpc.planning.costs import format_seconds
from leptonhpc.runtime.timeline import Span

COLOURS = (
    "#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#eeca3b",
    "#ff9da6", "#79706e",
)  # fmt: skip
_MOST_ROWS = 64
_WIDTH, _ROW, _LEFT = 760, 18, 190


def kind_of(stage: str) -> str:
    """Give the name of a stage without its number: repeats of a pass have one colour."""
    return re.sub(r"[ -]\d+$", "", stage)


def colours_of(stages: Sequence[str]) -> dict[str, str]:
    """Give a colour to each kind of stage, in the order in which they ran."""
    kinds = dict.fromkeys(map(kind_of, stages))
    return {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(kinds)}


def draw_timeline(spans: Sequence[Span], seconds: float) -> str:
    """Draw which stage ran when.

    Parameters
    ----------
    spans : sequence of Span
        Of one run.
    seconds : float
        How long the run took.

    Returns
    -------
    str
        An SVG of a row for each lane (of the first 64), an axis in seconds and a legend. What is
        paler was idle in between.
    """
    ordered = sorted(spans, key=lambda span: span.began_seconds)
    colours = colours_of([span.stage for span in ordered])
    lanes = sorted({(span.device, span.lane) for span in spans})
    rows = {lane: row for row, lane in enumerate(lanes[:_MOST_ROWS])}
    scale = _WIDTH / max(seconds, max(span.ended_seconds for span in spans), 1e-9)
    height = len(rows) * _ROW
    drawn = [
        _bar(span, rows[span.device, span.lane], scale, colours[kind_of(span.stage)])
        for span in ordered
        if (span.device, span.lane) in rows
    ]
    several = {device for device, lane in lanes if lane > 0}
    labels = [
        f'<text x="{_LEFT - 8}" y="{row * _ROW + 13}" text-anchor="end">'
        f"{escape(_label(device, lane, numbered=device in several))}</text>"
        for (device, lane), row in rows.items()
    ]
    if len(lanes) > len(rows):
        more = f"and {len(lanes) - len(rows)} more lanes"
        labels.append(f'<text x="{_LEFT}" y="{height + 14}">{more}</text>')
        height += 18
    legend, bottom = _legend(colours, height + 34)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 30} {bottom}" '
        f'width="{_LEFT + _WIDTH + 30}" font-family="sans-serif" font-size="12" '
        f'fill="currentColor">{_axis(_WIDTH / scale, scale, height)}{"".join(drawn)}'
        f"{''.join(labels)}{legend}</svg>"
    )


def _label(device: str, lane: int, *, numbered: bool) -> str:
    name = device if len(device) <= 25 else f"…{device[-24:]}"
    return f"{name} {lane}" if numbered else name


def _bar(span: Span, row: int, scale: float, colour: str) -> str:
    words = (
        f"{span.stage}: {span.tasks} task{'s' * (span.tasks > 1)}, from "
        f"{format_seconds(span.began_seconds)} for {format_seconds(span.seconds)}"
    )
    busy = span.busy_seconds / span.seconds if span.seconds > 0 else 1.0
    return (
        f'<rect x="{_LEFT + span.began_seconds * scale:.2f}" y="{row * _ROW + 2}" '
        f'width="{max(0.5, span.seconds * scale):.2f}" height="{_ROW - 4}" fill="{colour}" '
        f'fill-opacity="{0.35 + 0.65 * min(1.0, busy):.2f}"><title>{escape(words)}</title></rect>'
    )


def _axis(seconds: float, scale: float, height: int) -> str:
    """Draw a line at round seconds."""
    step = next(
        (s for e in range(-4, 8) for s in (10.0**e, 2 * 10.0**e, 5 * 10.0**e) if seconds / s <= 8),
        seconds,
    )
    marks = [i * step for i in range(int(seconds / step) + 1)]
    return "".join(
        f'<line x1="{_LEFT + at * scale:.1f}" x2="{_LEFT + at * scale:.1f}" y1="0" y2="{height}" '
        f'stroke="currentColor" stroke-opacity="0.2"/><text x="{_LEFT + at * scale:.1f}" '
        f'y="{height + 15}" text-anchor="middle">{at:g} s</text>'
        for at in marks
    )


def _legend(colours: dict[str, str], top: int) -> tuple[str, int]:
    """Draw names beside their colours; give the lower edge too."""
    parts, x = [], _LEFT
    for kind, colour in colours.items():
        width = 34 + 7 * len(kind)
        if x + width > _LEFT + _WIDTH:
            x, top = _LEFT, top + 18
        parts.append(
            f'<rect x="{x}" y="{top}" width="11" height="11" fill="{colour}"/>'
            f'<text x="{x + 16}" y="{top + 10}">{escape(kind)}</text>'
        )
        x += width
    return "".join(parts), top + 20

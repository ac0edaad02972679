"""The simulated timeline as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from leptonhpc.placement.choose import Placed
from leptonhpc.planning.costs import format_seconds

_MOST_LANES = 32
_MOST_SPANS = 200
_WIDTH, _ROW, _LEFT = 640, 16, 150
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#eeca3b")


def draw_svg(stages: Sequence[tuple[str, Placed, int]], notes: Sequence[str] = ()) -> str:
    """Draw what each lane does, stage after stage.

    Parameters
    ----------
    stages : sequence of (name, Placed, repeats)
        As they run; a repeated stage is drawn once, as long as all its repeats.
    notes : sequence of str
        Lines below, such as who does nothing and why.

    Returns
    -------
    str
        An SVG of one row for each lane (of the first 32), a colour for each stage, and seconds.
    """
    total = sum(placed.simulation.seconds * times for _, placed, times in stages)
    if not stages or total <= 0:
        return ""
    names = _rows(stages)
    shown = list(names)[:_MOST_LANES]
    scale = _WIDTH / total
    parts, begin = [], 0.0
    for number, (stage, placed, times) in enumerate(stages):
        colour = _COLOURS[number % len(_COLOURS)]
        for lane, start, end in _merged(placed, times):
            row = names[_label(placed, lane)]
            if row < len(shown):
                x, width = _LEFT + (begin + start) * scale, max(0.3, (end - start) * scale)
                parts.append(
                    f'<rect x="{x:.1f}" y="{row * _ROW + 2}" width="{width:.1f}" '
                    f'height="{_ROW - 4}" fill="{colour}"><title>{escape(stage)}</title></rect>'
                )
        begin += placed.simulation.seconds * times
    height = len(shown) * _ROW
    more = [f"and {len(names) - len(shown)} more lanes"] if len(names) > len(shown) else []
    below = [*more, *notes]
    whole = height + 24 + _ROW * max(1, len(below))
    labels = [
        f'<text x="{_LEFT - 6}" y="{row * _ROW + 12}" text-anchor="end">{escape(name[-22:])}</text>'
        for row, name in enumerate(shown)
    ]
    labels += [
        f'<text x="{_LEFT}" y="{height + 30 + _ROW * line}">{escape(text)}</text>'
        for line, text in enumerate(below)
    ]
    axis = (
        f'<text x="{_LEFT}" y="{height + 14}">0</text><text x="{_LEFT + _WIDTH}" '
        f'y="{height + 14}" text-anchor="end">{format_seconds(total)}</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 10}" '
        f'height="{whole}" font-family="sans-serif" font-size="11" fill="currentColor">'
        f"{''.join(parts)}{''.join(labels)}{axis}{_legend(stages, height)}</svg>"
    )


def _legend(stages: Sequence[tuple[str, Placed, int]], height: int) -> str:
    parts, x = [], _LEFT + 60
    for number, (stage, _, times) in enumerate(stages[: len(_COLOURS)]):
        text = stage if times == 1 else f"{stage} ({times} times)"
        parts.append(
            f'<rect x="{x}" y="{height + 5}" width="10" height="10" fill="{_COLOURS[number]}"/>'
            f'<text x="{x + 14}" y="{height + 14}">{escape(text)}</text>'
        )
        x += 30 + 6 * len(text)
    return "".join(parts)


def _rows(stages: Sequence[tuple[str, Placed, int]]) -> dict[str, int]:
    """Give a row to each lane that is there in any stage."""
    labels: dict[str, int] = {}
    for _, placed, _ in stages:
        for lane in range(len(placed.placement.lanes)):
            labels.setdefault(_label(placed, lane), len(labels))
    return labels


def _label(placed: Placed, lane: int) -> str:
    owner = placed.placement.lanes[lane]
    name = placed.work.machine.devices[owner.device].name
    return name if placed.work.stage.lanes_per_worker == 1 else f"{name} {owner.number}"


def _merged(placed: Placed, times: int) -> list[tuple[int, float, float]]:
    """Give the spans, neighbours joined where there are very many."""
    spans = placed.simulation.spans
    gap = placed.simulation.seconds / _MOST_SPANS
    joined: dict[int, list[list[float]]] = {}
    for span in sorted(spans, key=lambda s: (s.lane, s.start)):
        runs = joined.setdefault(span.lane, [])
        if runs and len(spans) > _MOST_SPANS and span.start - runs[-1][1] < gap:
            runs[-1][1] = max(runs[-1][1], span.end)
        else:
            runs.append([span.start, span.end])
    return [(lane, a * times, b * times) for lane, runs in joined.items() for a, b in runs]

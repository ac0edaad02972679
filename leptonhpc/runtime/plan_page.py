"""A page on Dask's dashboard, ``/leptonhpc``: the plan of the latest job, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from leptonhpc.planning.costs import format_seconds
from leptonhpc.runtime.timeline import Span, spans_from_dict
from leptonhpc.runtime.timeline_drawing import colours_of, kind_of
from leptonhpc.runtime.view import HEADS, device_rows, time_line

if TYPE_CHECKING:
    from leptonhpc.runtime.board import Board

ROUTE = "/leptonhpc"
_REDRAWN_MS = 1000
_MOST_LANES = 48
_COLUMNS = ("left", "right", "middle", "height", "colour", "stage", "tasks")


def add_page(scheduler: Any, board: Board) -> None:
    """Add the page to the scheduler's HTTP server, behind whatever guards that.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        Its server listens.
    board : Board
        What is shown.
    """
    from distributed.dashboard.core import BokehApplication
    from tornado.ioloop import IOLoop

    pages = {ROUTE: partial(_open_page, board)}
    application = BokehApplication(pages, scheduler)
    scheduler.http_application.add_application(application)
    application.initialize(IOLoop.current())
    application.start()


def _open_page(board: Board, _scheduler: Any, _extra: Any, document: Any) -> None:
    """Make the page for one browser."""
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource, DataRange1d, Range1d
    from bokeh.models.widgets import Div
    from bokeh.plotting import figure

    words, tables = Div(sizing_mode="stretch_width"), Div(sizing_mode="stretch_width")
    rows = Range1d(start=0.6, end=-0.6)
    bars = ColumnDataSource({name: [] for name in _COLUMNS})
    lanes = figure(
        title="Timeline", x_range=DataRange1d(start=0), y_range=rows, x_axis_label="seconds",
        height=120, sizing_mode="stretch_width", tools="xpan,xwheel_zoom,reset,hover",
        toolbar_location="above",
        tooltips=[("stage", "@stage"), ("tasks", "@tasks"), ("from", "@left s")],
    )  # fmt: skip
    lanes.hbar(y="middle", left="left", right="right", height="height", color="colour", source=bars)
    lanes.ygrid.visible = False

    def redraw() -> None:
        words.text, tables.text = _words(board), _tables(board)
        latest = board.latest()
        spans = {} if latest is None else latest.facts["spans"]
        names, data = _bars(spans)
        bars.data = data
        lanes.yaxis.ticker = list(range(len(names)))
        lanes.yaxis.major_label_overrides = dict(enumerate(names))
        rows.start, rows.end = len(names) - 0.4, -0.6  # the first lane on top
        lanes.height = 110 + 18 * len(names)

    redraw()
    document.title = "leptonhpc: plan"
    document.add_root(column(words, lanes, tables, sizing_mode="stretch_width"))
    document.add_periodic_callback(redraw, _REDRAWN_MS)


def _words(board: Board) -> str:
    """Say which job it is and how far."""
    latest = board.latest()
    if latest is None:
        return "<h2>leptonhpc</h2><p>No job has run on this cluster yet.</p>"
    facts = latest.facts
    head = f"<h2>{escape(facts['driver'])}: {latest.state}</h2>"
    if latest.state == "lost":
        return f"{head}<p>Nothing is heard of it any more: its process may be gone.</p>"
    if latest.state != "running":
        return f"{head}<p>It took {format_seconds(facts['seconds'])}.</p>"
    stage = facts["stage"]
    now = "" if stage is None else f"{escape(stage)}: {facts['done']} of {facts['tasks']} tasks. "
    return f"{head}<p>{now}{escape(time_line(facts))}</p>"


def _tables(board: Board) -> str:
    """Give the plan, and what each device does."""
    latest = board.latest()
    if latest is None:
        return ""
    facts = latest.facts
    plan = [
        (stage["name"], stage["times"], f"{stage['tasks']:,}", format_seconds(stage["seconds"]))
        for stage in facts["stages"]
    ]
    devices = _table(HEADS, device_rows(facts["devices"]))
    return (
        f"{_legend(facts['spans'])}<h3>Plan: {escape(facts['method'])}</h3>"
        f"{_table(('stage', 'times', 'tasks', 'predicted, each'), plan)}<h3>Devices</h3>{devices}"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cell = 'style="padding: 0 1.2em 0 0; text-align: left"'
    head = "".join(f"<th {cell}>{escape(name)}</th>" for name in heads)
    body = "".join(
        "<tr>" + "".join(f"<td {cell}>{escape(text)}</td>" for text in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _legend(data: Mapping[str, Any]) -> str:
    """Give each kind of stage that ran behind its colour."""
    colours = _colours(spans_from_dict(dict(data)) if data else ())
    return " &emsp; ".join(
        f'<span style="color: {colour}">&#9632;</span> {escape(kind)}'
        for kind, colour in colours.items()
    )


def _colours(spans: Sequence[Span]) -> dict[str, str]:
    return colours_of([s.stage for s in sorted(spans, key=lambda s: s.began_seconds)])


def _bars(data: Mapping[str, Any]) -> tuple[list[str], dict[str, list[Any]]]:
    """Give the names of lanes from the top, and the columns of the picture."""
    spans = spans_from_dict(dict(data)) if data else ()
    colours = _colours(spans)
    lanes = sorted({(span.device, span.lane) for span in spans})[:_MOST_LANES]
    rows = {lane: row for row, lane in enumerate(lanes)}
    shown = [span for span in spans if (span.device, span.lane) in rows]
    columns: dict[str, list[Any]] = {
        "left": [span.began_seconds for span in shown],
        "right": [span.ended_seconds for span in shown],
        "middle": [rows[span.device, span.lane] for span in shown],
        "height": [0.8] * len(shown),
        "colour": [colours[kind_of(span.stage)] for span in shown],
        "stage": [span.stage for span in shown],
        "tasks": [span.tasks for span in shown],
    }
    several = {device for device, lane in lanes if lane > 0}
    names = [f"{device} {lane}" if device in several else device for device, lane in lanes]
    return names, columns

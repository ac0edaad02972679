"""The report of a job as one HTML file: it opens from the disk, without network or script."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from leptonhpc.blocks.drawing import format_nbytes
from leptonhpc.planning.costs import format_seconds
from leptonhpc.runtime.report import Report, StageReport, format_joules
from leptonhpc.runtime.timeline_drawing import draw_timeline

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --over: #c4302b; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; }
body { padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: right; }
td:first-child, th:first-child, td.words { text-align: left; }
th { font-weight: 600; border-bottom: 1px solid var(--line); }
td.over { color: var(--over); font-weight: 600; } .note { opacity: .7; margin: .2rem 0; }
svg { max-width: 100%; height: auto; } pre { white-space: pre-wrap; }
.bar { display: block; height: .7rem; background: #4c78a8; }
"""


def page_of(report: Report, certificate: Any = None) -> str:
    """Give the page of a report.

    Parameters
    ----------
    report : Report
        What the job did.
    certificate : Certificate, optional
        Of its result.

    Returns
    -------
    str
        A whole HTML document, with its pictures in it.
    """
    title = f"leptonhpc: {report.driver}"
    workers = f"{report.workers} worker{'s' * (report.workers > 1)}"
    cores = f"{report.threads} core{'s' * (report.threads > 1)}"
    snapshot = f"; snapshot {report.snapshot}" if report.snapshot else ""
    parts = [
        f"<h1>{escape(report.driver)}</h1>",
        f'<p class="note">{format_seconds(report.seconds)} on {workers} with {cores} each; '
        f"written {time.strftime('%Y-%m-%d %H:%M')}{escape(snapshot)}</p>",
        _section("Predicted beside actual", _comparison(report)),
        _section("Certificate", _certificate(certificate)),
        _section("Timeline", _timeline(report)),
        _section("Stages", _stages(report.stages)),
        _section("Devices", _devices(report)),
        _section("Energy", _energy(report)),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{_STYLE}</style></head>\n<body>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, body: str) -> str:
    return f"\n<h2>{title}</h2>\n{body}" if body else ""


def _comparison(report: Report) -> str:
    """Set what was promised beside what was measured; a broken promise is marked."""
    known = report.predicted_passes > 0
    rows = [
        ("time", format_seconds(report.predicted_seconds), format_seconds(report.seconds), ""),
        (
            "passes over the input",
            f"{report.predicted_passes:.3g}" if known else "",
            f"{report.passes:.3g}",
            "; ".join(filter(None, (report.counted_reads(), _kept_in_memory(report)))),
        ),
        (
            "bytes read",
            format_nbytes(report.predicted_read_nbytes) if known else "",
            format_nbytes(report.read_nbytes),
            "",
        ),
        (
            "bytes written",
            format_nbytes(report.predicted_write_nbytes) if known else "",
            format_nbytes(report.write_nbytes),
            "scratch included",
        ),
        (
            "peak memory of a worker",
            f"at most {format_nbytes(report.predicted_peak_nbytes)}",
            format_nbytes(report.peak_nbytes),
            _verdict(report),
        ),
        ("rate", "", f"{report.flops / max(report.seconds, 1e-9) / 1e9:.3g} GFLOP/s", ""),
    ]
    over = report.peak_nbytes > min(report.memory_nbytes, report.predicted_peak_nbytes)
    table = _table(("", "predicted", "actual", ""), rows, marked={4} if over else (), words=True)
    return table + _resumed_note(report.stages)


def _verdict(report: Report) -> str:
    allowed = format_nbytes(report.memory_nbytes)
    if report.peak_nbytes > report.memory_nbytes:
        return f"OVER the allowed {allowed}"
    more = report.peak_nbytes > report.predicted_peak_nbytes
    return f"allowed {allowed}" + ", more than predicted" * more


def _kept_in_memory(report: Report) -> str:
    """Say why an input was read less often than there were passes over it."""
    less = report.passes < 0.95 * report.predicted_passes
    resumed = any(stage.resumed or stage.resumed_tasks for stage in report.stages)
    return "what fits stays in memory" if less and report.passes and not resumed else ""


def _resumed_note(stages: Sequence[StageReport]) -> str:
    taken = sum(stage.resumed for stage in stages)
    tasks = sum(stage.resumed_tasks for stage in stages)
    if not taken and not tasks:
        return ""
    return (
        f'<p class="note">An earlier run had done {taken} stages and {tasks} tasks; the prediction '
        "is of all of the job, the rest of this run.</p>"
    )


def _certificate(certificate: Any) -> str:
    return "" if certificate is None else f"<pre>{escape(str(certificate))}</pre>"


def _timeline(report: Report) -> str:
    if not report.spans:
        return (
            '<p class="note">Nothing ran: all was taken from the journal, or is not recorded.</p>'
        )
    return draw_timeline(report.spans, report.seconds)


def _stages(stages: Sequence[StageReport]) -> str:
    rows = [
        (
            stage.name,
            f"{stage.tasks:,}",
            format_seconds(stage.predicted_seconds),
            "from the journal" if stage.resumed else format_seconds(stage.seconds),
            format_nbytes(stage.read_nbytes),
            f"{stage.flops:.3g}",
        )
        for stage in stages
    ]
    return _table(("stage", "tasks", "predicted", "actual", "read", "flops"), rows)


def _devices(report: Report) -> str:
    """Say who did what, and who was left out and why."""
    total, left = report.by_device(), report.left_out()
    if not total:
        return ""
    flops = sum(device.flops for device in total) or 1.0
    busiest = max(device.flops for device in total) or 1.0
    rows = [
        (
            escape(device.name),
            f"{device.tasks:,}",
            f"{device.flops / flops:.1%}",
            f'<span class="bar" style="width:{6 * device.flops / busiest:.2f}rem"></span>',
            format_seconds(device.seconds),
        )
        for device in total
    ]
    table = _table(("device", "tasks", "share of the flops", "", "busy"), rows, raw=True)
    notes = [f"{escape(name)} was left out: {escape(why)}" for name, why in sorted(left.items())]
    if report.on_cluster:
        notes.insert(0, f"{report.off_owner} tasks ran where they were not placed.")
    return table + "".join(f'<p class="note">{note}</p>' for note in notes)


def _energy(report: Report) -> str:
    if not report.joules:
        return (
            '<p class="note">Not measured: no sensor of the machines could be read '
            "(RAPL, as a rule for root only; NVML of GPUs).</p>"
        )
    rows = [(name, format_joules(value)) for name, value in sorted(report.joules.items())]
    whole = format_joules(sum(report.joules.values()))
    return _table(("sensor", "energy"), [*rows, ("all", whole)]) + (
        '<p class="note">Of the whole packages and boards while the job ran, whoever used them.</p>'
    )


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    raw: bool = False,
    words: bool = False,
    marked: Iterable[int] = (),
) -> str:
    """Give a table; `raw`: cells are HTML already; `words`: the last column is text."""
    marks = set(marked)
    body = ""
    for number, row in enumerate(rows):
        kinds = ["over" if number in marks else ""] * len(row)
        kinds[-1] += " words" if words else ""
        cells = (
            f'<td class="{kind}">{cell if raw else escape(cell)}</td>'
            for kind, cell in zip(kinds, row, strict=True)
        )
        body += f"<tr>{''.join(cells)}</tr>\n"
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><tr>{head}</tr>\n{body}</table>"

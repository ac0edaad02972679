"""What leptonhpc costs beside the work: import, start, a job of a second on a cluster, a task.

python benchmarks/overhead.py --rows 65536 --columns 2048 --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import data
import measure
import options
import own
import rows
from contest import run_fresh
from rows import Row
from tables import print_table

TINY = {"rows": 4000, "columns": 64, "rank": 5, "chunk_rows": 500, "repeats": 1, "tasks": 200}

STARTS = {
    "import leptonhpc": ("", "import leptonhpc"),
    "first svd of 10 x 10, package imported": (
        "import numpy as np, leptonhpc.api as lh",
        "lh.svd(np.eye(10), rank=2)",
    ),
    "second svd of 10 x 10": (
        "import numpy as np, leptonhpc.api as lh; lh.svd(np.eye(10), rank=2)",
        "lh.svd(np.eye(10), rank=2)",
    ),
    "import and first svd of 10 x 10": (
        "",
        "import numpy as np, leptonhpc as lh; lh.svd(np.eye(10), rank=2)",
    ),
}
"""What is timed in a fresh Python: (before the clock, on the clock)."""

JOBS = {"job in-process": False, "job on a cluster that runs already": True}


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Measure starts and jobs."""
    arguments = options.parse(_parser(), argv, TINY)
    shared = {**rows.describe_run(), "subject": "overhead"}
    found = [{**shared, **_start(name, arguments)} for name in STARTS]
    found += [{**shared, **_job(name, arguments)} for name in JOBS]
    tasks = {"tasks": arguments.tasks}
    row = run_fresh("tasks", "leptonhpc", own.CONTESTANTS["tasks", "leptonhpc"], tasks, arguments)
    found.append({**shared, **row, "contestant": "a task on a cluster"})
    rows.append_rows(arguments.out, found)
    lines = [(r["contestant"], f"{r.get('seconds', 0):.3f}", r["status"]) for r in found]
    here, there, each = found[-3:]
    if here["status"] == there["status"] == "ok":
        percent = 100 * (there["seconds"] / here["seconds"] - 1)
        lines.append(("overhead of the cluster", f"{percent:.1f} %", ""))
    if each["status"] == "ok":
        lines += [
            (f"a task: {name.replace('_', ' ')}", f"{each[name]:.2f}", "")
            for name in ("seconds_a_task_ms", "client_and_scheduler_ms", "worker_ms")
        ]
    print_table("overhead", ("what", "seconds", "status"), lines)
    return found


def _start(name: str, arguments: argparse.Namespace) -> Row:
    """Give the median of several fresh processes; interpreter start is not counted."""
    before, timed = STARTS[name]
    limits = measure.Limits(arguments.limit_seconds, arguments.limit_memory)
    taken = []
    with tempfile.TemporaryDirectory(dir=arguments.data) as folder:
        for turn in range(arguments.repeats):
            result = Path(folder) / f"{turn}.json"
            code = (
                f"import time\n{before}\nbegan = time.perf_counter()\n{timed}\n"
                "seconds = time.perf_counter() - began\n"
                f"print('{{\"seconds\": %r}}' % seconds, file=open({str(result)!r}, 'w'))"
            )
            taken.append(measure.run_fresh([sys.executable, "-c", code], result, limits=limits))
    failed = [m.status for m in taken if m.status != "ok"]
    row: dict[str, Any] = {"contestant": name, "status": failed[0] if failed else "ok"}
    seconds = [m.answer["seconds"] for m in taken if m.status == "ok"]
    if not failed:
        row["seconds"] = statistics.median(seconds)
    return {**row, "all_seconds": seconds, "peak_nbytes": max(m.peak_nbytes for m in taken)}


def _job(name: str, arguments: argparse.Namespace) -> Row:
    x = data.tall_matrix(
        arguments.data, rows=arguments.rows, columns=arguments.columns,
        chunk_rows=arguments.chunk_rows,
    )  # fmt: skip
    case = {
        "x": str(x), "rank": arguments.rank, "memory": arguments.memory,
        "repeats": arguments.repeats, "distributed": JOBS[name],
    }  # fmt: skip
    row = run_fresh("job", "leptonhpc", own.CONTESTANTS["job", "leptonhpc"], case, arguments)
    sizes = {key: getattr(arguments, key) for key in ("rows", "columns", "rank", "chunk_rows")}
    if row["status"] == "ok":
        exact = data.exact_singular_values(x)[: arguments.rank]
        row["error"] = data.worst_relative_error(row.pop("s"), exact)
    return {**row, "contestant": name, "sizes": sizes, "dtype": "float32",
            "memory_nbytes": arguments.memory}  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    made = options.parser("overhead", __doc__ or "", peers=())
    made.set_defaults(repeats=5)
    made.add_argument("--rows", type=int, default=65_536)
    made.add_argument("--columns", type=int, default=2048)
    made.add_argument("--tasks", type=int, default=4000, help="that do nearly nothing")
    made.add_argument("--rank", type=int, default=20)
    made.add_argument("--chunk-rows", type=int, default=4096)
    made.add_argument("--memory", type=options.nbytes, default="2GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()

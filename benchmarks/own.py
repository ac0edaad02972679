"""What leptonhpc alone is measured at: planning large jobs, running small ones, sending tasks."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from typing import Any

from measure import Timer
from peers import Contestant, cluster


def plan(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Plan a job on arrays of which there is only the metadata."""
    import leptonhpc.api as lh

    with timer:
        explanation = lh.plan(
            options["driver"], *options["arrays"], memory=options["memory"], **options["keywords"]
        ).explanation
    return {"tasks": sum(stage["tasks"] for stage in explanation.stages)}


def job(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Run a small SVD several times, after one that warms up; the median.

    It writes its factors, as a job on a cluster must.
    """
    import leptonhpc.api as lh

    where = (
        cluster(options, "leptonhpc.api") if options["distributed"] else contextlib.nullcontext()
    )
    seconds = []
    with where, tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + options["repeats"]):
            with timer:
                r = lh.svd(
                    options["x"], rank=options["rank"], memory=options["memory"], progress=False,
                    out=f"{folder}/r", overwrite=True,
                )  # fmt: skip
            seconds.append(timer.seconds)
    return {"seconds": statistics.median(seconds[1:]), "all_seconds": seconds, "s": r.s.tolist()}


def tasks(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Run a stage of very many tasks that do nearly nothing, and one of few; give the difference.

    Processor time is that of this process (client and scheduler), and of its two workers.
    """
    import numpy as np
    from distributed import Client, LocalCluster

    import leptonhpc.api as lh
    from leptonhpc.planning import costs, layout

    few, of_lane = costs._PIECES_EACH, layout._TASKS_OF_LANE
    x = np.ones((16 * options["tasks"], 8))
    seen = []
    with LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", worker_dashboard_address="127.0.0.1:0",
    ) as cluster, Client(cluster) as client:  # fmt: skip
        lh.norm(x, progress=False)  # warms up
        for pieces in (few, options["tasks"] // 2):
            costs._PIECES_EACH = layout._TASKS_OF_LANE = pieces
            here, there = _processor_seconds(), sum(client.run(_processor_seconds).values())
            with timer:
                report = lh.norm(x, progress=False).report
            there = sum(client.run(_processor_seconds).values()) - there
            count = sum(stage.tasks for stage in report.stages)
            seen.append((count, timer.seconds, _processor_seconds() - here, there))
    costs._PIECES_EACH, layout._TASKS_OF_LANE = few, of_lane
    more = seen[1][0] - seen[0][0]
    each = [1e3 * (late - early) / more for early, late in zip(*seen, strict=True)][1:]
    names = ("seconds_a_task_ms", "client_and_scheduler_ms", "worker_ms")
    return {"tasks": seen[1][0], **dict(zip(names, each, strict=True))}


def _processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


CONTESTANTS = {
    ("tasks", "leptonhpc"): Contestant(tasks),
    ("plan", "leptonhpc"): Contestant(plan),
    ("job", "leptonhpc"): Contestant(job),
}

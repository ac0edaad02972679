"""What leptonhpc alone is measured at: planning large jobs, and running small ones."""

from __future__ import annotations

import contextlib
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


CONTESTANTS = {
    ("plan", "leptonhpc"): Contestant(plan),
    ("job", "leptonhpc"): Contestant(job),
}

"""One contest: every contestant in a fresh process, in turn, as often as asked."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import als_peers
import domain_peers
import factor_peers
import limits
import measure
import nmf_peers
import parallel_peers
import peers
import processes
import rows
from rows import Row

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Contest:
    """What is done, on what, and how an answer is judged."""

    subject: str
    work: str
    dtype: str
    sizes: Mapping[str, Any]
    options: Mapping[str, Any]
    """What every contestant gets, beside cores and a scratch folder."""
    input_nbytes: int
    """Of the stored input, as it lies on the disk: one pass."""
    judge: Callable[[Mapping[str, Any]], float]
    """From an answer to its error."""
    flops: float | None = None
    """Of the work, where all contestants have the same."""
    before: Callable[[], None] = lambda: None
    """Run before each contestant, off the clock."""
    limits: bool = True
    """Also measure gemm, and reading the input, which is then one Zarr array."""


def run_contest(contest: Contest, arguments: argparse.Namespace) -> list[Row]:
    """Measure the limits and each contestant `--repeats` times, round by round."""
    shared = rows.describe_run()
    names = ["leptonhpc", *arguments.peers]
    found: list[Row] = []

    def keep(row: Row) -> None:
        found.append(row)
        rows.append_rows(arguments.out, [row])  # at once: a long run that is stopped keeps its rows
        seconds = f"{row['seconds']:.3g} s" if row["status"] == "ok" else ""
        print(f"{contest.subject}: {row['contestant']}: {row['status']} {seconds}", flush=True)

    for turn in range(arguments.repeats):
        for name in [*limits.GEMM, *limits.READ] if contest.limits and arguments.limits else []:
            keep({**shared, "turn": turn, **_run_limit(contest, name, arguments)})
        for name in names:
            keep({**shared, "turn": turn, **_run_contestant(contest, name, arguments)})
    return found


def _run_limit(contest: Contest, name: str, arguments: argparse.Namespace) -> Row:
    dtype = name.rpartition(" ")[2] if name in limits.GEMM else contest.dtype
    options = {**contest.options, "gemm_size": arguments.gemm_size, "dtype": dtype}
    contestant = limits.CONTESTANTS["limit", name]
    row = run_fresh("limit", name, contestant, options, arguments)
    return {"subject": contest.subject, "dtype": dtype, "sizes": dict(contest.sizes), **row}


def _run_contestant(contest: Contest, name: str, arguments: argparse.Namespace) -> Row:
    known = {
        **peers.CONTESTANTS, **factor_peers.CONTESTANTS, **domain_peers.CONTESTANTS,
        **als_peers.CONTESTANTS, **nmf_peers.CONTESTANTS, **parallel_peers.CONTESTANTS,
    }  # fmt: skip
    contestant = known[contest.work, name]
    contest.before()
    processes.touch(arguments.hot_memory)
    row = run_fresh(contest.work, name, contestant, dict(contest.options), arguments)
    own = {
        "subject": contest.subject, "dtype": contest.dtype, "sizes": dict(contest.sizes),
        "memory_nbytes": contest.options["memory"],
    }  # fmt: skip
    if row["status"] != "ok":
        return {**own, **row}
    seconds, read = row["seconds"], row["read_nbytes"]
    derived = {
        "error": contest.judge(row),
        "passes": read / contest.input_nbytes,
        "gbytes_per_second": 1e-9 * read / seconds,
        "gflops": None if contest.flops is None else 1e-9 * contest.flops / seconds,
    }
    for bulky in ("s", "modes"):
        row.pop(bulky, None)
    return {**own, **{**derived, **row}}


def run_fresh(
    work: str,
    name: str,
    contestant: peers.Contestant,
    options: dict[str, Any],
    arguments: argparse.Namespace,
) -> Row:
    """Run one contestant once and give what it answered, what it took, and what became of it."""
    missing = [module for module in contestant.needs if not _is_installed(module)]
    if missing:
        return {"contestant": name, "status": f"not installed: {missing[0]}", "peak_nbytes": 0}
    with tempfile.TemporaryDirectory(dir=arguments.data) as scratch:
        result = Path(scratch) / "answer.json"
        options = {**options, "cores": rows.cores(), "scratch": scratch}
        case = {"work": work, "contestant": name, "options": options, "result": str(result)}
        taken = measure.run_fresh(
            [sys.executable, str(HERE / "contestant.py"), json.dumps(case)],
            result,
            limits=measure.Limits(arguments.limit_seconds, arguments.limit_memory),
            environment=contestant.environment,
        )
    status = taken.status.replace(str(arguments.data), "DATA")  # rows name no machine's folders
    return {
        "contestant": name, **taken.answer, "status": status,
        "wall_seconds": taken.wall_seconds, "peak_nbytes": taken.peak_nbytes,
    }  # fmt: skip


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its parent
        return False

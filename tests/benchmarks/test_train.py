"""A tiny size of the benchmark of training runs, beside torchrun."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_training_gives_rows_with_losses_beside_those_of_torchrun(tmp_path: Path) -> None:
    out = tmp_path / "train.jsonl"
    command = [
        sys.executable, str(BENCHMARKS / "train.py"), "--tiny", "--out", str(out),
        "--data", str(tmp_path), "--slow", "0.5",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    rows = {row["contestant"]: row for row in found}
    assert all(row["seconds"] > 0 for row in rows.values())
    alone, in_step = rows["leptonhpc, one process"], rows["leptonhpc, in step"]
    assert abs(in_step["loss"] - alone["loss"]) <= 1e-5
    for name in ("torchrun, DDP", "torchrun, DDP, whole batches"):
        # the same problem, shuffled otherwise
        assert abs(rows[name]["loss"] - alone["loss"]) < 0.05 * alone["loss"]
    ddp = min(row["seconds"] for row in found if row["contestant"] == "torchrun, DDP")
    assert in_step["of_torchrun"] == pytest.approx(in_step["seconds"] / ddp)
    plain, slowed, free = (
        rows[f"leptonhpc, {name}; wide{end}"]
        for name, end in (
            ("in step", ""), ("in step", ", one slowed"), ("asynchronous", ", one slowed"),
        )
    )  # fmt: skip
    assert plain["loss"] == pytest.approx(slowed["loss"], abs=1e-5)
    # of two workers one and a half are left
    ideal = plain["seconds"] * 2 / 1.5
    assert slowed["of_ideal"] == pytest.approx(slowed["seconds"] / ideal)
    assert free["of_in_step"] == pytest.approx(free["seconds"] / slowed["seconds"])
    assert "of ideal" in done.stdout

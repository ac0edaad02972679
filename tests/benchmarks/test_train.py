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
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    rows = {row["contestant"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert list(rows)[-1] == "torchrun, DDP"
    assert all(row["seconds"] > 0 for row in rows.values())
    alone, peer = rows["leptonhpc, one process"]["loss"], rows["torchrun, DDP"]["loss"]
    assert abs(rows["leptonhpc, in step"]["loss"] - alone) <= 1e-5
    assert abs(peer - alone) < 0.05 * alone  # the same problem, shuffled otherwise
    assert rows["torchrun, DDP"]["of_torchrun"] == 1.0
    plain, slowed = (rows[f"leptonhpc, in step{end}"] for end in ("", "; one slowed"))
    # of two workers one and a half are left
    ideal = plain["seconds"] * 2 / 1.5
    assert slowed["of_ideal"] == pytest.approx(slowed["seconds"] / ideal)

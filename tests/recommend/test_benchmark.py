"""The benchmark gives rows with time and quality of every contestant."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "als.py"


def test_contest_gives_time_loss_and_ranking(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, str(SCRIPT), "--tiny", "--out", str(out)]
    command += ["--data", str(tmp_path / "data"), "--peers", "implicit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    ours, peer = (json.loads(line) for line in out.read_text().splitlines())
    assert ours["status"] == "ok", done.stdout
    assert ours["seconds"] > 0
    assert 0 < ours["ndcg"] < 1
    assert ours["error"] == 1 - ours["ndcg"]
    if importlib.util.find_spec("implicit") is None:
        assert peer["status"] == "not installed: implicit"
        return
    # the same problem by as many sweeps, from other random factors
    assert 0.5 < ours["loss"] / peer["loss"] < 1.5

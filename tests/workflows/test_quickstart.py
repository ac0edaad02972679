"""The workflow that `make demo` runs, at a small size."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quickstart_explains_runs_certifies_and_draws(tmp_path: Path) -> None:
    script = ROOT / "workflows" / "quickstart" / "run.py"
    done = subprocess.run(
        [sys.executable, str(script), "--folder", str(tmp_path), "--gigabytes", "0.05"],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    assert (tmp_path / "climate.png").stat().st_size > 20_000
    skipped = "Skipped the real record" in done.stdout
    assert done.stdout.count("stages") >= (1 if skipped else 2)  # a plan for each
    assert done.stdout.count("predicted") >= (1 if skipped else 2)  # and a report
    if not skipped:
        assert (tmp_path / "e1.png").stat().st_size > 20_000
        assert "EOF 1 holds" in done.stdout

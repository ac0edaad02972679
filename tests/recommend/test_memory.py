"""The measured peak of a process stays under the budget, also where not all fits into that."""

import subprocess
import sys
from pathlib import Path

from leptonhpc.recommend import open_ratings
from leptonhpc.recommend.spilling import RECORD

SCRIPT = Path(__file__).with_name("measured_peak.py")


def peak(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_measured_peaks_stay_under_the_budgets(tmp_path: Path) -> None:
    place = str(tmp_path / "r.zarr")
    peak("compile", "-", "-")
    assert peak("store", place, "330 MB") <= 330e6
    ratings = open_ratings(place)
    # there are ratings that came twice, so fewer than 800000; all at once would take 112 MB to sort
    assert 700_000 < ratings.count < 800_000
    assert 5 * RECORD.itemsize * ratings.count > 90e6
    assert peak("fit", place, "400 MB") <= 400e6

"""Memory of non-negative factorisations stays under the budget, measured by the kernel."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

BUDGET = 220_000_000
COLUMNS, ROWS, CHUNKS = 512, 4096, 28  # more than the budget in float32

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import leptonhpc as lh
spec = json.loads(sys.argv[1])
r = lh.nmf(spec["x"], memory=spec["memory"], out=spec["out"], tol=0, **spec["options"])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "peak": int(peak.split()[1]) * 1024, "report": r.report.peak_nbytes,
    "plan": r.report.predicted_peak_nbytes, "read": r.report.read_nbytes,
}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an array whose chunk files are links to one: reading knows no difference."""
    path = tmp_path_factory.mktemp("large") / "x"
    shape = (CHUNKS * ROWS, COLUMNS)
    zarr.create_array(path, shape=shape, dtype="f4", chunks=(ROWS, COLUMNS), compressors=None)
    values = np.random.default_rng(0).random((ROWS, COLUMNS), dtype="f4")
    for number in range(CHUNKS):
        file = path / "c" / str(number) / "0"
        file.parent.mkdir(parents=True)
        if number == 0:
            file.write_bytes(values.tobytes())
        else:
            os.link(path / "c" / "0" / "0", file)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 4, "init": "random", "most_sweeps": 2},
        {"rank": 4, "method": "compressed", "most_sweeps": 2},
        {"rank": 4, "loss": "kullback-leibler", "init": "random", "most_sweeps": 1},
    ],
    ids=["sweeps", "compressed", "divergence"],
)
def test_measured_peak_stays_under_the_budget(
    options: dict[str, Any], large: Path, tmp_path: Path
) -> None:
    spec = {"x": str(large), "out": str(tmp_path / "r"), "memory": BUDGET, "options": options}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(spec)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    found = json.loads(done.stdout)
    assert found["read"] >= CHUNKS * ROWS * COLUMNS * 4
    assert found["peak"] < BUDGET
    assert found["peak"] == pytest.approx(found["report"], abs=8e6)
    assert found["plan"] <= BUDGET

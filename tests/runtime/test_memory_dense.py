"""Dense drivers keep to the budget, on matrices several times larger than what it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

BUDGET = 180_000_000
N = 2500
"""50 MB; libraries take 150 MB of the budget."""

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import leptonhpc as lh
spec = json.loads(sys.argv[1])
x = lh.open(spec["x"])
driver, options = spec["driver"], spec["options"]
if driver in ("solve", "lstsq", "cg"):
    r = getattr(lh, driver)(x, np.ones(x.shape[0]), memory=spec["memory"], **options)
else:
    more = {} if driver in ("slogdet", "norm", "cond") else {"out": spec["out"]}
    r = getattr(lh, driver)(x, memory=spec["memory"], **more, **options)
line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({
    "peak": int(line.split()[1]) * 1024, "reported": r.report.peak_nbytes,
    "planned": r.report.predicted_peak_nbytes,
}))
"""

CASES: dict[str, tuple[str, str, dict[str, object]]] = {
    "cholesky": ("cholesky", "square", {}),
    "lu": ("lu", "square", {}),
    "qr of a tall": ("qr", "tall", {}),
    "solve": ("solve", "square", {}),
    "lstsq": ("lstsq", "tall", {}),
    "largest eigenpairs": ("eigh", "square", {"k": 3}),
    "cg": ("cg", "square", {}),
    "norm": ("norm", "tall", {}),
}

SMALL_PROBLEMS = {"cond": 200_000_000, "pinv": 240_000_000, "lstsq": 190_000_000, "qr": 190_000_000}
"""Drivers that solve problems of the order of the short side between passes, and budgets."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    rng = np.random.default_rng(0)
    square = zarr.create_array(
        folder / "square", shape=(N, N), dtype="f8", chunks=(250, 250), compressors=None
    )
    for low in range(0, N, 250):  # symmetric, positive definite: |i - j|-distances decay
        i, j = np.arange(low, low + 250)[:, None], np.arange(N)[None]
        square[low : low + 250] = 0.9 ** np.abs(i - j) + (i == j)
    tall = zarr.create_array(
        folder / "tall", shape=(100_000, 64), dtype="f8", chunks=(5000, 64), compressors=None
    )
    for low in range(0, 100_000, 20_000):
        tall[low : low + 20_000] = rng.standard_normal((20_000, 64))
    # small singular values, and one that is nothing but rounding: the way that takes most memory
    graded = rng.standard_normal((2600, 640)) * np.geomspace(1, 1e-12, 640)
    graded[:, 300] = 0
    zarr.create_array(folder / "graded", data=graded, chunks=(130, 640), compressors=None)
    return {name: folder / name for name in ("square", "tall", "graded")}


@pytest.mark.parametrize("case", CASES)
def test_measured_peak_of_dense_drivers_stays_under_the_budget(
    case: str, stored: dict[str, Path], tmp_path: Path
) -> None:
    driver, shape, options = CASES[case]
    require_budget(stored[shape], driver, options, BUDGET, tmp_path)


@pytest.mark.parametrize("driver", SMALL_PROBLEMS)
def test_problems_of_the_order_of_the_short_side_are_counted(
    driver: str, stored: dict[str, Path], tmp_path: Path
) -> None:
    require_budget(stored["graded"], driver, {}, SMALL_PROBLEMS[driver], tmp_path)


def require_budget(
    x: Path, driver: str, options: dict[str, object], budget: int, folder: Path
) -> None:
    """Run a driver in a process of its own, and require that it keeps to its budget."""
    spec = {
        "x": str(x), "driver": driver, "options": options, "memory": budget,
        "out": str(folder / "r"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(spec)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["planned"] <= budget
    assert found["peak"] < budget
    assert found["peak"] == pytest.approx(found["reported"], abs=8e6)

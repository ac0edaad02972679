"""A field larger than what the budget leaves for arrays goes through every function within it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from leptonhpc.climate.room import XARRAY_NBYTES
from leptonhpc.planning.costs import LIBRARIES_NBYTES

BUDGET = 440_000_000
STEP, STEPS, LATITUDES, LONGITUDES = 20, 12, 90, 360  # of a chunk: 5.2 MB
ARENAS_NBYTES = 32 << 20  # of threads, and their stacks

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import xarray as xr
from leptonhpc import climate
from leptonhpc.runtime.memory import (
    peak_nbytes, reset_peak, resident_nbytes, return_free_memory,
)

path, other, memory = sys.argv[1], sys.argv[2], int(sys.argv[3])

def run(memory, path, right, measure):
    options = {"memory": memory, "weights": None}
    modes = measure("eof", climate.eof, path, 3, detrend=1, accuracy=0.01, **options)
    for total in ("bounded", "measured"):
        measure(total, climate.mca, path, right, 2, eofs=2, total=total, **options)
    measure("cca", climate.cca, path, right, 2, eofs=2, **options)
    measure("hilbert", climate.hilbert_eof, path, 2, eofs=3, **options)
    both = {"a": path, "b": path}
    measure("common", climate.common_eofs, both, 2, accuracy=0.01, **options)
    measure("bootstrap", climate.bootstrap, path, 2, eofs=3, draws=5, **options)
    measure("fill", climate.fill_gaps, path, 1, tol=0.05, memory=memory)
    measure("project", climate.project, modes, path, memory=memory)
    measure("regression", climate.regression_map, modes, path, memory=memory)
    measure("correlation", climate.correlation_map, modes, path, memory=memory)
    measure("rotate", climate.rotate, modes)
    field = climate.reconstruct(modes)
    measure("reconstruct", lambda: field.mean("time").compute())

def measured(name, function, *arguments, **options):
    return_free_memory()
    reset_peak()
    before = resident_nbytes()
    result = function(*arguments, **options)
    found[name] = [before, peak_nbytes()]
    return result

found = {}
right = xr.open_zarr(sys.argv[2]).rename(lat="y", lon="x")
small = xr.open_zarr(sys.argv[1])[["air"]].isel(time=slice(9), lat=slice(5), lon=slice(9)).load()
few = right.isel(time=slice(9), y=slice(5), x=slice(9)).load()
# what libraries take is known after small jobs
run(None, small, few, lambda name, function, *a, **o: function(*a, **o))
run(int(sys.argv[3]), sys.argv[1], right, measured)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give two fields of which most chunk files are links to a few."""
    folder = tmp_path_factory.mktemp("large")
    return _field(folder / "a.zarr", 0), _field(folder / "b.zarr", 1)


def _field(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    shape = (STEP * STEPS, LATITUDES, LONGITUDES)
    group = zarr.create_group(path)
    group.create_array(
        "air", shape=shape, dtype="f8", chunks=(STEP, *shape[1:]), compressors=None,
        fill_value=np.nan, dimension_names=("time", "lat", "lon"),
    )  # fmt: skip
    for name, size in zip(("time", "lat", "lon"), shape, strict=True):
        group.create_array(name, data=np.arange(float(size)), dimension_names=(name,))
    patterns = rng.standard_normal((3, LATITUDES * LONGITUDES)) * np.array([[8], [4], [2]])
    for number in range(STEPS):
        file = path / "air" / "c" / str(number) / "0" / "0"
        file.parent.mkdir(parents=True)
        if number < 3:
            noise = rng.standard_normal((STEP, LATITUDES * LONGITUDES))
            file.write_bytes((rng.standard_normal((STEP, 3)) @ patterns + noise + 280).tobytes())
        else:
            os.link(path / "air" / "c" / str(number % 3) / "0" / "0", file)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_measured_peaks_stay_under_the_budget(large: tuple[Path, Path]) -> None:
    room = BUDGET - LIBRARIES_NBYTES - XARRAY_NBYTES
    assert 1.2 * room < 8 * STEP * STEPS * LATITUDES * LONGITUDES
    command = [sys.executable, "-c", PROGRAM, *map(str, large), str(BUDGET)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 13
    assert found["eof"][1] <= BUDGET
    for name, (before, peak) in found.items():
        assert peak - before <= room + ARENAS_NBYTES, name

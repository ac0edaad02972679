"""A field larger than what the budget leaves for arrays goes through every function within it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from leptonhpc import climate
from leptonhpc.climate import coupled
from leptonhpc.climate.room import XARRAY_NBYTES
from leptonhpc.errors import MemoryBudgetError
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


MANY = 500  # samples of more cells: as many EOFs

MATRICES = """
import json
import numpy as np
from leptonhpc.climate import coupled, hilbert, significance
from leptonhpc.runtime.memory import (
    peak_nbytes, reset_peak, resident_nbytes, return_free_memory,
)

class Kept:
    load = staticmethod(lambda name: None)
    save = staticmethod(lambda name, arrays: None)

def signal(n):
    u = np.ones((n, n)) + np.eye(n)
    return u, lambda: np.linalg.svd(hilbert._analytic(u * u[0]), full_matrices=False)

def draw(n):
    u, generator = np.ones((n, n)) + np.eye(n), np.random.default_rng(0)
    return u, lambda: significance._draw(u * u[0], 2, 2, 1, 0.0, generator, Kept)

def core(n):
    u, s = np.ones((n, n)) + np.eye(n), np.arange(1.0, n + 1)
    return u, lambda: np.linalg.svd(s[:, None] * (u.conj().T @ u) * s, full_matrices=False)

found = {}
for make, counted in ((signal, hilbert._SIGNAL), (draw, significance._DRAW), (core, coupled._CORE)):
    make(9)[1]()  # what libraries take is there after a small one
    held, run = make(MANY)
    return_free_memory()
    reset_peak()
    before = resident_nbytes()
    run()
    most = 8 * MANY**2 * (counted["tall"] + counted["square"])
    found[make.__name__] = (peak_nbytes() - before, most)
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_matrices_of_eofs_take_no_more_than_is_counted() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"MANY = {MANY}\n{MATRICES}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, (measured, counted) in json.loads(done.stdout.splitlines()[-1]).items():
        assert measured <= counted + (4 << 20), name
        assert measured >= counted / 2, name  # else more is refused than must be


@pytest.fixture
def wide(rng: np.random.Generator) -> xr.DataArray:
    """Give a field whose EOFs, all of them, are many."""
    return xr.DataArray(rng.standard_normal((MANY, 520)), dims=("time", "x"), name="wide")


@pytest.mark.parametrize("function", ["hilbert_eof", "bootstrap", "mca", "cca"])
def test_matrices_of_eofs_are_counted_in_the_budget(wide: xr.DataArray, function: str) -> None:
    other = wide[:, ::-1].rename("other").rename(x="y")
    fields = (wide, other) if function in ("mca", "cca") else (wide,)
    options = {"modes": 2, "weights": None, "memory": BUDGET - 35_000_000}
    assert 10 * 8 * MANY**2 > BUDGET - 35_000_000 - LIBRARIES_NBYTES - XARRAY_NBYTES
    call = getattr(climate, function)
    with pytest.raises(MemoryBudgetError, match=r"a smaller eofs= takes less"):
        call(*fields, eofs=MANY - 1, **options)
    assert call(*fields, eofs=8, **options).sizes["mode"] == 2


def test_eofs_of_one_field_leave_the_room_of_the_other(
    field: xr.DataArray, make_field: Callable[..., xr.DataArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_field(name="rain").rename(lat="y", lon="x")
    expected = climate.mca(field, other, 2, weights=None)
    places: list[Path] = []
    decompose = coupled.reduce_field

    def noted(*arguments: object, out: str, **keywords: object) -> object:
        places.append(Path(out))
        return decompose(*arguments, out=out, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(coupled, "_EOFS_SHARE", 0.0)
    monkeypatch.setattr(coupled, "reduce_field", noted)
    found = climate.mca(field, other, 2, weights=None, memory=BUDGET)
    np.testing.assert_allclose(found.covariances, expected.covariances, rtol=1e-10)
    assert [place.name for place in places] == ["left", "right"]
    assert not places[0].parent.exists()


def test_budget_below_what_libraries_take_names_one_that_would_do(field: xr.DataArray) -> None:
    with pytest.raises(MemoryBudgetError, match=r"needs at least.*240 MB for xarray"):
        climate.eof(field, 2, memory=XARRAY_NBYTES // 2)

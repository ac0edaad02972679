"""Simulated data have the structure that was planted, and do not depend on their chunks."""

import functools
import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.datasets import fetch
from leptonhpc.datasets.planted_modes import plant_modes
from leptonhpc.datasets.simulated_climate import NOISE_LAG1
from leptonhpc.datasets.simulated_genotypes import FST, draw_genotypes


def read(location: str) -> NDArray[Any]:
    array = store.open_array(location)
    return array.read(tuple((0, size) for size in array.shape))


@functools.cache
def _whole() -> NDArray[Any]:
    return draw_genotypes(((0, 600), (0, 2100)), populations=3, seed=4)


@given(
    rows=st.tuples(st.integers(0, 600), st.integers(0, 600)).map(sorted),
    columns=st.tuples(st.integers(0, 2100), st.integers(0, 2100)).map(sorted),
)
def test_a_part_of_the_genotypes_is_that_part_of_the_whole(
    rows: list[int], columns: list[int]
) -> None:
    whole = _whole()
    part = draw_genotypes(((rows[0], rows[1]), (columns[0], columns[1])), populations=3, seed=4)
    assert np.array_equal(part, whole[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("chunks", [None, (7, 1500), (300, 11), (1, 1499)])
def test_genotypes_do_not_depend_on_chunks(tmp_path: Path, chunks: tuple[int, int] | None) -> None:
    sizes = {"people": 20, "variants": 1500}
    location = fetch("simulated-genotypes", out=tmp_path / "x.zarr", seed=1, chunks=chunks, **sizes)
    expected = draw_genotypes(((0, 20), (0, 1500)), populations=3, seed=1)
    assert np.array_equal(read(location), expected)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("simulated-genotypes", {"people": 300, "variants": 131_072}),
        ("simulated-climate", {"times": 400, "lats": 120, "lons": 240, "modes": 2}),
    ],
)
def test_simulated_data_are_streamed(tmp_path: Path, name: str, sizes: dict[str, int]) -> None:
    tracemalloc.start()
    try:
        location = fetch(name, out=tmp_path / "x.zarr", **sizes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    array = store.open_array(location)
    # A unit, its copy in the store, and cells of 1 MB of random numbers and their comparisons.
    assert peak < 2 * array.unit_nbytes + 8e6 < array.nbytes / 2


def test_another_seed_gives_other_genotypes() -> None:
    region = ((0, 50), (0, 50))
    a, b = (draw_genotypes(region, populations=2, seed=seed) for seed in (0, 1))
    assert np.mean(a != b) > 0.3


def test_populations_separate_on_the_first_two_components(tmp_path: Path) -> None:
    location = fetch("simulated-genotypes", out=tmp_path / "x.zarr", people=300, variants=5000)
    genotypes = read(location).astype(np.float64)
    assert set(np.unique(genotypes)) == {0, 1, 2}
    u, s, _ = np.linalg.svd(genotypes - genotypes.mean(axis=0), full_matrices=False)
    scores = u[:, :2] * s[:2]
    population = np.arange(300) % 3
    centres = np.stack([scores[population == k].mean(axis=0) for k in range(3)])
    spread = max(
        np.linalg.norm(scores[population == k] - centres[k], axis=1).max() for k in range(3)
    )
    apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(centres, 2))
    assert apart > 4 * spread
    # Three populations span two dimensions: the third component is noise.
    assert s[1] > 2 * s[2]


def test_populations_differ_by_the_fixation_index() -> None:
    people, variants = 3000, 4000
    genotypes = draw_genotypes(((0, people), (0, variants)), populations=2, seed=0)
    p, q = (genotypes[k::2].mean(axis=0, dtype=np.float64) / 2 for k in range(2))
    n = people // 2
    # Hudson's estimator; its standard error over 4000 variants is about FST * sqrt(2 / 4000).
    between = (p - q) ** 2 - p * (1 - p) / (2 * n - 1) - q * (1 - q) / (2 * n - 1)
    estimate = between.sum() / (p * (1 - q) + q * (1 - p)).sum()
    assert abs(estimate - FST) < 5 * FST * np.sqrt(2 / variants)


@pytest.mark.parametrize("chunks", [None, (7, 20, 24), (30, 5, 7), (4, 17, 1)])
def test_climate_does_not_depend_on_chunks(
    tmp_path: Path, chunks: tuple[int, int, int] | None
) -> None:
    sizes = {"times": 30, "lats": 20, "lons": 24, "modes": 2}
    whole = fetch("simulated-climate", out=tmp_path / "a.zarr", chunks=(30, 20, 24), **sizes)
    cut = fetch("simulated-climate", out=tmp_path / "b.zarr", chunks=chunks, **sizes)
    assert np.array_equal(read(whole), read(cut))
    other = fetch("simulated-climate", out=tmp_path / "c.zarr", seed=1, **sizes)
    assert not np.any(read(whole) == read(other))


def test_planted_modes_are_the_eofs_of_their_product() -> None:
    latitude = np.linspace(-85, 85, 18)
    patterns, scores = plant_modes(latitude, 36, 100, 6, seed=0)
    weights = np.repeat(np.cos(np.deg2rad(latitude)), 36)
    flat = patterns.reshape(6, -1).astype(np.float64)
    gram = (flat * weights) @ flat.T / weights.sum()
    amplitudes = 1.5 * 0.7 ** np.arange(6)
    # float32 numbers: each entry of a mean of products is right to a few eps of the largest
    tolerance = 10 * np.finfo(np.float32).eps * amplitudes[0] ** 2
    assert np.abs(gram - np.diag(amplitudes**2)).max() < tolerance
    moments = scores.T.astype(np.float64) @ scores / len(scores)
    assert np.abs(moments - np.eye(6)).max() < 10 * np.finfo(np.float32).eps


def test_planted_modes_are_found_by_the_svd(tmp_path: Path) -> None:
    location = fetch("simulated-climate", out=tmp_path / "x.zarr", times=480, modes=3)
    group = tmp_path / "x.zarr"
    field = read(location).astype(np.float64)
    field = field - np.tile(field.reshape(40, 12, *field.shape[1:]).mean(axis=0), (40, 1, 1))
    weights = np.sqrt(np.cos(np.deg2rad(read(f"{group}/lat"))))[:, np.newaxis]
    u, s, vh = np.linalg.svd((field * weights).reshape(480, -1), full_matrices=False)
    patterns = (read(f"{group}/mode_pattern") * weights).reshape(3, -1)
    scores = read(f"{group}/mode_score")
    for k in range(3):
        pattern = patterns[k] / np.linalg.norm(patterns[k])
        score = scores[:, k] / np.linalg.norm(scores[:, k])
        assert abs(vh[k] @ pattern) > 0.98
        assert abs(u[:, k] @ score) > 0.98
        assert s[k] == pytest.approx(np.linalg.norm(patterns[k]) * np.sqrt(480), rel=0.05)
    # What comes after them is noise: without a gap.
    assert s[2] > 2 * s[3]
    assert s[3] < 1.2 * s[4]


def test_noise_is_red_with_unit_variance(tmp_path: Path) -> None:
    location = fetch("simulated-climate", out=tmp_path / "x.zarr", times=600, lats=18, lons=36)
    group = tmp_path / "x.zarr"
    modes = np.tensordot(read(f"{group}/mode_score"), read(f"{group}/mode_pattern"), axes=1)
    noise = (read(location) - modes).astype(np.float64).reshape(50, 12, -1)
    noise = (noise - noise.mean(axis=0)).reshape(600, -1)
    # 49 of 50 degrees of freedom are left; the error of 388,800 numbers is far below 0.01.
    assert np.mean(noise**2) * 50 / 49 == pytest.approx(1, abs=0.01)
    lag1 = np.mean(noise[1:] * noise[:-1]) / np.mean(noise**2)
    assert lag1 == pytest.approx(NOISE_LAG1, abs=0.02)


def test_xarray_opens_simulated_climate(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    fetch("simulated-climate", out=tmp_path / "x.zarr", times=13, lats=4, lons=6, modes=1)
    with xarray.open_zarr(tmp_path / "x.zarr", chunks=None, consolidated=False) as dataset:
        assert dataset.temperature.dims == ("time", "lat", "lon")
        assert str(dataset.time.values[12]).startswith("1701-01-01")
        assert dataset.mode_pattern.dims == ("mode", "lat", "lon")
        july, january = dataset.temperature.isel(time=6), dataset.temperature.isel(time=0)
        assert float((july - january).sel(lat=67.5).mean()) > 10

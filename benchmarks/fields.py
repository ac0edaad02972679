"""Inputs of the domains' benchmarks, and what judges answers, by NumPy and zarr-python alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

_WAVES = 24
_LAND = 0.3


def climate_field(folder: Path, *, times: int, lats: int, lons: int, chunk_times: int) -> Path:
    """Give a Zarr group with a float32 field of planted waves, noise and land."""
    path = folder / f"field-{times}x{lats}x{lons}-{chunk_times}.zarr"
    if (path / "ready").exists():
        return path
    generator = np.random.default_rng(0)
    group = zarr.create_group(path, overwrite=True)
    latitude = np.linspace(-89, 89, lats)
    longitude = np.arange(lons) * 360.0 / lons
    for name, values in (
        ("time", np.arange(times, dtype="f8")), ("lat", latitude), ("lon", longitude),
    ):  # fmt: skip
        group.create_array(name, data=values, dimension_names=(name,))
    array = group.create_array(
        "t", shape=(times, lats, lons), chunks=(chunk_times, lats, lons), dtype="f4",
        dimension_names=("time", "lat", "lon"), fill_value=np.nan,
    )  # fmt: skip
    waves = np.stack([_wave(generator, latitude, longitude).ravel() for _ in range(_WAVES)])
    land = _wave(generator, latitude, longitude)
    is_land = land > np.quantile(land, 1 - _LAND)
    strengths = 10 * 0.8 ** np.arange(_WAVES)
    frequencies = generator.choice(np.arange(1, times), _WAVES, replace=False)
    for begin in range(0, times, chunk_times):
        steps = np.arange(begin, min(begin + chunk_times, times))
        scores = np.cos(np.pi / times * np.outer(steps + 0.5, frequencies)) * strengths
        band = (scores @ waves).reshape(-1, lats, lons).astype("f4")
        band += generator.standard_normal(band.shape, dtype=np.float32)
        band[:, is_land] = np.nan
        array[begin : begin + len(steps)] = band
    (path / "ready").touch()
    return path


def residual_of_modes(path: Path, answer: Mapping[str, Any]) -> float:
    """Give the largest |X^T (X v) - s^2 v| / s_1^2 of unit modes v of the weighted field X."""
    group = zarr.open_group(path, mode="r")
    array: Any = group["t"]
    latitude = np.asarray(group["lat"][:])  # type: ignore[index]
    with np.load(answer["modes"]) as kept:
        modes, s = kept["eofs"], kept["s"]
    Path(answer["modes"]).unlink()
    k = len(s)
    weights = np.repeat(np.sqrt(np.cos(np.deg2rad(latitude))), array.shape[2])
    v = np.nan_to_num(modes.reshape(k, -1).T.astype("f8"))
    norms = np.linalg.norm(v, axis=0)
    if len(v) != array.shape[1] * array.shape[2] or np.abs(norms - 1).max() > 1e-3:
        return math.inf
    step = array.chunks[0]
    mean = np.zeros(len(v))
    for begin in range(0, array.shape[0], step):
        mean += np.nan_to_num(_band(array, begin, step)).sum(axis=0, dtype="f8")
    mean /= array.shape[0]
    w = weights[:, None] * v
    z = np.zeros_like(v)
    for begin in range(0, array.shape[0], step):
        band = np.nan_to_num(_band(array, begin, step))
        y = band @ w - mean @ w
        z += weights[:, None] * (band.T @ y - np.outer(mean, y.sum(axis=0)))
    return float(np.max(np.linalg.norm(z - v * s**2, axis=0)) / s[0] ** 2)


def _band(array: Any, begin: int, step: int) -> NDArray[Any]:
    band: NDArray[Any] = array[begin : begin + step]
    return band.reshape(len(band), -1)


def _wave(generator: Any, latitude: NDArray[Any], longitude: NDArray[Any]) -> NDArray[Any]:
    """Give a smooth random pattern of unit mean square."""
    x, y = np.deg2rad(longitude), np.deg2rad(latitude)
    pattern = np.zeros((len(y), len(x)))
    for _ in range(4):
        across, along = generator.integers(1, 6, 2)
        phases = generator.uniform(0, 2 * np.pi, 2)
        pattern += np.outer(np.cos(along * y + phases[0]), np.cos(across * x + phases[1]))
    scaled: NDArray[Any] = pattern / np.sqrt(np.mean(pattern**2))
    return scaled


def cohort(folder: Path, *, samples: int, variants: int, block: int = 2000) -> Path:
    """Give the stem of PLINK files of three populations, made if they are not there."""
    stem = folder / f"cohort-{samples}x{variants}"
    if stem.with_suffix(".ready").exists():
        return stem
    generator = np.random.default_rng(0)
    population = np.arange(samples) % 3
    codes = np.array([0b11, 0b10, 0b00], np.uint8)  # PLINK's, for 0, 1 and 2 copies of A1
    with stem.with_suffix(".bed").open("wb") as bed, stem.with_suffix(".bim").open("w") as bim:
        bed.write(bytes([0x6C, 0x1B, 0x01]))
        for begin in range(0, variants, block):
            count = min(block, variants - begin)
            ancestral = generator.uniform(0.05, 0.95, count)
            spread = (1 - 0.02) / 0.02
            own = generator.beta(ancestral * spread, (1 - ancestral) * spread, (3, count))
            calls = generator.binomial(2, own[population].T)
            padded = np.zeros((count, -(-samples // 4) * 4), np.uint8)
            padded[:, :samples] = codes[calls]
            quads = padded.reshape(count, -1, 4) << np.array([0, 2, 4, 6], np.uint8)
            bed.write(np.bitwise_or.reduce(quads, axis=2).tobytes())
            for number in range(begin, begin + count):
                bim.write(f"1\tv{number}\t0\t{number + 1}\tA\tG\n")
    people = (f"f{i}\ts{i}\t0\t0\t0\t-9\n" for i in range(samples))
    stem.with_suffix(".fam").write_text("".join(people))
    stem.with_suffix(".ready").touch()
    return stem


def exact_variances(stem: Path, *, samples: int, variants: int) -> NDArray[np.float64]:
    """Give the eigenvalues of the relationship matrix, descending, by NumPy; kept in a file."""
    place = stem.with_suffix(".npy")
    if place.exists():
        return np.asarray(np.load(place))
    width = -(-samples // 4)
    packed = np.memmap(stem.with_suffix(".bed"), np.uint8, "r", 3, (variants, width))
    copies = np.array([2, np.nan, 1, 0])
    total, used = np.zeros((samples, samples)), 0
    for begin in range(0, variants, 2000):
        quads = packed[begin : begin + 2000, :, None] >> np.array([0, 2, 4, 6], np.uint8) & 3
        calls = copies[quads.reshape(len(quads), -1)[:, :samples]]
        p = calls.mean(axis=1, keepdims=True) / 2
        varies = (p > 0) & (p < 1)
        z = ((calls - 2 * p) / np.sqrt(2 * p * (1 - p)))[varies[:, 0]]
        total += z.T @ z
        used += len(z)
    values: NDArray[np.float64] = np.linalg.eigvalsh(total / used)[::-1]
    np.save(place, values)
    return values

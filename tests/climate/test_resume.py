"""Stopped calls go on from what they had done; other calls are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from leptonhpc import climate
from leptonhpc.api.kept import KeptParts
from leptonhpc.climate import coupled, gaps, hilbert, models, passes, reduced
from leptonhpc.errors import (
    JobMismatchError,
    LeptonError,
    MemoryBudgetError,
    NonFiniteError,
    OptionError,
    OutputExistsError,
    ShapeError,
)


class StopError(Exception):
    """Somebody pulled the plug."""


def stopped(*_: object, **__: object) -> None:
    raise StopError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def other(make_field: Callable[..., xr.DataArray]) -> xr.DataArray:
    return make_field(60, lats=5, lons=7, name="rain").rename(lat="y", lon="x").fillna(280)


@pytest.mark.parametrize("function", ["mca", "cca"])
def test_coupled_modes_go_on(
    field: xr.DataArray, other: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    function: str,
) -> None:  # fmt: skip
    call = getattr(climate, function)
    out, options = tmp_path / "c.zarr", {"modes": 2, "eofs": 4, "weights": None}
    decompose, begun = coupled.reduce_field, []

    def once(sides: Any, *arguments: Any, **keywords: Any) -> Any:
        begun.append(sides[0].name)
        if len(begun) == 2:
            raise StopError
        return decompose(sides, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(coupled, "reduce_field", once)
        with pytest.raises(StopError):
            call(field, other, out=out, **options)
    assert names(tmp_path) == ["c.zarr.blocks"]
    with pytest.raises(JobMismatchError, match="overwrite=True"):
        call(field + 1, other, out=out, **options)
    passes: list[bool] = []
    svd = reduced.lh.svd

    def noted(x: Any, **keywords: Any) -> Any:
        passes.append(Path(keywords["out"]).exists())
        return svd(x, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(reduced.lh, "svd", noted)
        found = call(field, other, out=out, **options)
    assert passes == [True, False]  # that of the first field was there
    assert names(tmp_path) == ["c.zarr"]
    expected = call(field, other, **options)
    for name, values in expected.data_vars.items():
        np.testing.assert_array_equal(found[name], values)
    with pytest.raises(OutputExistsError):
        call(field, other, out=out, **options)
    assert call(field, other, out=out, overwrite=True, **{**options, "modes": 1}).sizes["mode"] == 1


def test_both_decompositions_are_kept_until_the_result_is_written(
    field: xr.DataArray, other: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.nc"
    with monkeypatch.context() as patch:
        patch.setattr(coupled, "_dataset", stopped)
        with pytest.raises(StopError):
            climate.mca(field, other, 2, eofs=3, weights=None, out=out)
    monkeypatch.setattr("leptonhpc.runtime.run.run_job", stopped)
    found = climate.mca(field, other, 2, eofs=3, weights=None, out=out)
    assert names(tmp_path) == ["c.nc"]
    assert 0 < float(found.squared_covariance_fraction.sum()) < 1


@pytest.mark.parametrize("kind", ["hilbert", "models"])
def test_other_decompositions_go_on(
    field: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    out = tmp_path / "h.zarr"

    def call(seed: int = 0, **options: Any) -> xr.Dataset:
        if kind == "hilbert":
            return climate.hilbert_eof(field, 2, eofs=4, seed=seed, **options)
        halves = {"a": field[:30], "b": field[30:]}
        return climate.common_eofs(halves, 2, seed=seed, **options)

    with monkeypatch.context() as patch:
        module, name = (hilbert, "_decompose") if kind == "hilbert" else (models, "_dataset")
        patch.setattr(module, name, stopped)
        with pytest.raises(StopError):
            call(out=out)
    assert names(tmp_path) == ["h.zarr.svd"]
    with pytest.raises(OutputExistsError, match="unfinished call with other data or options"):
        call(seed=1, out=out)
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.runtime.run.run_job", stopped)
        found = call(out=out)
    assert names(tmp_path) == ["h.zarr"]
    np.testing.assert_array_equal(found.eofs, call().eofs)
    with pytest.raises(OutputExistsError):
        call(out=out)


@pytest.mark.parametrize("modes", [2, None])
def test_filled_gaps_go_on_from_the_last_iteration(
    field: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modes: int | None
) -> None:
    gappy, out = field[:, 4:, :6].load(), tmp_path / "f.zarr"
    rng = np.random.default_rng(5)
    gappy = gappy.where(rng.random(gappy.shape) > 0.1)
    once, decomposed = gaps._Settle._once, []

    def counted(self: Any, matrix: Any, modes: int) -> Any:
        decomposed.append(modes)
        if len(decomposed) == 4:
            raise StopError
        return once(self, matrix, modes)

    options: dict[str, Any] = {"modes": modes, "most_modes": 2, "tol": 0.01, "share": 0.1}
    monkeypatch.setattr(gaps._Settle, "_once", counted)
    with pytest.raises(StopError):
        climate.fill_gaps(gappy, out=out, **options)
    assert names(tmp_path) == ["f.zarr.blocks"]
    with pytest.raises(JobMismatchError, match="overwrite=True"):
        climate.fill_gaps(gappy + 1, out=out, **options)
    found = climate.fill_gaps(gappy, out=out, **options)
    resumed = len(decomposed) - 1
    assert names(tmp_path) == ["f.zarr"]
    decomposed[:] = [0] * 4
    whole = climate.fill_gaps(gappy, **options)
    assert resumed == len(decomposed) - 4  # none was made twice
    xr.testing.assert_identical(found.load(), whole.load())
    with pytest.raises(OutputExistsError):
        climate.fill_gaps(gappy, out=out, **options)


def test_rotated_modes_are_kept(field: xr.DataArray, tmp_path: Path) -> None:
    modes, out = climate.eof(field, 3), tmp_path / "r.nc"
    turned = climate.rotate(modes)
    np.testing.assert_array_equal(climate.rotate(modes, out=out).eofs, turned.eofs)
    np.testing.assert_array_equal(
        climate.reconstruct(xr.load_dataset(out)), climate.reconstruct(turned)
    )
    with pytest.raises(OutputExistsError):
        climate.rotate(modes, out=out)
    assert names(tmp_path) == ["r.nc"]


def stop_after(monkeypatch: pytest.MonkeyPatch, saves: int, counter: str) -> list[tuple[str, int]]:
    """Have a call stop once it kept so much; give what is kept from then on too."""
    save, kept = KeptParts.save, list[tuple[str, int]]()

    def noted(self: KeptParts, name: str, arrays: dict[str, Any]) -> None:
        save(self, name, arrays)
        kept.append((name, int(arrays[counter])))
        if len(kept) == saves:
            raise StopError

    monkeypatch.setattr(KeptParts, "save", noted)
    monkeypatch.setattr(passes, "EVERY_SECONDS", 0.0)
    return kept


@pytest.mark.parametrize("function", ["project", "regression_map", "correlation_map"])
def test_passes_go_on_from_the_rows_that_were_read(
    field: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    call, modes, out = getattr(climate, function), climate.eof(field, 2), tmp_path / "p.zarr"
    monkeypatch.setattr(passes, "_BLOCK_NBYTES", 10 * field[0].nbytes)
    monkeypatch.setattr(passes, "_TOGETHER", 1)
    kept = stop_after(monkeypatch, 3, "rows")
    with pytest.raises(StopError):
        call(modes, field, out=out)
    assert names(tmp_path) == ["p.zarr.blocks"]
    with pytest.raises(JobMismatchError, match="overwrite=True"):
        call(modes, field + 1, out=out)
    found = call(modes, field, out=out)
    rows = [10, 20, 30, 40, 50, 60]
    assert [last for _, last in kept] == rows * (2 if function == "correlation_map" else 1)
    assert names(tmp_path) == ["p.zarr"]
    expected = call(modes, field)
    xr.testing.assert_identical(found.load(), expected)
    with pytest.raises(OutputExistsError):
        call(modes, field, out=out)
    twice = call(modes, 2 * field, out=out, overwrite=True)
    assert not twice.equals(expected) or function == "correlation_map"


def test_draws_go_on_from_those_that_were_made(
    field: xr.DataArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, options = tmp_path / "b.zarr", {"modes": 2, "draws": 6, "block": 3, "eofs": 4}
    expected = climate.bootstrap(field, **options)
    kept = stop_after(monkeypatch, 3, "done")
    with pytest.raises(StopError):
        climate.bootstrap(field, out=out, **options)
    assert names(tmp_path) == ["b.zarr.blocks"]
    with pytest.raises(JobMismatchError, match="seed"):
        climate.bootstrap(field, out=out, seed=1, **options)
    with pytest.raises(MemoryBudgetError):  # what is done waits for a larger budget
        climate.bootstrap(field, out=out, memory="1 MB", **options)
    assert names(tmp_path) == ["b.zarr.blocks"]
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.runtime.run.run_job", stopped)  # the decomposition is kept
        found = climate.bootstrap(field, out=out, **options)
    assert [done for _, done in kept] == [1, 2, 3, 4, 5, 6]
    assert names(tmp_path) == ["b.zarr"]
    for name, values in expected.data_vars.items():
        np.testing.assert_array_equal(found[name], values)
    with pytest.raises(OutputExistsError):
        climate.bootstrap(field, out=out, **options)


def test_maps_and_scores_go_to_netcdf_unless_they_are_complex(
    field: xr.DataArray, tmp_path: Path
) -> None:
    modes = climate.eof(field, 2)
    expected = climate.regression_map(modes, field)
    np.testing.assert_array_equal(
        climate.regression_map(modes, field, out=tmp_path / "r.nc"), expected
    )
    assert xr.load_dataset(tmp_path / "r.nc").regression.attrs == expected.attrs
    of_complex = climate.eof(field * 1j, 2)
    for call in (climate.correlation_map, climate.regression_map, climate.project):
        with pytest.raises(OptionError, match="no complex numbers"):
            call(of_complex, field * 1j, out=tmp_path / "x.nc")
    assert names(tmp_path) == ["r.nc"]


def test_folders_of_others_are_never_removed(
    field: xr.DataArray, other: xr.DataArray, tmp_path: Path
) -> None:
    thesis = tmp_path / "c.zarr.blocks" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    with pytest.raises(OutputExistsError, match="something else; move it"):
        climate.mca(field, other, 2, weights=None, out=tmp_path / "c.zarr", overwrite=True)
    assert thesis.read_text() == "four years"


def test_complex_modes_do_not_go_to_netcdf(field: xr.DataArray, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"no complex numbers.*\.zarr"):
        climate.hilbert_eof(field, 2, out=tmp_path / "x.nc")
    with pytest.raises(OptionError, match="no complex numbers"):
        climate.eof(field * 1j, 2, out=tmp_path / "x.nc")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [("gap", NonFiniteError), ("infinite", NonFiniteError), ("budget", MemoryBudgetError)],
)
def test_what_is_refused_leaves_nothing(
    field: xr.DataArray, other: xr.DataArray, tmp_path: Path, wrong: str, error: type[LeptonError]
) -> None:
    modes, series = climate.eof(field, 2, weights=None), field.time.dt.month * 1.0
    options: dict[str, Any] = {"out": tmp_path / "r.zarr"}
    field = field.copy()
    if wrong == "budget":
        options["memory"] = "1 MB"
    else:
        field[41, 5, 7] = np.nan if wrong == "gap" else np.inf
    pair = {"modes": 2, "eofs": 3, "weights": None, **options}
    calls: dict[str, Callable[[], Any]] = {
        "bootstrap": lambda: climate.bootstrap(field, 2, draws=3, **options),
        "cca": lambda: climate.cca(other, field, **pair),
        "common_eofs": lambda: climate.common_eofs({"a": field, "b": field}, 2, **options),
        "eof": lambda: climate.eof(field, 2, **options),
        "hilbert_eof": lambda: climate.hilbert_eof(field, 2, **options),
        "mca": lambda: climate.mca(other, field, total="measured", **pair),
    }
    if wrong != "gap":
        calls["fill_gaps"] = lambda: climate.fill_gaps(field, 1, **options)
    calls |= {
        "correlation_map": lambda: climate.correlation_map(series, field, **options),
        "project": lambda: climate.project(modes, field, **options),
        "regression_map": lambda: climate.regression_map(series, field, **options),
    }
    for name, call in calls.items():
        with pytest.raises(error):
            call()
        assert names(tmp_path) == [], name


def test_fillings_that_make_no_sense_leave_nothing(field: xr.DataArray, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "r.zarr"}
    for wrong in ({"modes": 99}, {"share": 0.9}):
        with pytest.raises(OptionError):
            climate.fill_gaps(field, **wrong, **options)
        assert names(tmp_path) == []
    with pytest.raises(ShapeError, match="two samples"):
        climate.fill_gaps(field[:1], **options)
    assert names(tmp_path) == []

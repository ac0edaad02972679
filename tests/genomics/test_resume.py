"""Results written to `out` are whole or not there, and a stopped call goes on where it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import leptonhpc as lh
from leptonhpc import genomics
from leptonhpc.errors import JobMismatchError, MemoryBudgetError, OutputExistsError
from leptonhpc.genomics import association, components, pairs, passes

VARIANTS, WIDTH = 240, 50
"""Of the cohorts, and of a block."""


class StopError(Exception):
    """Somebody pulled the plug."""


def stopped(*_: object, **__: object) -> None:
    raise StopError


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few variants, so that there are several."""
    monkeypatch.setattr(passes, "_MOST_CELLS", 61 * WIDTH)
    monkeypatch.setattr("leptonhpc.genomics.bed._READ_NBYTES", 61 * WIDTH)


def counting_reads(monkeypatch: pytest.MonkeyPatch, stop_at: int = VARIANTS) -> list[Any]:
    """Note the blocks that are read; of those from a variant on, the plug is pulled.

    Several threads read: which of them comes first, nobody says.
    """
    read: list[Any] = []
    call = passes._Block.__call__

    def noted(self: Any, columns: tuple[int, int]) -> Any:
        if columns[0] >= stop_at:
            raise StopError
        read.append(columns)
        return call(self, columns)

    monkeypatch.setattr(passes._Block, "__call__", noted)
    return read


TRAITS = np.random.default_rng(1).standard_normal((61, 2))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("model", ["linear", "mixed"])
def test_a_stopped_association_goes_on(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any
) -> None:
    cohort, out = genomics.read_bed(gappy.bed), tmp_path / "r.zarr"
    options: dict[str, Any] = {"model": model}
    if model == "mixed":
        options["relationship"] = genomics.grm(cohort)
    whole = genomics.gwas(cohort, TRAITS, **options)
    with monkeypatch.context() as patch:
        before = counting_reads(patch, stop_at=3 * WIDTH)
        with pytest.raises(StopError):
            genomics.gwas(cohort, TRAITS, out=out, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr.blocks"]
    with pytest.raises(JobMismatchError, match="overwrite=True"):
        genomics.gwas(cohort, TRAITS[:, :1], out=out, **options)
    with pytest.raises(MemoryBudgetError):  # what is done waits for a larger budget
        genomics.gwas(cohort, TRAITS, out=out, memory="1 MB", **options)
    after = counting_reads(monkeypatch)
    found = genomics.gwas(cohort, TRAITS, out=out, **options)
    assert len(before) == 3
    assert not set(after) & set(before)  # what comes before the one that failed was kept
    assert len(after) == 2
    xr.testing.assert_identical(found.load().drop_attrs(), whole.drop_attrs())
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]
    with pytest.raises(OutputExistsError):
        genomics.gwas(cohort, TRAITS, out=out, **options)
    again = genomics.gwas(cohort, TRAITS[:, :1], out=out, overwrite=True, **options)
    assert again.sizes["traits"] == 1


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("function", ["ld", "hwe"])
def test_a_stopped_pass_goes_on(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    cohort, out = genomics.read_bed(gappy.bed), tmp_path / "r.zarr"

    def call(of: Any = cohort, **options: Any) -> xr.Dataset:
        if function == "ld":
            options = {"window": 7, "threshold": 0.05, **options}
        found: xr.Dataset = getattr(genomics, function)(of, **options)
        return found

    with monkeypatch.context() as patch:
        before = counting_reads(patch, stop_at=3 * WIDTH)
        with pytest.raises(StopError):
            call(out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr.blocks"]
    with pytest.raises(JobMismatchError, match="overwrite=True"):
        call(cohort.select(variants=np.arange(240) > 9), out=out)
    after = counting_reads(monkeypatch)
    found = call(out=out)
    assert len(before) == 3
    assert not set(after) & set(before)
    xr.testing.assert_identical(found.load().drop_attrs(), call().drop_attrs())
    assert [p.name for p in tmp_path.iterdir()] == ["r.zarr"]
    with pytest.raises(OutputExistsError):
        call(out=out)
    few = cohort.select(variants=np.arange(9))
    assert call(few, out=out, overwrite=True).sizes["variants"] == 9


def test_a_stopped_projection_goes_on(
    complete: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, out = genomics.read_bed(complete.bed), tmp_path / "p.zarr"
    model = genomics.pca(cohort, components=3)
    with monkeypatch.context() as patch:
        patch.setattr(components.Destination, "keep", stopped)
        with pytest.raises(StopError):
            genomics.project(model, cohort, out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["p.zarr.product"]
    with pytest.raises(OutputExistsError, match="unfinished call with other data or options"):
        genomics.project(model.isel(components=[0]), cohort, out=out)
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.runtime.run.run_job", stopped)
        found = genomics.project(model, cohort, out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["p.zarr"]
    xr.testing.assert_identical(
        found.load().drop_attrs(), genomics.project(model, cohort).drop_attrs()
    )


def test_stopped_components_go_on(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, out = genomics.read_bed(gappy.bed), tmp_path / "p.nc"
    with monkeypatch.context() as patch:
        patch.setattr(components, "_dataset", stopped)
        with pytest.raises(StopError):
            genomics.pca(cohort, components=2, out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["p.nc.svd"]
    with pytest.raises(OutputExistsError, match="unfinished call with other data or options"):
        genomics.pca(cohort, components=3, out=out)
    monkeypatch.setattr("leptonhpc.runtime.run.run_job", stopped)
    found = genomics.pca(cohort, components=2, out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["p.nc"]
    monkeypatch.undo()
    np.testing.assert_array_equal(
        found.sample_pca_projection, genomics.pca(cohort, components=2).sample_pca_projection
    )
    placed = genomics.project(xr.load_dataset(out), cohort)
    assert placed.sizes["components"] == 2


PAIRS: dict[str, tuple[str, list[str]]] = {
    "grm": ("stat_genomic_relationship", ["sums", "counts"]),
    "kinship": ("stat_king_kinship", ["both_het", "opposite", "het_called"]),
    "pc_relate": ("pc_relate_phi", ["residuals", "deviations"]),
}


@pytest.mark.parametrize("function", PAIRS)
def test_a_stopped_matrix_of_pairs_goes_on(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    cohort, out = genomics.read_bed(gappy.bed), tmp_path / "k.zarr"
    variable, products = PAIRS[function]

    def call(of: Any = cohort, **options: Any) -> xr.Dataset:
        given = [of, TRAITS] if function == "pc_relate" else [of]
        found: xr.Dataset = getattr(genomics, function)(*given, **options)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(pairs.PairsOutput, "keep", stopped)
        with pytest.raises(StopError):
            call(out=out)
    assert {p.name for p in tmp_path.iterdir()} == {f"k.zarr.{name}" for name in products}
    with pytest.raises(OutputExistsError):
        call(cohort.select(variants=np.arange(240) > 9), out=out)
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.runtime.run.run_job", stopped)
        found = call(out=out)
    assert [p.name for p in tmp_path.iterdir()] == ["k.zarr"]
    np.testing.assert_array_equal(found[variable], call()[variable])
    np.testing.assert_array_equal(np.asarray(lh.open(out)), found[variable])
    with pytest.raises(OutputExistsError):
        call(out=out)


@pytest.mark.parametrize("beside", ["sums", "opposite", "residuals", "blocks", "svd"])
def test_folders_of_others_are_never_removed(complete: Any, tmp_path: Path, beside: str) -> None:
    thesis = tmp_path / f"r.zarr.{beside}" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    cohort, out = genomics.read_bed(complete.bed), tmp_path / "r.zarr"
    calls: dict[str, Any] = {
        "sums": lambda: genomics.grm(cohort, out=out, overwrite=True),
        "opposite": lambda: genomics.kinship(cohort, out=out, overwrite=True),
        "residuals": lambda: genomics.pc_relate(cohort, TRAITS, out=out, overwrite=True),
        "blocks": lambda: genomics.gwas(cohort, TRAITS, out=out, overwrite=True),
        "svd": lambda: genomics.pca(cohort, components=2, out=out, overwrite=True),
    }
    with pytest.raises(OutputExistsError, match="something else; move it"):
        calls[beside]()
    assert thesis.read_text() == "four years"


def test_names_that_say_no_format_are_refused(complete: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"\.zarr or \.nc"):
        genomics.gwas(genomics.read_bed(complete.bed), TRAITS, out=tmp_path / "result")
    assert association.VARIABLES  # nothing was begun
    assert not list(tmp_path.iterdir())

"""The templates run from copies outside the repository, and their notebooks top to bottom."""

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from leptonhpc import datasets
from leptonhpc.errors import DatasetError

TEMPLATES = Path(__file__).parents[2] / "workflows"
UNMADE = shutil.ignore_patterns("*-output")
"""A template is copied without what its run left there."""
NOTEBOOKS = [("genotype_pca", 2), ("gwas", 4)]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a copy of a template as a program, in this process, and give what it printed."""

    def program(name: str, *arguments: str) -> str:
        copied = Path(shutil.copytree(TEMPLATES / name, tmp_path / "mine", ignore=UNMADE))
        monkeypatch.chdir(copied)
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        runpy.run_path("run.py", run_name="__main__")
        return capsys.readouterr().out

    return program


def test_components_run_on_a_cohort_of_the_user(
    complete: Any, tmp_path: Path, run: Callable[..., str]
) -> None:
    given = ("--data", str(complete.bed), "--components", "3", "--maf", "0.1")
    assert "PC1 holds" in run("genotype_pca", *given)
    left = tmp_path / "mine" / "genotype-pca-output"
    assert {p.name for p in left.iterdir()} == {
        "cohort.eigenvec", "cohort.eigenval", "cohort.pca.png",
    }  # fmt: skip
    assert len(np.loadtxt(left / "cohort.eigenval")) == 3


def test_one_component_has_no_picture(
    complete: Any, tmp_path: Path, run: Callable[..., str]
) -> None:
    run("genotype_pca", "--data", str(complete.bed), "--components", "1")
    left = tmp_path / "mine" / "genotype-pca-output"
    assert {p.name for p in left.iterdir()} == {"cohort.eigenvec", "cohort.eigenval"}


def test_people_of_five_continents_lie_apart(tmp_path: Path, run: Callable[..., str]) -> None:
    try:
        datasets.fetch("ancestry-kidd", out=tmp_path / "x.zarr")
    except DatasetError as error:
        pytest.skip(f"the data cannot be had: {error}")
    assert "2504 samples, 55 variants" in run("genotype_pca", "--real", "--components", "2")
    left = tmp_path / "mine" / "genotype-pca-output"
    assert (left / "cohort.pca.png").stat().st_size > 20_000
    found = np.loadtxt(left / "cohort.eigenvec", usecols=(2, 3), skiprows=1)
    codes = zarr.open_array(left / "ancestry-kidd.zarr" / "superpopulation")[...]
    centres = np.array([found[codes == code].mean(axis=0) for code in range(5)])
    nearest = np.argmin(np.linalg.norm(found[:, None] - centres, axis=2), axis=1)
    apart = [0, 2, 3]  # Africa, East Asia, Europe; the Americas lie between them
    assert np.mean(nearest[np.isin(codes, apart)] == codes[np.isin(codes, apart)]) > 0.9


def test_association_finds_what_was_planted(tmp_path: Path, run: Callable[..., str]) -> None:
    printed = run("gwas", "--people", "400", "--variants", "660", "--no-mixed")
    strongest, planted = printed.splitlines()[1:3]
    for name in planted.partition(": ")[2].split(", "):
        assert f"{name} (p = " in strongest
    left = {p.name for p in (tmp_path / "mine" / "gwas-output").iterdir()}
    assert {"linear.height.glm.linear", "linear.height.manhattan.png"} < left


@pytest.mark.parametrize("contigs", [1, 3])
def test_both_models_have_the_covariates(
    complete: Any, tmp_path: Path, run: Callable[..., str], contigs: int
) -> None:
    for ending in (".bed", ".bim", ".fam"):
        shutil.copy(complete.prefix.with_suffix(ending), tmp_path / f"c{ending}")
    bim = tmp_path / "c.bim"
    if contigs == 1:
        lines = (f"1 {line.partition(' ')[2]}" for line in bim.read_text().splitlines())
        bim.write_text("\n".join(lines) + "\n")
    rng = np.random.default_rng(3)
    age = complete.calls[:, 5] + 0.3 * rng.normal(size=61)  # the variant acts through it only
    trait = 5 * age + rng.normal(size=61)
    for name, values in (("trait", trait), ("age", age)):
        rows = (f"f{i // 2} i{i} {float(v)!r}" for i, v in enumerate(values))
        (tmp_path / f"{name}.txt").write_text("\n".join([f"FID IID {name}", *rows]) + "\n")
    given = ("--data", tmp_path / "c.bed", "--phenotypes", tmp_path / "trait.txt",
             "--covariates", tmp_path / "age.txt")  # fmt: skip
    printed = run("gwas", *map(str, given))
    assert ("all variants are on one contig" in printed) == (contigs == 1)
    for name in ("linear.trait.glm.linear", "mixed.trait.mlm"):
        text = (tmp_path / "mine" / "gwas-output" / name).read_text().splitlines()
        row = dict(zip(text[0].split("\t"), text[6].split("\t"), strict=True))
        assert row["ID"] == "rs5"
        assert float(row["P"]) > 1e-4  # without age it is below 1e-12


def images(notebook: Any) -> int:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize(("name", "pictures"), NOTEBOOKS)
def test_notebook_holds_its_pictures_and_runs(name: str, pictures: int, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = TEMPLATES / name / "notebook.ipynb"
    assert images(json.loads(path.read_text())) == pictures
    assert os.fspath(TEMPLATES.parent) not in path.read_text()
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1200, startup_timeout=1200, resources=where).execute()
    assert images(notebook) == pictures

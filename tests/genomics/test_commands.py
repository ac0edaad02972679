"""The commands write what the functions give, under predictable names, with a log."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from leptonhpc import genomics
from leptonhpc.cli.app import app

from .conftest import write_plink


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def pheno(tmp_path: Path) -> Path:
    rng = np.random.default_rng(6)
    rows = [f"f{i // 2} i{i} {rng.normal():.6f} {i % 2}" for i in range(61)]
    path = tmp_path / "pheno.txt"
    path.write_text("\n".join(["FID IID height ill", *rows]) + "\n")
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.startswith("out"))


def test_gpca_writes_components_and_a_log(gappy: Any, tmp_path: Path) -> None:
    done = run("gpca", gappy.bed, "--out", tmp_path / "out", "--components", 3, "--maf", 0.1,
               "--prune", 0.5, "--window", 10, "--method", "exact")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == ["out.eigenval", "out.eigenvec", "out.log"]
    kept = genomics.filter_variants(genomics.read_bed(gappy.bed), min_maf=0.1)
    kept = genomics.ld_prune(kept, window=10, threshold=0.5)
    expected = genomics.pca(kept, components=3, method="exact").sample_pca_eigenvalue
    np.testing.assert_allclose(np.loadtxt(tmp_path / "out.eigenval"), expected, rtol=1e-9)
    log = (tmp_path / "out.log").read_text()
    assert f"{kept.shape[1]} variants" in log
    assert "out.eigenvec" in log


def test_grm_writes_pairs(gappy: Any, tmp_path: Path) -> None:
    done = run("grm", gappy.bed, "--out", tmp_path / "out", "--king", "--json")
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == ["out.king", "out.king.id", "out.log", "out.rel", "out.rel.id"]
    document = json.loads(done.stdout)
    assert [Path(f).name for f in document["files"]] == [
        "out.rel", "out.rel.id", "out.king", "out.king.id", "out.log",
    ]  # fmt: skip
    last = (tmp_path / "out.king").read_text().splitlines()[-1].split()
    expected = np.asarray(genomics.kinship(gappy.bed).stat_king_kinship)[-1, :-1]
    np.testing.assert_allclose(np.array(last, float), expected, rtol=1e-9)


def test_gwas_writes_a_file_for_each_trait(gappy: Any, tmp_path: Path, pheno: Path) -> None:
    done = run("gwas", gappy.bed, pheno, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == ["out.height.glm.linear", "out.ill.glm.linear", "out.log"]
    rows = [r.split("\t") for r in (tmp_path / "out.ill.glm.linear").read_text().splitlines()]
    found = genomics.gwas(gappy.bed, pheno)
    p = np.array([r[-1] for r in rows[1:]], float)
    np.testing.assert_allclose(p, found.variant_linreg_p_value[:, 1], rtol=1e-9)
    again = run("gwas", gappy.bed, pheno, "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "out.log" in again.stderr


def test_gwas_draws_pictures(complete: Any, tmp_path: Path, pheno: Path) -> None:
    lines = [" ".join(line.split()[:3]) for line in pheno.read_text().splitlines()]
    pheno.write_text("\n".join(lines))
    done = run("gwas", complete.bed, pheno, "--out", tmp_path / "out", "--plot", "--maf", 0.1)
    assert done.exit_code == 0, done.output
    written = [f"out.height.{e}" for e in ("glm.linear", "manhattan.png", "qq.png")]
    assert names(tmp_path) == sorted([*written, "out.log"])
    assert (tmp_path / "out.height.qq.png").read_bytes().startswith(b"\x89PNG")


def test_mixed_model_by_contig_from_the_shell(gappy: Any, tmp_path: Path, pheno: Path) -> None:
    done = run("gwas", gappy.bed, pheno, "--out", tmp_path / "out", "--model", "mixed", "--loco")
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == ["out.height.mlm", "out.ill.mlm", "out.log"]


def test_advice_is_for_a_shell(gappy: Any, tmp_path: Path, pheno: Path) -> None:
    nowhere = run("gwas", gappy.bed, pheno, "--covariates", tmp_path / "age.txt", "--out",
                  tmp_path / "out")  # fmt: skip
    assert nowhere.exit_code == 1
    assert "nothing is stored at" in nowhere.stderr
    assert "traceback" not in nowhere.stderr
    calls = gappy.calls[:, :30].copy()
    calls[:, 4] = 2
    write_plink(tmp_path / "c", calls)
    command = ["gpca", tmp_path / "c.bed", "--components", 2, "--out", tmp_path / "out"]
    refused = run(*command)
    assert refused.exit_code == 1
    assert "at a shell with --maf 0.001" in refused.stderr
    assert names(tmp_path) == []
    assert run(*command, "--maf", "0.001").exit_code == 0


def test_what_is_wrong_is_one_line(gappy: Any, tmp_path: Path, pheno: Path) -> None:
    pheno.write_text(pheno.read_text().replace("f0 i0", "f0 i999"))
    done = run("gwas", gappy.bed, pheno, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "'f0 i0'" in done.stderr
    assert "--unmatched 'drop'" in done.stderr
    assert names(tmp_path) == []
    copy = tmp_path / "short.bed"
    copy.write_bytes(gappy.bed.read_bytes()[:-1])
    for ending in (".bim", ".fam"):
        copy.with_suffix(ending).write_bytes(gappy.prefix.with_suffix(ending).read_bytes())
    done = run("gpca", copy, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "truncated in variant 240 of 240" in done.stderr

"""Commands that were stopped or killed go on; their files are whole or not there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import leptonhpc as lh
from leptonhpc import genomics
from leptonhpc.cli.app import app
from leptonhpc.cli.unfinished import Unfinished
from leptonhpc.errors import OutputExistsError, StoreError
from leptonhpc.genomics import components, passes


class StopError(BaseException):
    """Somebody pulled the plug."""


def stopped(*_: object, **__: object) -> None:
    raise StopError


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_gpca_goes_on_from_its_variants_and_its_decomposition(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["gpca", gappy.bed, "--out", tmp_path / "out", "--components", 2, "--maf", 0.1]
    command += ["--prune", 0.5, "--window", 10]
    with monkeypatch.context() as patch:
        patch.setattr(components, "_dataset", stopped)
        with pytest.raises(StopError):
            run(*command)
    assert names(tmp_path) == ["out.unfinished"]
    other = run(*command[:-1], 20)
    assert other.exit_code == 2
    assert "window" in other.stderr
    assert "--overwrite" in other.stderr
    assert names(tmp_path) == ["out.unfinished"]
    with monkeypatch.context() as patch:
        for chosen in ("filter_variants", "ld_prune"):
            patch.setattr(genomics, chosen, stopped)
        patch.setattr("leptonhpc.runtime.run.run_job", stopped)
        done = run(*command)
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == ["out.eigenval", "out.eigenvec", "out.log"]
    assert "goes on" in (tmp_path / "out.log").read_text()
    kept = genomics.filter_variants(genomics.read_bed(gappy.bed), min_maf=0.1)
    model = genomics.pca(genomics.ld_prune(kept, window=10, threshold=0.5), components=2)
    values = np.loadtxt(tmp_path / "out.eigenval")
    np.testing.assert_allclose(values, model.sample_pca_eigenvalue, rtol=1e-9)


@pytest.mark.parametrize("model", ["linear", "mixed"])
def test_gwas_goes_on_from_its_last_block(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(passes, "_MOST_CELLS", 61 * 50)
    monkeypatch.setattr("leptonhpc.genomics.bed._READ_NBYTES", 61 * 50)
    rng = np.random.default_rng(6)
    rows = [f"f{i // 2} i{i} {rng.normal():.6f}" for i in range(61)]
    pheno = tmp_path / "pheno.txt"
    pheno.write_text("\n".join(["FID IID height", *rows]) + "\n")
    command = ["gwas", gappy.bed, pheno, "--out", tmp_path / "out", "--model", model]
    put, kept = genomics.kept.KeptBlocks.put, []

    def noted(self: Any, part: str, columns: Any, arrays: Any) -> None:
        put(self, part, columns, arrays)
        kept.append(columns)
        if len(kept) == 3:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(genomics.kept.KeptBlocks, "put", noted)
        with pytest.raises(StopError):
            run(*command)
    assert names(tmp_path) == ["out.unfinished", "pheno.txt"]
    first = list(kept)
    with monkeypatch.context() as patch:
        patch.setattr(genomics.kept.KeptBlocks, "put", noted)
        if model == "mixed":  # the relationship is there too
            patch.setattr("leptonhpc.runtime.run.run_job", stopped)
        done = run(*command)
    assert done.exit_code == 0, done.output
    assert not set(kept[3:]) & set(first)
    assert sorted(kept) == [(b, min(b + 50, 240)) for b in range(0, 240, 50)]
    ending = "mlm" if model == "mixed" else "glm.linear"
    assert names(tmp_path) == [f"out.height.{ending}", "out.log", "pheno.txt"]
    found = genomics.gwas(gappy.bed, pheno, model=model)
    stem = "lmm" if model == "mixed" else "linreg"
    lines = (tmp_path / f"out.height.{ending}").read_text().splitlines()[1:]
    p = np.array([line.split("\t")[-1] for line in lines], float)
    np.testing.assert_allclose(p, found[f"variant_{stem}_p_value"][:, 0], rtol=1e-9)
    pheno.write_text(pheno.read_text().replace("FID IID height", "FID IID weight"))
    assert run(*command).exit_code == 2  # the log is there


def test_status_and_clean_know_what_a_command_left(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "out"
    command = ["gpca", gappy.bed, "--out", prefix, "--components", 2, "--maf", 0.1]
    monkeypatch.setattr(sys, "argv", ["leptonhpc", *map(str, command)])

    def status() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("status", prefix, "--json").stdout)
        return found

    seen: list[Any] = []

    def looked(*_: object, **__: object) -> None:
        seen.extend([status(), run("clean", prefix)])
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(components, "_dataset", looked)
        with pytest.raises(StopError):
            run(*command)
    running, refused = seen
    assert (running["state"], running["driver"], running["pid"]) == ("running", "gpca", os.getpid())
    assert refused.exit_code != 0
    assert f"process {os.getpid()}" in refused.stderr
    stopped_there = status()
    assert stopped_there["state"] == "stopped"
    assert "filtered" in stopped_there["stages_done"]
    assert stopped_there["stage"] == "pca"
    assert "the same command goes on" in run("status", prefix).stdout
    assert run("clean", prefix).stdout.strip() == f"removed {prefix}.unfinished"
    assert names(tmp_path) == []
    assert run("status", prefix).exit_code == 1
    assert run(*command).exit_code == 0
    assert (status()["state"], status()["driver"]) == ("finished", "gpca")


def test_python_knows_what_a_command_left_too(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "out"
    command = ["grm", gappy.bed, "--out", prefix]
    monkeypatch.setattr(sys, "argv", ["leptonhpc", *map(str, command)])
    with pytest.raises(StoreError):
        lh.status(prefix)
    with monkeypatch.context() as patch:
        patch.setattr(genomics.pairs.PairsOutput, "keep", stopped)
        with pytest.raises(StopError):
            run(*command)
    found = lh.status(prefix)
    assert (found.output, found.state, found.driver) == (str(prefix), "stopped", "grm")
    with Unfinished(str(prefix), [], overwrite=False).held():
        assert lh.status(prefix).state == "running"
        with pytest.raises(OutputExistsError, match=f"is being made by process {os.getpid()}"):
            lh.clean(prefix)
    assert lh.clean(prefix) == (f"{prefix}.unfinished",)
    assert names(tmp_path) == []
    assert run(*command).exit_code == 0
    assert lh.status(str(prefix)).state == "finished"
    with pytest.raises(StoreError):  # a finished one stays
        lh.clean(prefix)
    assert names(tmp_path) == ["out.log", "out.rel", "out.rel.id"]


def test_status_and_clean_know_what_a_function_left(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "_MOST_CELLS", 61 * 50)
    monkeypatch.setattr("leptonhpc.genomics.bed._READ_NBYTES", 61 * 50)
    cohort, out = genomics.read_bed(gappy.bed), tmp_path / "r.zarr"
    put, kept = genomics.kept.KeptBlocks.put, []

    def noted(self: Any, *arguments: Any) -> None:
        put(self, *arguments)
        kept.append(json.loads(run("status", out, "--json").stdout)["state"])
        if len(kept) == 2:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(genomics.kept.KeptBlocks, "put", noted)
        with pytest.raises(StopError):
            genomics.ld(cohort, out=out)
    assert kept == ["running"] * 2
    left = json.loads(run("status", out, "--json").stdout)
    assert left["state"] == "stopped"
    assert left["stages_done"] == ["pairs-0-99", "pairs-50-149"]
    assert lh.status(out).to_dict() == lh.status(f"{out}/").to_dict()
    assert list(lh.status(out).stages_done) == left["stages_done"]
    assert run("clean", out).stdout.strip() == f"removed {out}.blocks"
    with monkeypatch.context() as patch:
        patch.setattr(genomics.pairs.PairsOutput, "keep", stopped)
        with pytest.raises(StopError):
            genomics.grm(cohort, out=out)
    assert json.loads(run("status", out, "--json").stdout)["stages_done"][:2] == ["sums", "counts"]
    assert lh.clean(out) == (f"{out}.sums", f"{out}.counts")
    assert names(tmp_path) == []
    genomics.hwe(cohort, out=out)
    assert "hwe, finished" in run("status", out).stdout
    assert run("clean", out).exit_code != 0


KILLED = """
import os, signal, sys

replace, final = os.replace, sys.argv[1]

def replaced(source, target):
    replace(source, target)
    if str(target) == final:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replaced
from leptonhpc.cli.unfinished import Unfinished
Unfinished(sys.argv[2], [], overwrite=False).publish()
"""


def test_a_kill_between_two_files_leaves_whole_ones_and_the_rest_comes(
    gappy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["grm", str(gappy.bed), "--king", "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "publish", stopped)
        with pytest.raises(StopError):
            run(*command)
    assert names(tmp_path) == ["out.unfinished"]
    script = [sys.executable, "-c", KILLED, str(tmp_path / "out.rel.id"), str(tmp_path / "out")]
    killed = subprocess.run(script, capture_output=True, check=False, timeout=1200)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert names(tmp_path) == ["out.rel", "out.rel.id", "out.unfinished"]
    thesis = tmp_path / "out.king"
    thesis.write_text("four years")
    refused = run(*command)
    assert refused.exit_code == 2
    assert "out.king' exists" in refused.stderr
    assert thesis.read_text() == "four years"
    thesis.unlink()
    monkeypatch.setattr("leptonhpc.runtime.run.run_job", stopped)
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert names(tmp_path) == ["out.king", "out.king.id", "out.log", "out.rel", "out.rel.id"]
    monkeypatch.undo()
    last = (tmp_path / "out.rel").read_text().splitlines()[-1].split()
    expected = np.asarray(genomics.grm(gappy.bed).stat_genomic_relationship)[-1]
    np.testing.assert_allclose(np.array(last, float), expected, rtol=1e-9)


def test_a_kill_between_two_matrices_keeps_the_first(
    complete: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["grm", complete.bed, "--king", "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.genomics.relationship.IndicatorSource", stopped)
        with pytest.raises(StopError):
            run(*command)
    assert names(tmp_path) == ["out.unfinished"]
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.genomics.relationship.pair_sums", stopped)
        assert run(*command).exit_code == 0


def test_overwriting_begins_anew_and_goes_on_without_asking_again(
    complete: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["gpca", complete.bed, "--out", tmp_path / "out", "--components", 2]
    assert run(*command).exit_code == 0
    old = (tmp_path / "out.eigenval").read_text()
    assert run(*command).exit_code == 2
    command[-1] = 3
    with monkeypatch.context() as patch:
        patch.setattr(components, "_dataset", stopped)
        with pytest.raises(StopError):
            run(*command, "--overwrite")
    assert (tmp_path / "out.eigenval").read_text() == old
    with monkeypatch.context() as patch:
        patch.setattr("leptonhpc.runtime.run.run_job", stopped)
        assert run(*command).exit_code == 0
    assert len((tmp_path / "out.eigenval").read_text().split()) == 3
    assert names(tmp_path) == ["out.eigenval", "out.eigenvec", "out.log"]


def test_one_process_at_a_time_and_folders_of_others_stay(complete: Any, tmp_path: Path) -> None:
    command = ["grm", complete.bed, "--out", tmp_path / "out"]
    with Unfinished(str(tmp_path / "out"), [], overwrite=False).held():
        refused = run(*command)
    assert refused.exit_code == 2
    assert "another process" in refused.stderr
    (tmp_path / "out.unfinished" / "thesis.txt").write_text("four years")
    for more in ([], ["--overwrite"]):
        refused = run(*command, *more)
        assert refused.exit_code == 2
        assert "something else; move it" in refused.stderr
    assert (tmp_path / "out.unfinished" / "thesis.txt").read_text() == "four years"
    assert os.listdir(tmp_path) == ["out.unfinished"]

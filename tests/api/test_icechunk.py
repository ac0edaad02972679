"""Results in an Icechunk repository: one commit each, all of it or nothing."""

import signal
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.errors import OutputExistsError, StoreError


def commits(folder: Path) -> list[Any]:
    """Give the commits of a repository, the first one first; it begins with an empty one."""
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))
    return list(repository.ancestry(branch="main"))[-2::-1]


@pytest.fixture
def stored(tmp_path: Path, rng: np.random.Generator) -> Path:
    array = zarr.create_array(tmp_path / "x", shape=(300, 40), dtype="f8", chunks=(50, 40))
    array[...] = rng.standard_normal((300, 40))
    return tmp_path / "x"


def test_a_result_is_one_commit_and_is_read_again(stored: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    out = f"icechunk://{repository}#climate/svd"
    made = lh.svd(stored, rank=5, memory="1 GB", out=out)
    (commit,) = commits(repository)
    assert made.report.snapshot == commit.id
    assert f"snapshot {commit.id}" in str(made.report)
    loaded = lh.load(out)
    assert loaded.report == made.report
    assert loaded.certificate == made.certificate
    for name in ("u", "s", "vh"):
        assert np.array_equal(np.asarray(getattr(loaded, name)), np.asarray(getattr(made, name)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository", "x"]
    assert lh.status(out).state == "finished"
    # the same call gives what is there; no second commit
    assert lh.svd(stored, rank=5, memory="1 GB", out=out).report == made.report
    assert len(commits(repository)) == 1


def test_any_reader_of_icechunk_finds_it_and_an_older_snapshot_does_not(
    stored: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "repository"
    x = lh.open(stored)
    first = lh.svd(stored, rank=2, memory="1 GB", out=f"icechunk://{folder}#svd").report.snapshot
    product = lh.matmul(x.H, x, memory="1 GB", out=f"icechunk://{folder}#gram")
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))
    before = zarr.open_group(repository.readonly_session(snapshot_id=first).store, mode="r")
    after = zarr.open_group(repository.readonly_session("main").store, mode="r")
    assert set(before.group_keys()) == {"svd"}
    assert list(before.array_keys()) == []
    assert set(after.array_keys()) == {"gram"}
    assert set(after.group_keys()) == {"svd"}  # what was there stays
    assert np.array_equal(after["gram"][:], np.asarray(product.product))


def test_a_taken_group_is_kept_unless_it_is_to_be_replaced(stored: Path, tmp_path: Path) -> None:
    out = f"icechunk://{tmp_path / 'repository'}#svd"
    lh.svd(stored, rank=5, memory="1 GB", out=out)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        lh.svd(stored, rank=3, memory="1 GB", out=out)
    replaced = lh.svd(stored, rank=3, memory="1 GB", out=out, overwrite=True)
    assert len(lh.load(out).s) == 3
    assert [commit.id for commit in commits(tmp_path / "repository")][
        -1
    ] == replaced.report.snapshot


def test_a_killed_job_leaves_no_commit_and_goes_on(matmul_job: Any, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    matmul_job.options["out"] = out = f"icechunk://{folder}#product"
    matmul_job.out = Path(f"{folder}.product")  # beside which the journal is
    whole = matmul_job.run(out=str(tmp_path / "whole"))
    matmul_job.stop(signal.SIGKILL, ("done/multiply/*-*", 2), out=out)
    assert not folder.exists()  # nobody sees a part of it
    assert lh.status(out).state == "stopped"
    marks = matmul_job.kept("done/multiply/*-*")
    resumed = matmul_job.run(out=out)
    assert resumed["stages"][-1][2] == marks >= 2
    assert resumed["digests"] == whole["digests"]
    assert len(commits(folder)) == 1
    assert not matmul_job.journal.parent.exists()


def test_arrays_of_a_repository_are_inputs(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    made = lh.svd(stored, rank=5, memory="1 GB", out=f"icechunk://{folder}#svd")
    u = np.asarray(made.u)
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))
    session = repository.readonly_session(snapshot_id=made.report.snapshot)
    for source in (f"icechunk://{folder}#svd/u", zarr.open_array(session.store, path="svd/u")):
        found = lh.svd(source, rank=5, memory="1 GB")
        # its columns are orthonormal: all values are 1, to 40 eps for the sums of 300 squares
        assert np.abs(found.s - 1).max() <= 40 * np.finfo(float).eps
        assert np.array_equal(np.asarray(lh.open(source)), u)


@pytest.mark.parametrize("place", ["icechunk://", "icechunk://repository", "icechunk://s3://b/p#g"])
def test_a_place_that_is_none_is_an_error(place: str, stored: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="icechunk://FOLDER#GROUP"):
        lh.svd(stored, rank=2, memory="1 GB", out=place)


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing is stored"):
        lh.load(f"icechunk://{tmp_path / 'none'}#svd")

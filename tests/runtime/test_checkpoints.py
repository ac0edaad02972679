"""Long passes in parts: the sum is kept after each, and is the sum of all."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from distributed import Client
from threadpoolctl import threadpool_info

import leptonhpc as lh
from leptonhpc.linalg import bands
from leptonhpc.planning import layout
from leptonhpc.runtime import checkpoints, run
from leptonhpc.store import Journal
from leptonhpc.testing import matrix_with_spectrum, rounding, spectrum

svd = import_module("leptonhpc.linalg.svd")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an array of thirty chunks."""
    path = tmp_path_factory.mktemp("many") / "x"
    array = zarr.create_array(path, shape=(1500, 120), dtype="f8", chunks=(50, 120))
    array[...] = matrix_with_spectrum((1500, 120), spectrum("slow", 120), seed=1)
    return path


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Make every stage long; give the parts that are kept: stage, and tasks up to then."""
    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0)
    for module in (layout, bands, svd):
        monkeypatch.setattr(module, "BAND_NBYTES", 1 << 17)
    monkeypatch.setattr(layout, "TASK_NBYTES", 1 << 17)
    found: list[tuple[str, int]] = []
    keep = Journal.save_part

    def save(journal: Journal, name: str, arrays: Any, tasks: Any) -> None:
        found.append((name, len(tasks)))
        keep(journal, name, arrays, tasks)

    monkeypatch.setattr(Journal, "save_part", save)
    return found


@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_parts_sum_up_to_the_whole_on_threads(
    method: Any, many: Path, tmp_path: Path, parts: list[tuple[str, int]]
) -> None:
    check_parts(method, many, tmp_path, parts)


@pytest.mark.usefixtures("nobody_is_late")
@pytest.mark.parametrize("method", ["gram", "krylov"])
def test_parts_sum_up_to_the_whole_on_a_cluster(
    method: Any, many: Path, tmp_path: Path, client: Client, parts: list[tuple[str, int]]
) -> None:
    report = check_parts(method, many, tmp_path, parts)
    first = report.stages[0]
    assert first.placement is not None
    assert first.placement.off_owner == 0
    assert sum(device.tasks for device in first.placement.devices) == first.tasks


def check_parts(method: Any, many: Path, tmp_path: Path, parts: list[tuple[str, int]]) -> Any:
    r = lh.svd(many, rank=5, method=method, memory="250 MB", out=tmp_path / "r")
    first = r.report.stages[0]
    counts = [tasks for name, tasks in parts if name == first.name]
    assert len(counts) > 1
    assert counts == sorted(set(counts))
    assert counts[-1] < first.tasks
    whole = lh.svd(many, rank=5, method=method, memory="250 MB")  # no journal, so no parts
    a = np.asarray(lh.open(many))
    np.testing.assert_allclose(r.s, whole.s, rtol=0, atol=rounding(a, a.dtype))
    assert r.report.reads_per_chunk == 1.0
    assert not list(tmp_path.glob("*.partial"))
    return r.report


def test_blas_has_the_same_threads_after_stages_that_the_journal_gave(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed between stages has other bits on another number of threads."""
    execute, seen = run._Run.execute, list[tuple[str, list[tuple[str, int]]]]()
    most = 99

    def looking(self: Any, stage: Any, small: Any) -> Any:
        if len(seen) == most:
            raise KeyError("stopped")
        result = execute(self, stage, small)
        blas = [each for each in threadpool_info() if each["user_api"] == "blas"]
        seen.append((stage.name, sorted((b["filepath"], b["num_threads"]) for b in blas)))
        return result

    def svd(out: str) -> Any:
        seen.clear()
        return lh.svd(stored, rank=3, method="krylov", memory="1 GB", out=tmp_path / out)

    monkeypatch.setattr(run._Run, "execute", looking)
    svd("whole")
    whole, most = seen[:], 2
    with pytest.raises(KeyError, match="stopped"):
        svd("r")
    most = 99
    assert [stage.resumed for stage in svd("r").report.stages[:2]] == [True, True]
    assert seen == whole

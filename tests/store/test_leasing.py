"""A place has one owner, of all machines; that one is dead whose mark does not change for long."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from leptonhpc import store
from leptonhpc.errors import OutputExistsError, StoreError
from leptonhpc.store import leasing
from leptonhpc.store.leasing import Lease
from leptonhpc.store.making import output_lease
from leptonhpc.store.standing import (
    is_alive,
    this_process,
    this_system,
    went_with_its_machine,
)

ELSEWHERE = """
import sys
from leptonhpc import store
from leptonhpc.store import leasing, standing
standing.this_system = lambda: "another"
leasing.BEAT_SECONDS = 0.05
with store.being_made(sys.argv[1], overwrite=False) as place:
    store.create_array(place, shape=(2,), dtype="int8", chunks=(2,))
    print("made", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, for a sign that is given often."""
    monkeypatch.setattr(leasing, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(leasing, "BEAT_SECONDS", 0.05)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a process that takes itself for one of another machine, and makes an output."""
    with subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "r")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        yield process
        process.kill()


def make(out: Path) -> None:
    with store.being_made(out, overwrite=False) as place:
        array = store.create_array(place, shape=(3,), dtype="int8", chunks=(3,))
        array.write_units((0,), np.arange(3, dtype="int8"))


@pytest.mark.usefixtures("impatient")
def test_a_living_process_elsewhere_keeps_its_output_and_one_that_stood_still_has_lost_it(
    elsewhere: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    with pytest.raises(OutputExistsError, match=f"process {elsewhere.pid} of .*; wait"):
        make(out)
    elsewhere.send_signal(signal.SIGSTOP)  # a laptop that is shut
    monkeypatch.setattr(leasing, "PATIENCE_SECONDS", 0.5)
    make(out)
    elsewhere.send_signal(signal.SIGCONT)
    _, said = elsewhere.communicate("", timeout=300)
    assert elsewhere.returncode == 1
    assert "r.partial', where the output was made, was removed or replaced" in said
    assert os.listdir(tmp_path) == ["r"]
    assert store.open_array(out).read(((0, 3),)).tolist() == [0, 1, 2]


def owner_elsewhere(**more: Any) -> str:
    # of a host of the same name, and even with a process of the same number: another one
    return json.dumps({**this_process(), "system": "another", "token": "theirs", **more})


def test_the_clock_of_the_store_spares_the_waiting(tmp_path: Path) -> None:
    """Nothing here is impatient: else this would take a minute and a half."""
    lease = output_lease(tmp_path / "r")
    mark = tmp_path / "r.partial" / ".leptonhpc" / "owner.json"
    mark.parent.mkdir(parents=True)
    mark.write_text(owner_elsewhere())
    old = mark.stat().st_mtime - 2 * leasing.PATIENCE_SECONDS
    os.utime(mark, (old, old))
    assert lease.take() == {}
    assert os.listdir(mark.parent) == ["owner.json"]
    lease.release()
    assert os.listdir(mark.parent) == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("place", ["folder", "memory://leasing/x"])
def test_of_many_that_want_a_place_one_gets_it(place: str, tmp_path: Path) -> None:
    where = str(tmp_path / place) if place == "folder" else place
    # what a dead owner left is what all of them find first
    first = Lease(where, "owner.json")
    assert first.take() == {}
    first.stop()
    leases = [Lease(where, "owner.json") for _ in range(6)]
    together = threading.Barrier(6)
    refused: list[str] = []

    def want(lease: Lease) -> None:
        together.wait()
        refused.append(str(lease.take().get("token", "")))

    threads = [threading.Thread(target=want, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused.count("") == 1
    assert len(set(refused)) == 2
    for lease in leases:
        lease.release()
    assert leases[0].owner() == {}


@pytest.mark.usefixtures("impatient")
def test_who_lost_a_place_beats_no_more_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "PATIENCE_SECONDS", 0.5)
    lease = Lease(tmp_path, "owner.json")
    assert lease.take() == {}
    lease.check()
    (tmp_path / "owner.json").write_text(owner_elsewhere())
    with pytest.raises(StoreError, match="removed or replaced"):
        lease.require()
    lease._thread.join(300)
    assert not lease._thread.is_alive()
    time.sleep(leasing.PATIENCE_SECONDS)  # nobody beats: now it is looked at by itself
    with pytest.raises(StoreError, match="removed or replaced"):
        lease.check()
    lease.release()
    assert json.loads((tmp_path / "owner.json").read_text())["token"] == "theirs"


def test_a_mark_that_says_nothing_is_of_a_process_that_was_killed(tmp_path: Path) -> None:
    for left in ("", "{", "[]", json.dumps({**this_process(), "process_began": 0.0})):
        (tmp_path / "owner.json").write_text(left)
        lease = Lease(tmp_path, "owner.json")
        assert lease.take() == {}, left
        lease.release()


@pytest.mark.parametrize("theirs", [None, b"theirs"])
def test_who_stood_still_as_he_beat_writes_nothing_where_his_folder_was(
    theirs: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "r.partial"
    lease = Lease(place, "owner.json")
    assert lease.take() == {}
    lease.stop()
    read = Path.read_bytes

    def read_and_stand_still(path: Path) -> bytes:
        """Let somebody else take the place between the look and what is written."""
        found = read(path)
        shutil.rmtree(place)
        if theirs is not None:
            place.mkdir()
            (place / "owner.json").write_bytes(theirs)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_and_stand_still)
        assert not lease._replace(lease._mark, lease._record())
    assert place.exists() == (theirs is not None)
    assert theirs is None or (place / "owner.json").read_bytes() == theirs


def test_a_host_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    here = this_process()
    assert is_alive(here) is True
    assert is_alive({**here, "host": "renamed"}) is True
    # the same name, and no process of that number here: nobody here knows whether it lives
    for other in ("another", None):
        assert is_alive({**here, "system": other, "pid": 2**22 + 1}) is None
        assert is_alive({**here, "system": other}) is None
    assert is_alive({**here, "process_began": 0.0}) is False
    began = psutil.boot_time()
    # what a temporary folder of before the last start is known by: no other machine sees it
    assert went_with_its_machine({**here, "system": "another", "at": began - 60})
    assert not went_with_its_machine({**here, "at": began - 60})
    assert not went_with_its_machine({**here, "system": "another"})
    assert not went_with_its_machine(
        {**here, "host": "other", "system": "another", "at": began - 60}
    )


def test_a_clock_that_is_set_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    here, began = this_process(), psutil.Process.create_time
    # the time of day at which a process began is counted back from now
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began(self) + 3600.0)
    assert is_alive(here) is True


def test_a_container_is_another_system_than_its_host() -> None:
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("namespaces need root and unshare")
    code = "from leptonhpc.store.standing import this_system; print(this_system())"
    words = [sys.executable, "-c", code]
    inside = subprocess.run(
        ["unshare", "--pid", "--fork", *words], capture_output=True, text=True, check=False
    )
    if "not permitted" in inside.stderr:
        pytest.skip("namespaces are not allowed here")
    outside = subprocess.run(words, capture_output=True, text=True, check=True)
    assert outside.stdout.strip() == this_system()
    assert len(inside.stdout.strip()) == len(this_system())
    assert inside.stdout != outside.stdout

"""Who may connect: by invitation, with keys, never in the clear; and it is written down."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.cluster import connect, connecting, invite
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.runs import Run
from leptonhpc.cluster.security import make_keys
from leptonhpc.errors import OptionError, OutputExistsError, WorkerError

from .conftest import listening, noted, processes_of, slow_square, wait_until

Cluster = tuple[Any, Run]


def test_the_audit_log_says_who_from_where_with_which_certificate_and_what(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = invite(cluster[1].folder, "ada@lab", tmp_path / "ada")
    with connect(folder) as client:
        assert client.submit(slow_square, 3, pure=False).result() == 9
        me = client.id
    (joined,) = [e for e in noted(cluster[1], "client joined") if e["client"] == me]
    assert joined["name"] == "ada@lab"
    assert joined["peer"].startswith("tls://127.0.0.1:")
    assert int(joined["serial"], 16) == _serial(folder / "client.pem")
    (job,) = [e for e in noted(cluster[1], "job") if e["client"] == me]
    assert "slow_square" in job["tasks"]
    workers = noted(cluster[1], "worker joined")
    assert {e["name"] for e in workers} == {"cpu-0", "gpu3-0"}
    serial = _serial(cluster[1].folder / "worker.pem")
    assert {(e["certificate"], int(e["serial"], 16)) for e in workers} == {("worker", serial)}
    assert all(e["peer"].startswith("tls://127.0.0.1:") for e in workers)


def test_the_audit_log_says_who_connected_to_workers_and_nannies_past_the_scheduler(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = invite(cluster[1].folder, "grace@lab", tmp_path / "grace")
    asked = [a for address, w in identities(cluster[0]).items() for a in (address, w["nanny"])]

    async def ask(client: Any, address: str) -> Any:
        return await client.rpc(address).identity()

    with connect(folder) as client:
        for address in asked:
            assert client.sync(ask, client, address)["id"]
    serial = _serial(folder / "client.pem")

    def at() -> set[str]:
        found = [e for e in noted(cluster[1], "connected") if e.get("name") == "grace@lab"]
        assert {int(e["serial"], 16) for e in found} == {serial}
        return {e["at"] for e in found if "at" in e}

    wait_until(lambda: at() == set(asked), "workers to tell the scheduler")


def test_the_audit_log_tells_jobs_of_one_client_apart(
    cluster: Cluster, rng: np.random.Generator
) -> None:
    def jobs() -> set[str]:
        mine = [e for e in noted(cluster[1], "job") if e["client"] == cluster[0].id]
        return {e["job"] for e in mine if "job" in e}

    before, x = jobs(), rng.standard_normal((600, 40))
    for _ in range(2):
        lh.svd(x, rank=2)
    assert len(jobs() - before) == 2


def test_what_is_told_cannot_pass_for_more_than_workers_may_tell(cluster: Cluster) -> None:
    log, reason = cluster[1].folder / "audit.jsonl", "told by nobody else"
    count = len(log.read_text().splitlines())
    for told in ("no event", {"event": "client joined"}, {"event": ["refused"]}):
        cluster[0].log_event("leptonhpc-audit", told)
    cluster[0].log_event("leptonhpc-audit", {"event": "refused", "reason": reason, "time": 0})
    wait_until(lambda: reason in log.read_text(), "the scheduler to note it")
    found = list(map(json.loads, log.read_text().splitlines()[count:]))
    # clients of earlier tests may leave meanwhile, and workers tell who came to them
    assert {e["event"] for e in found} <= {"refused", "client left", "connected"}
    (line,) = [e for e in found if e["event"] == "refused"]
    assert line["reason"] == reason
    assert line["time"] > 0


def _serial(path: Path) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def test_an_invitation_holds_no_key_but_its_own(cluster: Cluster, tmp_path: Path) -> None:
    folder = invite(cluster[1].folder, "ada", tmp_path / "ada")
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["ca.pem", "client-key.pem", "client.pem", "scheduler.json"]
    own = (cluster[1].folder / "client-key.pem").read_bytes()
    assert (folder / "client-key.pem").read_bytes() != own
    assert {p.stat().st_mode & 0o077 for p in (folder, *folder.iterdir())} == {0}
    with pytest.raises(OutputExistsError):
        invite(cluster[1].folder, "ada", folder)
    with pytest.raises(OptionError, match="folder of a run"):
        invite(folder, "eve", tmp_path / "eve")  # who was invited cannot invite


@pytest.mark.parametrize("name", ["scheduler", "worker", "client"])
def test_nobody_is_called_as_the_log_calls_the_runs_own(
    cluster: Cluster, tmp_path: Path, name: str
) -> None:
    with pytest.raises(OptionError, match="give another name"):
        invite(cluster[1].folder, name, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a" * 65, "\u00e4" * 33, "ada\nmallory"])
def test_a_name_that_no_certificate_can_hold_is_refused_before_a_folder_is_made(
    cluster: Cluster, tmp_path: Path, name: str
) -> None:
    with pytest.raises(OptionError, match="1 to 64 bytes"):
        invite(cluster[1].folder, name, tmp_path / "new" / "ada")
    assert list(tmp_path.iterdir()) == []
    invite(cluster[1].folder, "a" * 64, tmp_path / "ada")


def address_of(cluster: Cluster) -> str:
    return str(json.loads(cluster[1].scheduler_file.read_text())["address"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda c, _: {"scheduler": address_of(c).replace("tls", "tcp")}, "insecure=True"),
        (lambda c, _: {"scheduler": address_of(c).replace("tls", "ws")}, "tls://"),
        (lambda c, _: {"scheduler": address_of(c)}, "needs keys"),
        (lambda c, p: {"scheduler": address_of(c), "security": p}, "is not there"),
        (lambda _, p: {"scheduler": p / "none.json"}, "a scheduler is an address"),
    ],
)
def test_connect_refuses_what_is_not_secured(
    cluster: Cluster, tmp_path: Path, how: Callable[[Cluster, Path], Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message), connect(**how(cluster, tmp_path)):
        pytest.fail("it connected")


def test_connect_refuses_a_plain_scheduler_file_and_a_key_that_others_can_read(
    cluster: Cluster, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.json"
    plain.write_text('{"address": "tcp://127.0.0.1:8786"}')
    with pytest.raises(OptionError, match="insecure=True"), connect(plain):
        pytest.fail("it connected")
    folder = invite(cluster[1].folder, "ada", tmp_path / "ada")
    (folder / "client-key.pem").chmod(0o644)
    with pytest.raises(OptionError, match="mode 644"), connect(folder):
        pytest.fail("it connected")


def test_an_invitation_to_a_run_that_has_ended_opens_no_other(
    cluster: Cluster, tmp_path: Path
) -> None:
    ended = tmp_path / "ended"
    ended.mkdir()
    make_keys(ended)
    # whatever comes after it may get its port
    shutil.copy(cluster[1].scheduler_file, ended)
    ada = invite(ended, "ada", tmp_path / "ada")
    shutil.rmtree(ended)
    before, joined = len(noted(cluster[1], "refused")), len(noted(cluster[1], "client joined"))
    for scheduler in (ada, address_of(cluster)):
        with pytest.raises(WorkerError, match="cannot connect.*keys are of another run"), connect(
            scheduler, security=ada, timeout=300
        ):  # fmt: skip
            pytest.fail("it connected")
    wait_until(lambda: len(noted(cluster[1], "refused")) >= before + 2, "both to be noted")
    assert len(noted(cluster[1], "client joined")) == joined


CONNECTED = """
import sys, time
from leptonhpc.cluster import connect
with connect(sys.argv[1]) as client:
    future = client.submit(pow, 2, 5, key="of-a-client-that-is-killed")
    future.result()
    print(client.id, flush=True)
    time.sleep(600)
"""


def test_nothing_of_a_client_is_left_after_its_sigkill_and_the_cluster_stays(
    cluster: Cluster,
) -> None:
    files = {path for path in cluster[1].folder.iterdir()}
    ports = listening(processes_of(cluster[1]))
    words = [sys.executable, "-c", CONNECTED, str(cluster[1].folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        name = killed.stdout.readline().strip()
        killed.kill()
    left = lambda: [e for e in noted(cluster[1], "client left") if e["client"] == name]  # noqa: E731
    wait_until(left, "the scheduler to see that it is gone")

    def held(dask_scheduler: Any) -> bool:
        return "of-a-client-that-is-killed" in dask_scheduler.tasks

    wait_until(lambda: not cluster[0].run_on_scheduler(held), "its results to be let go")
    assert {path for path in cluster[1].folder.iterdir()} == files
    assert listening(processes_of(cluster[1])) == ports
    assert cluster[0].submit(slow_square, 4, pure=False).result() == 16


def test_connect_waits_for_workers_and_says_how_many_came(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(address_of(cluster), security=cluster[1].folder, workers=2) as client:
        assert len(identities(client)) == 2
    real = connecting._connected  # the second is for the workers alone: the client gets its time
    monkeypatch.setattr(connecting, "_connected", lambda address, keys, _: real(address, keys, 300))
    with pytest.raises(WorkerError, match="2 came"), connect(
        cluster[1].folder, workers=3, timeout=1
    ):  # fmt: skip
        pytest.fail("three workers?")

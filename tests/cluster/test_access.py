"""Who may connect: by invitation, with keys, never in the clear; and it is written down."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leptonhpc.cluster import connect, invite
from leptonhpc.cluster.clients import identities
from leptonhpc.cluster.runs import Run
from leptonhpc.cluster.security import make_keys
from leptonhpc.errors import OptionError, OutputExistsError, WorkerError

from .conftest import noted, slow_square

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
    assert {e["name"] for e in noted(cluster[1], "worker joined")} == {"cpu-0", "gpu3-0"}


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


def test_connect_says_that_a_certificate_was_refused(cluster: Cluster, tmp_path: Path) -> None:
    make_keys(tmp_path)
    with pytest.raises(WorkerError, match="cannot connect"), connect(
        address_of(cluster), security=tmp_path, timeout=2
    ):  # fmt: skip
        pytest.fail("it connected")


def test_connect_waits_for_workers_and_says_how_many_came(cluster: Cluster) -> None:
    with connect(address_of(cluster), security=cluster[1].folder, workers=2) as client:
        assert len(identities(client)) == 2
    with pytest.raises(WorkerError, match="2 came"), connect(
        cluster[1].folder, workers=3, timeout=1
    ):  # fmt: skip
        pytest.fail("three workers?")

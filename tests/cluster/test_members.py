"""A worker that ends before it has joined is started again, and what it said is in the error."""

import asyncio
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Security
from distributed.comm import CommClosedError

from leptonhpc.cluster import Group, members
from leptonhpc.cluster.audit import Audit
from leptonhpc.cluster.guarded import GuardedNanny, GuardedScheduler, begin
from leptonhpc.cluster.launching import Launch, last_words
from leptonhpc.cluster.members import LocalMembers
from leptonhpc.cluster.runs import Run
from leptonhpc.errors import WorkerError


class Stub:
    """A nanny that starts as it is told, without a process."""

    made: list["Stub"]
    ends: list[Exception | None]

    def __init__(self, *_: object, name: str = "a-0", **__: object) -> None:
        self.name, self.gave_up, self.exit_code = name, False, -9
        self.made.append(self)

    def __await__(self) -> Generator[Any, None, "Stub"]:
        yield from asyncio.sleep(0).__await__()
        if (problem := self.ends.pop(0)) is not None:
            raise RuntimeError("GuardedNanny failed to start.") from problem
        return self

    async def close(self, timeout: float) -> None:
        """End."""


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    Stub.made, Stub.ends = [], []
    monkeypatch.setattr(members, "GuardedNanny", Stub)
    monkeypatch.setattr(members, "_LOOK_SECONDS", 0.001)
    return Stub


KILLED = RuntimeError("Nanny failed to start worker process")


def test_a_worker_that_dies_before_it_has_joined_is_started_again(stub: Any) -> None:
    stub.ends = [KILLED, OSError("no space"), None]
    assert asyncio.run(begin(stub)) is stub.made[2]


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([KILLED] * 3, "a-0 did not start: killed by signal 9"),
        ([KILLED, KILLED, OSError("no space")], "a-0 did not start: OSError: no space"),
    ],
)
def test_after_three_tries_the_error_has_what_the_worker_said(
    ends: list[Exception], message: str, stub: Any
) -> None:
    stub.ends = ends
    with pytest.raises(WorkerError, match=message):
        asyncio.run(begin(stub))
    assert len(stub.made) == 3


def test_a_worker_that_was_given_up_is_replaced_and_one_that_was_told_to_go_is_not(
    stub: Any, tmp_path: Path
) -> None:
    async def lose() -> list[str]:
        groups = (Group("a", workers=3),)
        scheduler = SimpleNamespace(address="tls://h:1", audit=None)
        ours = LocalMembers(Run(tmp_path), Launch("local", groups), scheduler, Security())
        stub.ends = [None, None, None, None, KILLED, KILLED, KILLED]
        await ours.start()
        tending = asyncio.create_task(ours.tend())
        stub.made[1].gave_up = True
        while stub.ends[1:]:  # the first comes again, the second does not
            if len(stub.made) == 4:
                stub.made[2].gave_up = True
            await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0.001)
        tending.cancel()
        await ours.close()
        return sorted(ours._nannies)

    assert asyncio.run(lose()) == ["a-0", "a-1"]
    assert [each.name for each in stub.made] == ["a-0", "a-1", "a-2", "a-1", *["a-2"] * 3]


METRICS = {
    "bandwidth": {"total": 1.0, "workers": {}, "types": {}},
    "spilled_bytes": {"memory": 0, "disk": 0}, "managed_bytes": 0, "transfer": {},
    "cpu": 0, "memory": 0, "time": 0.0, "event_loop_interval": 0.0,
    "digests_total_since_heartbeat": {},
}  # fmt: skip


def test_a_worker_that_dies_while_it_joins_is_not_counted() -> None:
    class Dead:
        peer_address, extra_info = "tcp://127.0.0.1:1", SimpleNamespace(get=lambda _: None)

        async def write(self, _: object) -> None:
            raise CommClosedError

    async def join() -> int:
        async with GuardedScheduler(
            audit=Audit(None), host="127.0.0.1", port=0, protocol="tcp", dashboard=False
        ) as scheduler:
            with pytest.raises(CommClosedError):
                await scheduler.add_worker(
                    Dead(), address="tcp://127.0.0.1:1", name="a-0", status="running", nthreads=1,
                    server_id="s", now=0.0, resources={}, memory_limit=0, services={}, nanny="",
                    metrics=METRICS, local_directory="", versions={},
                    extra={}, stimulus_id="s",
                )  # fmt: skip
            return len(scheduler.workers)

    assert asyncio.run(join()) == 0


@pytest.mark.parametrize(
    ("reason", "gave_up"),
    [("nanny-instantiate-failed", True), ("nanny-close-gracefully", False), ("nanny-close", False)],
)
def test_a_nanny_knows_whether_it_closed_by_itself(
    reason: str, gave_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_: object, **__: object) -> str:
        return "OK"

    monkeypatch.setattr("distributed.Nanny.close", closed)
    nanny: Any = object.__new__(GuardedNanny)
    nanny.gave_up = False
    assert asyncio.run(GuardedNanny.close(nanny, reason=reason)) == "OK"
    assert nanny.gave_up is gave_up


def test_the_last_words_of_a_cluster_are_those_of_its_jobs_too(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert last_words(run) == "nothing"
    run.log_file.write_text("INFO - begun\nWARNING - job 7 of worker a-0 is gone\nINFO - waiting\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "slurm-7.err").write_text(
        "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module 'leptonhpc'\n"
    )
    assert last_words(run) == (
        "WARNING - job 7 of worker a-0 is gone; "
        "slurm-7.err: ModuleNotFoundError: No module 'leptonhpc'"
    )

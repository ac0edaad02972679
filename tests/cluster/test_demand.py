"""How many jobs there are for the work there is: never fewer than stay, never more than may be."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.cluster import Group, Profile
from leptonhpc.cluster.connecting import _wait
from leptonhpc.cluster.demand import NAME, Demand, call_for, dispensable, missing, present
from leptonhpc.cluster.profiles import profile_from
from leptonhpc.cluster.starting import launch_of
from leptonhpc.errors import OptionError, WorkerError

CPU, GPU = Group("cpu", 3, least=1), Group("gpu", 2, least=0)


def test_groups_are_filled_in_their_order_and_lost_jobs_replaced() -> None:
    assert missing((CPU, GPU), (), 0) == ["cpu-0"]
    assert missing((CPU, GPU), (), 1) == ["cpu-0"]
    assert missing((CPU, GPU), ["cpu-0"], 4) == ["cpu-1", "cpu-2", "gpu-0"]
    assert missing((CPU, GPU), ["cpu-0", "cpu-2", "gpu-1"], 0) == []
    assert missing((CPU, GPU), ["cpu-0", "cpu-2", "gpu-1"], 9) == ["cpu-1", "gpu-0"]
    assert missing((Group("all", 2),), ["all-1"], 0) == ["all-0"]
    assert missing((CPU, GPU), ["cpu-0"], 4, given_up=["cpu-1"]) == ["cpu-2", "gpu-0", "gpu-1"]


def test_jobs_that_wait_are_given_back_before_workers() -> None:
    there = ["cpu-0", "cpu-1", "cpu-2", "gpu-1"]
    assert dispensable((CPU, GPU), there, ["cpu-1", "cpu-2", "gpu-1"]) == [
        "cpu-2", "cpu-0", "gpu-1"
    ]  # fmt: skip
    assert dispensable((Group("all", 2),), ["all-0", "all-1"], []) == []


groups = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 4)).filter(lambda p: p[1] <= p[0]),
    min_size=1,
    max_size=3,
).map(
    lambda sizes: tuple(Group(f"g{i}", most, least=least) for i, (most, least) in enumerate(sizes))
)


@given(groups, st.integers(0, 15), st.data())
def test_between_least_and_most_whatever_is_there(
    groups: tuple[Group, ...], wanted: int, data: st.DataObject
) -> None:
    names = [n for g in groups for n in g.worker_names]
    there = data.draw(st.sets(st.sampled_from(names)))
    started = missing(groups, there, wanted)
    assert not there & set(started)
    now = there | set(started)
    for group in groups:
        assert group.kept <= len(now & set(group.worker_names)) <= group.workers
    assert len(now) >= min(wanted, len(names))
    assert not started or len(now) == max(
        min(wanted, len(names)),
        len(there | set(missing(groups, there, 0))),
    )
    left = now - set(dispensable(groups, now, there))
    assert [len(left & set(g.worker_names)) for g in groups] == [g.kept for g in groups]
    assert missing(groups, left, 0) == []


@pytest.mark.parametrize("least", [-1, 4, True, "1", 1.0])
def test_least_is_a_number_up_to_the_most(least: object) -> None:
    with pytest.raises(OptionError, match="least is a number from 0 to workers=3"):
        Group("a", 3, least=least)  # type: ignore[arg-type]


def test_what_a_profile_says_of_work_is_taken_or_refused() -> None:
    table = {"kind": "slurm", "interface": "lo", "groups": {"a": {"workers": 8, "least": 2}}}
    assert profile_from(table).idle_seconds == 60
    profile = profile_from({**table, "idle_seconds": 5})
    assert (profile.idle_seconds, profile.groups[0].kept) == (5, 2)
    for bad in (0, -1, "5", True, float("nan")):
        with pytest.raises(OptionError, match="idle_seconds is a number above 0"):
            profile_from({**table, "idle_seconds": bad})
    with pytest.raises(OptionError, match="this is kind local"):
        launch_of(Profile("local", (GPU,)))


class OneClient:
    """A client of a scheduler that knows what is wanted, and no more."""

    id, status = "client-1", "running"

    def __init__(self, *groups: Group) -> None:
        worker = SimpleNamespace(processing=(), has_what=())
        self.scheduler: Any = SimpleNamespace(
            extensions={}, unrunnable=(), queued=(), workers={"a": worker}
        )
        self.demand = Demand(self.scheduler, groups)
        self.scheduler.identity = lambda n_workers: {
            "workers": {"a": {"status": "running"}}, NAME: self.demand.to_dict()
        }  # fmt: skip

    def sync(self, ask: Callable[..., Any], **options: Any) -> Any:
        return ask(**options)

    def run_on_scheduler(self, act: Callable[..., Any], **options: Any) -> None:
        asyncio.run(act(self.scheduler, **options))


def test_what_jobs_of_one_client_ask_for_is_added_up_and_each_takes_back_its_own() -> None:
    client = OneClient(CPU, GPU)
    assert call_for(client, 2)
    with ThreadPoolExecutor(1) as other:
        assert other.submit(call_for, client, 1).result()
        assert client.demand.workers() == 3
        other.submit(call_for, client, 0).result()
    assert client.demand.workers() == 2
    assert call_for(client, 1)  # in place of two
    assert client.demand.workers() == 1
    assert call_for(client, 0)
    assert client.demand.workers() == 0


def test_who_looks_for_the_first_worker_takes_nothing_back() -> None:
    client = OneClient(CPU, GPU)
    assert call_for(client, 3)
    assert list(present(client)) == ["a"]
    assert client.demand.workers() == 3
    assert call_for(client, 0)
    assert list(present(client)) == ["a"]
    assert client.demand.workers() == 1


def test_nobody_waits_for_workers_that_will_not_come() -> None:
    client: Any = OneClient(CPU, GPU)
    _wait(client, 1, timeout=0.0)
    with pytest.raises(WorkerError, match="5 workers were to come within 0 seconds; 1 came"):
        _wait(client, 5, timeout=0.0)
    client.demand.given_up.add("gpu-1")
    with pytest.raises(WorkerError, match="5 workers were to come; 1 came, and no more than 4 can"):
        _wait(client, 5, timeout=3600.0)

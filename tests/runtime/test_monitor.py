"""The facts of a job that runs: what each device does, how fast, and how long it takes still."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from leptonhpc.planning import Resources, Stage
from leptonhpc.planning.explain import explain
from leptonhpc.runtime import monitor as module
from leptonhpc.runtime.monitor import Monitor
from leptonhpc.testing.machines import stage_of


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def follow(*stages: Stage) -> Monitor:
    return Monitor(explain("svd", ["x"], stages, Resources(10**9, 1, 1), method="m", why="w"), "r")


def told(clock: Any, *, seconds: float = 1.0, read: int = 0, memory: int | None = None) -> Any:
    return {
        "seconds": seconds, "read_nbytes": read, "ended": clock.perf_counter(),
        "resident_nbytes": memory,
    }  # fmt: skip


def long_stage(tasks: int, seconds: float, name: str = "s") -> Stage:
    return replace(stage_of(*[1.0] * tasks, write_nbytes=50), seconds=seconds, name=name)


def test_what_is_left_follows_the_measured_speed(clock: Clock) -> None:
    first, second = long_stage(4, 8.0, "a"), long_stage(4, 12.0, "b")
    monitor = follow(first, second)
    assert monitor.left_seconds() == pytest.approx(20.0)
    monitor.begin(first, 0)
    assert monitor.left_seconds() == pytest.approx(20.0)  # nothing is known yet
    for task in first.tasks[:2]:
        clock.now += 6.0  # each was planned to take 2 s
        monitor.heard("d", 0, task, told(clock))
    # 4 s of the plan took 12; 16 s of it are left
    assert monitor.left_seconds() == pytest.approx(3 * 16.0)
    for task in first.tasks[2:]:
        monitor.heard("d", 0, task, told(clock))
    monitor.end(first, ran=True)
    assert monitor.left_seconds() == pytest.approx(12 / 8 * 12.0)
    monitor.end(second, ran=False)
    assert monitor.left_seconds() == 0.0


def test_stages_of_the_journal_say_nothing_of_speed(clock: Clock) -> None:
    first, second = long_stage(4, 8.0, "a"), long_stage(4, 12.0, "b")
    monitor = follow(first, second)
    clock.now += 1.0
    monitor.end(first, ran=False)
    assert monitor.left_seconds() == pytest.approx(12.0)
    monitor.begin(second, 3)
    clock.now += 6.0
    monitor.heard("d", 0, second.tasks[3], told(clock))
    assert monitor.left_seconds() == 0.0
    monitor.end(second, ran=True)


def test_a_stage_that_is_repeated_more_often_than_planned_still_has_something_left(
    clock: Clock,
) -> None:
    stage = long_stage(2, 4.0)
    monitor = follow(stage)
    monitor.begin(stage, 0)
    clock.now += 4.0
    for task in stage.tasks:
        monitor.heard("d", 0, task, told(clock))
    monitor.end(stage, ran=True)
    monitor.begin(stage, 0)
    assert monitor.left_seconds() == pytest.approx(4.0)


def test_shares_rates_and_memory_are_of_each_device(clock: Clock) -> None:
    stage = long_stage(4, 4.0)
    monitor = follow(stage)
    monitor.begin(stage, 0)
    for device, task in zip("aaab", stage.tasks, strict=True):
        monitor.sent(device, 0, task)
    assert monitor.facts()["devices"][0]["doing"] == "gemm t0"
    clock.now += 2.0
    for device, task in zip("aab", (*stage.tasks[:2], stage.tasks[3]), strict=True):
        monitor.heard(device, 0, task, told(clock, read=100, memory=7))
    facts = monitor.facts()
    a, b = facts["devices"]
    assert (facts["stage"], facts["tasks"], facts["done"]) == ("s", 4, 3)
    assert (a["share"], b["share"]) == pytest.approx((2 / 3, 1 / 3))
    assert (a["tasks"], a["busy_seconds"], a["busy_lanes"], b["busy_lanes"]) == (2, 2.0, 1, 0)
    assert (a["doing"], b["doing"]) == ("gemm t2", None)
    assert (a["read_bytes_per_second"], a["write_bytes_per_second"]) == pytest.approx((100, 50))
    assert (a["memory_nbytes"], a["read_nbytes"], a["write_nbytes"]) == (7, 200, 100)
    clock.now += 60.0  # what is past does not count
    assert monitor.facts()["devices"][0]["read_bytes_per_second"] == 0
    monitor.lost("a")
    assert monitor.facts()["devices"][0]["doing"] is None


def test_what_is_done_again_is_work_and_no_progress(clock: Clock) -> None:
    stage = long_stage(2, 4.0)
    monitor = follow(stage)
    monitor.begin(stage, 0)
    seen: list[int] = []
    monitor.on_task = lambda: seen.append(1)
    monitor.heard("a", 0, stage.tasks[0], told(clock))
    monitor.heard("b", 0, stage.tasks[0], told(clock), again=True)
    facts = monitor.facts()
    assert (facts["done"], len(seen)) == (1, 1)
    assert [device["tasks"] for device in facts["devices"]] == [1, 1]


def test_of_very_many_devices_a_hundred_are_told_of() -> None:
    stage = long_stage(300, 4.0)
    monitor = follow(stage)
    monitor.begin(stage, 0)
    for number, task in enumerate(stage.tasks):
        monitor.heard(f"d{number:03}", 0, task, told(time))
    facts = monitor.facts()
    assert facts["device_count"] == 300
    assert len(facts["devices"]) == 100

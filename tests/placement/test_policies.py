"""Placements take each item once, share by speed, and leave out who only delays."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.placement import POLICIES, Slowdown, place, simulate, work_of
from leptonhpc.placement.policies import without
from leptonhpc.testing import put
from leptonhpc.testing.machines import machine_of, stage_of

AMOUNTS = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=60)
SPEEDS = st.lists(st.floats(0.1, 50.0), min_size=1, max_size=8)


@pytest.mark.parametrize("policy", POLICIES)
@given(amounts=AMOUNTS, speeds=SPEEDS)
def test_each_item_is_placed_exactly_once(
    policy: str, amounts: list[float], speeds: list[float]
) -> None:
    work = work_of(stage_of(*amounts), machine_of(*speeds))
    placement = POLICIES[policy](work)
    numbers = [number for order in placement.order for number in order]
    assert sorted(numbers) == list(range(len(amounts)))


@given(amounts=AMOUNTS, speeds=SPEEDS)
def test_makespan_is_within_one_item_a_device_of_ideal(
    amounts: list[float], speeds: list[float]
) -> None:
    """The last item would end no earlier elsewhere: C sum(s) <= W + (m - 1) w_max."""
    placed = place(stage_of(*amounts), machine_of(*speeds), policy="heft")
    bound = (sum(amounts) + (len(speeds) - 1) * max(amounts)) / sum(speeds)
    assert placed.simulation.seconds <= bound * (1 + 1e-9)


@given(count=st.integers(1, 200), slow=st.floats(1.0, 200.0), fast=st.integers(1, 4))
def test_a_slow_device_never_makes_a_job_slower_than_without_it(
    count: int, slow: float, fast: int
) -> None:
    stage = stage_of(*[1.0] * count)
    with_it = place(stage, machine_of(*[1.0] * fast, 1.0 / slow))
    without_it = place(stage, machine_of(*[1.0] * fast))
    assert with_it.simulation.seconds <= 1.02 * without_it.simulation.seconds


def test_shares_are_in_proportion_to_speed() -> None:
    placed = place(stage_of(*[1.0] * 100), machine_of(4.0, 1.0), policy="weighted")
    shares = placed.shares()
    assert shares["d0"][0] == 80
    assert shares["d1"][0] == 20
    assert shares["d0"][1] == pytest.approx(0.8)


def test_a_device_that_only_delays_is_left_out_and_the_reason_is_given() -> None:
    placed = place(stage_of(*[1.0] * 4), machine_of(1.0, 0.02))
    assert placed.shares()["d1"][0] == 0
    assert "as fast without it" in placed.placement.left_out["d1"]
    assert placed.simulation.seconds == pytest.approx(4.0)


def test_like_devices_are_dealt_as_by_dask_and_nothing_else_is_tried() -> None:
    placed = place(stage_of(*[1.0] * 8), machine_of(1.0, 1.0))
    assert placed.placement.policy == "homogeneous"
    assert list(placed.considered) == ["homogeneous"]


def test_unlike_devices_are_not_dealt_alike() -> None:
    placed = place(stage_of(*[1.0] * 20), machine_of(4.0, 1.0))
    assert placed.placement.policy != "homogeneous"
    assert placed.considered["homogeneous"] == pytest.approx(10.0)
    assert placed.simulation.seconds == pytest.approx(4.0)


def test_items_stay_where_their_blocks_are() -> None:
    stage, machine = stage_of(*[1.0] * 8, read_nbytes=10**6), machine_of(1.0, 1.0)
    resident = {i: (i % 2, 10**9) for i in range(8)}
    work = work_of(stage, machine, resident=resident)
    placement = POLICIES["locality"](work)
    assert placement.owners() == {i: i % 2 for i in range(8)}
    moved = work.seconds(work.items[0], work.lanes[1]) - work.seconds(work.items[0], work.lanes[0])
    assert moved == pytest.approx(1.0)


def test_devices_without_the_memory_are_left_out() -> None:
    stage = replace(stage_of(1.0, 1.0), peak_nbytes=10**8)
    small = replace(machine_of(1.0).devices[0], name="small", memory_nbytes=10**7)
    machine = machine_of(1.0)
    placed = place(stage, replace(machine, devices=(*machine.devices, small)))
    assert placed.shares()["small"][0] == 0
    assert "0.01 GB" in placed.placement.left_out["small"]
    with pytest.raises(MemoryBudgetError, match="100000000 bytes"):
        place(stage, replace(machine, devices=(small,)))


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(OptionError, match="homogeneous, weighted"):
        place(stage_of(1.0), machine_of(1.0), policy="random")


def test_lanes_that_are_busy_get_less() -> None:
    stage, machine = stage_of(*[1.0] * 4), machine_of(1.0, 1.0)
    work = work_of(stage, machine, busy={(0, 0): 2.0})
    placement = POLICIES["weighted"](work)
    assert [len(order) for order in placement.order] == [1, 3]
    assert simulate(work, placement).seconds == pytest.approx(3.0)


def test_devices_that_were_seen_to_be_slower_get_less() -> None:
    stage, machine = stage_of(*[1.0] * 10), machine_of(1.0, 1.0)
    placement = POLICIES["weighted"](work_of(stage, machine, slowdown={1: Slowdown(4.0, 4.0, 4.0)}))
    assert [len(order) for order in placement.order] == [8, 2]


def test_leaving_out_keeps_the_reasons() -> None:
    work = without(work_of(stage_of(1.0), machine_of(1.0, 2.0)), [0], "it is late")
    assert [lane.device for lane in work.lanes] == [1]
    assert dict(work.left_out) == {"d0": "it is late"}


@pytest.mark.parametrize("driver", ["cholesky", "lu", "qr", "svd", "matmul", "solve"])
@pytest.mark.parametrize("policy", [None, *POLICIES])
def test_plans_of_drivers_are_placed_and_replayed_to_their_end(
    driver: str, policy: str | None, tmp_path: Any
) -> None:
    rng = np.random.default_rng(0)
    put(rng.standard_normal((700, 700)) + 40 * np.eye(700), tmp_path / "a", chunks=(64, 64))
    arrays = (tmp_path / "a",) * (2 if driver in ("matmul", "solve") else 1)
    options = {"rank": 3} if driver == "svd" else {}
    machine = machine_of(4.0, 1.0, 0.5, task_seconds=0.001)
    plan = lh.plan(driver, *arrays, memory="250 MB", machine=machine, policy=policy, **options)
    placed = plan.placement
    assert placed is not None
    for stage, found in placed.stages:
        spans = {span.task: span for span in found.simulation.spans}
        assert set(spans) == {task.key for task in stage.tasks}
        for task in stage.tasks:
            for need in task.needs:
                assert spans[need].end <= spans[task.key].start
    # the time that is said for the plan is that of the placed stages
    assert placed.seconds >= sum(p.simulation.seconds for _, p in placed.stages)
    assert sum(share for _, share, _ in placed.shares().values()) == pytest.approx(1.0)

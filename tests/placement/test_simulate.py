"""The simulator: lanes one after another, a store and a scheduler that are shared."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptonhpc.errors import OptionError
from leptonhpc.placement import Placement, simulate, work_of
from leptonhpc.placement.policies import homogeneous, weighted
from leptonhpc.planning import Stage, Task
from leptonhpc.planning.tasks import StepList
from leptonhpc.testing.machines import machine_of, stage_of


def test_a_lane_takes_the_sum_of_its_tasks() -> None:
    work = work_of(
        stage_of(1.0, 2.0, 3.0, read_nbytes=10**9, write_nbytes=2 * 10**9), machine_of(1.0)
    )
    result = simulate(work, homogeneous(work))
    assert result.seconds == pytest.approx(6.0 + 3 * 1.0 + 3 * 2.0)
    assert result.busy == pytest.approx((result.seconds,))
    assert [span.task for span in result.spans] == ["t0", "t1", "t2"]


def test_lanes_share_the_store() -> None:
    stage = stage_of(*[0.0] * 8, read_nbytes=10**9)
    alone = work_of(stage, machine_of(*[1.0] * 8))
    assert simulate(alone, homogeneous(alone)).seconds == pytest.approx(1.0)
    shared = work_of(stage, machine_of(*[1.0] * 8, store_read_bytes=2e9))
    result = simulate(shared, homogeneous(shared))
    assert result.seconds == pytest.approx(4.0)
    assert result.store_busy == pytest.approx(1.0)


def test_what_is_computed_while_others_read_does_not_slow_them() -> None:
    """Two lanes want 1 GB/s each of a store that gives 1: together, then one alone."""
    tasks = (
        Task("long", "gemm", StepList(), 0, flops=0.0, read_nbytes=2 * 10**9),
        Task("short", "gemm", StepList(), 1, flops=5e9, read_nbytes=10**9),
    )
    stage = Stage("s", tasks, 2, 1, 1, chained=False)
    work = work_of(stage, machine_of(1.0, 1.0, store_read_bytes=1e9))
    ends = {span.task: span.end for span in simulate(work, homogeneous(work)).spans}
    # half speed each until 2 s, when short has its 1 GB; then long reads its second GB alone
    assert ends["long"] == pytest.approx(3.0)
    assert ends["short"] == pytest.approx(2.0 + 5.0)


def test_the_scheduler_lets_tasks_begin_one_after_another() -> None:
    work = work_of(stage_of(*[0.001] * 1000), machine_of(*[1.0] * 100, task_seconds=0.01))
    result = simulate(work, homogeneous(work))
    assert result.seconds >= 1000 * 0.01
    assert result.scheduler_busy > 0.99


def test_a_device_that_overlaps_takes_the_longer_of_reading_and_computing() -> None:
    machine = machine_of(1.0)
    device = replace(machine.devices[0], kind="cuda", link_bytes=0.25e9, link_seconds=0.0)
    stage = stage_of(3.0, read_nbytes=10**9)
    work = work_of(stage, replace(machine, devices=(device,)))
    assert simulate(work, homogeneous(work)).seconds == pytest.approx(4.0)  # the link's


def test_tasks_wait_for_what_they_need() -> None:
    tasks = (
        Task("a", "gemm", StepList(), 0, flops=2e9),
        Task("b", "gemm", StepList(), 1, needs=("a",), flops=1e9),
    )
    stage = Stage("s", tasks, 2, 1, 1, chained=False)
    work = work_of(stage, machine_of(1.0, 1.0))
    spans = {span.task: span for span in simulate(work, homogeneous(work)).spans}
    assert spans["b"].start == pytest.approx(2.0)


def test_an_order_that_is_none_of_the_plan_is_an_error() -> None:
    tasks = (
        Task("a", "gemm", StepList(), 0, flops=1e9),
        Task("b", "gemm", StepList(), 0, needs=("a",), flops=1e9),
    )
    work = work_of(Stage("s", tasks, 1, 1, 1, chained=False), machine_of(1.0))
    with pytest.raises(OptionError, match="wait for one another"):
        simulate(work, Placement("by hand", work.lanes, ((1, 0),)))


@given(
    amounts=st.lists(st.floats(0.0, 10.0), min_size=1, max_size=40),
    speeds=st.lists(st.floats(0.2, 5.0), min_size=1, max_size=6),
    nbytes=st.integers(0, 10**9), store=st.floats(1e8, 1e10),
)  # fmt: skip
def test_no_replay_is_faster_than_its_limits(
    amounts: list[float], speeds: list[float], nbytes: int, store: float
) -> None:
    machine = machine_of(*speeds, store_read_bytes=store, task_seconds=0.001)
    work = work_of(stage_of(*amounts, read_nbytes=nbytes), machine)
    result = simulate(work, weighted(work))
    total = len(amounts) * nbytes
    assert len(result.spans) == len(amounts)
    assert result.seconds * (1 + 1e-9) >= sum(amounts) / sum(speeds)
    assert result.seconds * (1 + 1e-9) >= total / store
    assert result.seconds * (1 + 1e-9) >= len(amounts) * 0.001
    lanes: dict[int, float] = {}
    for span in sorted(result.spans, key=lambda s: s.start):
        assert span.start >= lanes.get(span.lane, 0.0) - 1e-9
        lanes[span.lane] = span.end

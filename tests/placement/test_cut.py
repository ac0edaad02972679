"""A slow device never makes a job slower than leaving it out, blocks cut for it included."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leptonhpc as lh
from leptonhpc.placement import Device, Machine, best_cut, place, place_job, simulate, work_of
from leptonhpc.placement.policies import weighted
from leptonhpc.planning import Rates, Stage, Task
from leptonhpc.planning.tasks import StepList
from leptonhpc.testing.machines import machine_of

WORKS: dict[str, tuple[tuple[tuple[int, int], ...], dict[str, Any]]] = {
    "svd": (((20_000, 512),), {"rank": 10}),
    "norm": (((100_000, 512),), {}),
    "matmul": (((3000, 3000), (3000, 3000)), {}),
    "cholesky": (((3000, 3000),), {}),
    "lu": (((2500, 2500),), {}),
    "qr": (((2000, 2000),), {}),
}


def slower(device: Device, factor: float, name: str) -> Device:
    """Give a device that takes so many times longer for all that it does."""
    beside = {"measured", "single_speedup", "half_size", "skinny_half", "tf32_speedup"}
    names = [f.name for f in fields(Rates) if f.name not in beside]
    rates = replace(device.rates, **{n: getattr(device.rates, n) / factor for n in names})
    return replace(device, name=name, rates=rates)


def machines(fast: int, slow: int, factor: float) -> tuple[Machine, Machine]:
    """Give a machine without and with some slow devices."""
    devices = tuple(Device(f"d{i}") for i in range(fast))
    more = tuple(slower(devices[0], factor, f"slow{i}") for i in range(slow))
    shared = {"start_seconds": 0.05, "lane_seconds": 0.003}
    return Machine(devices, **shared), Machine((*devices, *more), **shared)  # type: ignore[arg-type]


def inputs(shapes: tuple[tuple[int, int], ...]) -> list[Any]:
    return [np.broadcast_to(np.zeros(1), shape) for shape in shapes]


@pytest.mark.parametrize("fast", [1, 3])
@pytest.mark.parametrize("driver", WORKS)
def test_a_slow_device_never_makes_a_job_more_than_2_percent_slower(driver: str, fast: int) -> None:
    shapes, options = WORKS[driver]
    for slow, factor in ((1, 50.0), (3, 50.0), (1, 10.0), (1, 4.0)):
        without_it, with_it = machines(fast, slow, factor)
        seconds = []
        for machine in (without_it, with_it):
            plan = lh.plan(driver, *inputs(shapes), memory="1 GB", machine=machine, **options)  # type: ignore[arg-type]
            assert plan.placement is not None
            seconds.append(plan.placement.seconds)
        assert seconds[1] <= 1.02 * seconds[0], (slow, factor)


def test_what_is_cut_for_fewer_is_still_placed_on_all() -> None:
    _, machine = machines(1, 1, 10.0)
    plan = lh.plan("svd", *inputs(((20_000, 512),)), rank=10, memory="1 GB", machine=machine)
    assert plan.job.resources.workers == 1  # in blocks for two it takes longer
    assert plan.placement is not None
    assert set(plan.placement.shares()) == {"d0", "slow0"}
    large = lh.plan("norm", *inputs(((2_000_000, 512),)), memory="1 GB", machine=machine)
    assert large.job.resources.workers == 2  # passes are shared in any number of pieces


def test_a_cut_for_fewer_devices_is_not_asked_for_where_all_are_alike() -> None:
    asked = []
    machine, _ = machines(2, 0, 1.0)
    job = lh.plan("norm", *inputs(((1000, 64),)), memory="1 GB", machine=machine).job

    def build(resources: Any) -> Any:
        asked.append(resources.workers)
        return job

    best_cut(build, machine.resources(), machine)
    assert asked == [2]


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    """Give tasks of any sizes that read and write, some of which need others before them."""
    tasks: list[Task] = []
    for number in range(draw(st.integers(1, 40))):
        needs = tuple(t.key for t in tasks[-3:] if draw(st.integers(0, 5)) == 0)
        tasks.append(
            Task(
                f"t{number}", "gemm", StepList(), 0, needs=needs,
                flops=1e9 * draw(st.floats(0.01, 5.0)),
                read_nbytes=draw(st.integers(0, 10**9)), write_nbytes=draw(st.integers(0, 10**9)),
            )
        )  # fmt: skip
    return Stage("s", tuple(tasks), 1, 1, 1, chained=False)


@given(
    stage=stages(), slow=st.lists(st.floats(2.0, 200.0), min_size=1, max_size=3),
    fast=st.integers(1, 4), store=st.sampled_from([np.inf, 1.5e9]),
)  # fmt: skip
def test_no_stage_is_slower_with_slow_devices_than_without_or_than_dealt_alike(
    stage: Stage, slow: list[float], fast: int, store: float
) -> None:
    few = machine_of(*[1.0] * fast, store_read_bytes=store, task_seconds=0.001)
    more = tuple(slower(few.devices[0], f, f"slow{i}") for i, f in enumerate(slow))
    machine = replace(few, devices=(*few.devices, *more))
    with_them = place(stage, machine)
    seconds = with_them.simulation.seconds
    assert seconds <= 1.02 * place(stage, few).simulation.seconds
    alike = place(stage, machine, policy="homogeneous").simulation.seconds
    assert seconds <= (1 + 1e-8) * alike
    numbers = [number for order in with_them.placement.order for number in order]
    assert sorted(numbers) == list(range(len(stage.tasks)))
    assert place(stage, machine).placement == with_them.placement  # the same again


def test_what_is_in_the_memory_of_another_device_is_read_again_in_the_simulation() -> None:
    task = Task("t", "gemm", StepList(), 0, flops=1e9)
    stage, machine = Stage("s", (task,), 1, 1, 1, chained=False), machine_of(1.0, 1.0)
    for home, expected in ((0, 1.0), (1, 1.0 + 0.5)):
        work = work_of(stage, machine, resident={0: (home, 5 * 10**8)})
        assert simulate(work, weighted(replace(work, lanes=work.lanes[:1]))).seconds == (
            pytest.approx(expected)
        )


def test_lanes_need_time_beside_their_tasks_and_stages_beside_their_lanes() -> None:
    tasks = tuple(Task(f"t{i}", "gemm", StepList(), 0, flops=1e9) for i in range(4))
    stage = Stage("s", tasks, 1, 1, 1, chained=False, repeats=3)
    machine = replace(machine_of(1.0), lane_seconds=0.25, start_seconds=2.0)
    placed = place_job([stage], machine)
    assert placed.seconds == pytest.approx(3 * (2.0 + 4 * 1.25))


def test_what_a_kernel_does_to_all_numbers_beside_its_products_takes_time() -> None:
    machine = machine_of(1.0)
    rate = machine.devices[0].rates.sweep_flops
    for kernel, sweeps in (("gemm", 0), ("gram", 1), ("load", 5), ("load_hermitian", 6)):
        task = Task("t", kernel, StepList(), 0, read_nbytes=8 * 10**8)
        work = work_of(Stage("s", (task,), 1, 1, 1, chained=False), machine)
        took = work.task_seconds(task, work.lanes[0])
        assert took.compute == pytest.approx(sweeps * 4 * 10**8 / rate)


def test_the_time_beside_tasks_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "machine.toml"
    path.write_text('lane_seconds = 0.5\n[[device]]\nname = "a"\n')
    from leptonhpc.placement import read_machine

    assert read_machine(path).lane_seconds == 0.5


def test_a_slow_device_saves_more_than_its_answers_may_be_late() -> None:
    tasks = tuple(Task(f"t{i}", "gemm", StepList(), 0, flops=1e9) for i in range(24))
    stage = Stage("s", tasks, 1, 1, 1, chained=False)
    for start, count in ((0.5, 3), (1.5, 0)):  # it could save 3 s, and may be late 2 and 6
        placed = place(stage, replace(machine_of(1.0, 0.2), start_seconds=start))
        assert placed.shares()["d1"][0] == count
        assert placed.simulation.seconds == pytest.approx(24 - count)

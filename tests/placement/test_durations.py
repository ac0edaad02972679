"""What a task takes, counted by hand: sides of products, panels of factorisations, reflections."""

from dataclasses import replace
from typing import Any

import pytest

from leptonhpc.blocks import Region
from leptonhpc.placement import Slowdown, simulate, work_of
from leptonhpc.placement.policies import homogeneous
from leptonhpc.planning import Rates, Stage, Task
from leptonhpc.planning.tasks import Read, Step, StepList
from leptonhpc.testing.machines import machine_of

RATES = Rates(
    gemm_flops=1e9, potrf_flops=0.5e9, geqrf_flops=1e9 / 3, half_size=1e-9, read_bytes=1e30,
    write_bytes=1e30, sweep_flops=1e30,
)  # fmt: skip
"""Cholesky of order 1024 takes twice the time of its products, QR of 128 columns three times."""


def seconds(*tasks: Task, rates: Rates = RATES, dtype: str = "f8") -> list[float]:
    machine = machine_of(1.0)
    machine = replace(machine, devices=(replace(machine.devices[0], rates=rates),))
    work = work_of(Stage("s", tasks, 1, 1, 1, chained=False, dtype=dtype), machine)
    return [work.task_seconds(task, work.lanes[0]).compute for task in tasks]


def panel(kernel: str, at: Region, flops: float = 1.0) -> Task:
    return Task("t", kernel, StepList(), 0, at=at, flops=flops)


def product(kernel: str, at: Region, flops: float, *regions: Region) -> Task:
    reads = tuple(Read(f"x{i}", region) for i, region in enumerate(regions))
    return Task("t", kernel, StepList((Step(reads, at),)), 0, at=at, flops=flops)


@pytest.mark.parametrize(("width", "slower"), [(1024, 2.0), (512, 3.0), (4096, 1.25)])
def test_a_panel_of_cholesky_is_a_block_factored_and_what_is_below_solved_with(
    width: int, slower: float
) -> None:
    block, below = width**3 / 3, width**2 * 1000
    (took,) = seconds(panel("potrf", ((width, 2 * width + 1000), (width, 2 * width))))
    assert took == pytest.approx((slower * block + below) / 1e9)


@pytest.mark.parametrize(("kernel", "each"), [("geqrf", 2.0), ("getrf", 1.0)])
def test_a_panel_of_qr_and_lu_begins_at_its_diagonal(kernel: str, each: float) -> None:
    """512 columns: four times 128, so beside the products there are 2 / sqrt(4) of them."""
    first, later = (((0, 4096), (0, 512)), ((0, 4096), (2048, 2560)))
    expected = [each * 2 * 512**2 * (rows - 512 / 3) / 1e9 for rows in (4096, 2048)]
    assert seconds(panel(kernel, first), panel(kernel, later)) == pytest.approx(expected)


def test_what_a_panel_counts_beyond_its_own_flops_are_products() -> None:
    at = ((1024, 3072), (1024, 2048))
    own = 1024**3 / 3 + 1024**2 * 1024
    alone, with_updates = seconds(panel("potrf", at, own), panel("potrf", at, own + 5e9))
    assert with_updates - alone == pytest.approx(5.0)


def test_panels_of_complex_numbers_take_four_times_as_long() -> None:
    for kernel in ("potrf", "getrf", "geqrf"):
        task = panel(kernel, ((0, 2000), (0, 500)))
        assert seconds(task, dtype="c16")[0] == pytest.approx(4 * seconds(task)[0])


def test_products_are_as_slow_as_their_sides_are_short() -> None:
    """A cube of order 30 has half of the rate: each side of n takes 10 / n beside."""
    rates = replace(RATES, half_size=30.0)
    task = product("gemm", ((0, 300), (0, 150)), 1e9, ((0, 300), (0, 100)), ((0, 100), (0, 150)))
    update = product("update_potrf", ((0, 300), (0, 150)), 1e9, ((0, 300), (0, 100)))
    assert seconds(task, update, rates=rates) == pytest.approx([1.2, 1.2])


def test_reflections_take_the_products_of_their_reflectors_beside() -> None:
    at: Any = ((0, 4096), (512, 1024))
    both = [product(kernel, at, 8e9, ((0, 4096), (0, 512))) for kernel in
            ("update_geqrf", "update_getrf")]  # fmt: skip
    reflected, eliminated = seconds(*both)
    assert eliminated == pytest.approx(8.0)
    assert reflected == pytest.approx(8.0 * (1 + 256 / (4 * 512)))  # 256 at once


@pytest.mark.parametrize(("room", "share"), [(0, 0.0), (10**9, 0.5), (10**10, 1.0)])
def test_what_is_kept_comes_to_memory_that_must_be_cleared(room: int, share: float) -> None:
    read = Read("a", ((0, 1000), (0, 1000)), keep=True)
    task = Task("t", "normal", StepList((Step((read,), read.region),)), 0, read_nbytes=10**9)
    machine = machine_of(1.0)
    rates = replace(RATES, read_bytes=2e9, fresh_bytes=0.5e9)
    machine = replace(machine, devices=(replace(machine.devices[0], rates=rates),))
    tasks = (task, replace(task, key="u"))
    work = work_of(Stage("s", tasks, 1, 1, 1, resident_nbytes=room), machine)
    took = work.task_seconds(task, work.lanes[0])
    assert took.fresh == pytest.approx(2 * share)
    assert took.total(overlaps=False) == pytest.approx(0.5 + 2 * share)
    # a worker that was seen to read at half its rate gets memory no slower
    slow = replace(work, slowdown={0: Slowdown(read=2.0)}).task_seconds(task, work.lanes[0])
    assert slow.total(overlaps=False) == pytest.approx(1.0 + 2 * share)
    assert simulate(work, homogeneous(work)).seconds == pytest.approx(2 * (0.5 + 2 * share))
    # an accelerator keeps it in its own memory
    device = replace(machine.devices[0], kind="cuda")
    apart = work_of(work.stage, replace(machine, devices=(device,)))
    assert simulate(apart, homogeneous(apart)).seconds == pytest.approx(2 * 0.5)

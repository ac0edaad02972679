"""Machines are read from files, checked, and seen as resources."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import OptionError
from leptonhpc.placement import Device, Machine, place, read_machine
from leptonhpc.planning import Rates
from leptonhpc.planning.costs import rate_of

GOOD = """
store_read_bytes = "20 GB"
task_seconds = 0.0005

[[device]]
name = "gpu"
kind = "cuda"
count = 8
memory = "80 GB"
gemm_flops = 5e13
link_bytes = "50 GB"

[[device]]
name = "cpu"
cores = 64
memory = 256e9
"""


def test_a_machine_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(GOOD)
    machine = read_machine(path)
    assert [d.name for d in machine.devices] == [*(f"gpu-{i}" for i in range(8)), "cpu"]
    gpu, cpu = machine.devices[0], machine.devices[-1]
    assert (gpu.kind, gpu.memory_nbytes, gpu.link_bytes) == ("cuda", 80 * 10**9, 50e9)
    assert gpu.rates.gemm_flops == 5e13
    assert gpu.overlaps
    assert not cpu.overlaps
    assert (cpu.cores, cpu.memory_nbytes, cpu.link_bytes) == (64, 256 * 10**9, math.inf)
    assert machine.store_read_bytes == 20e9
    assert machine.store_write_bytes == math.inf
    assert "store_write_bytes" not in machine.to_dict()
    assert machine.to_dict()["devices"][0]["link_bytes"] == 50e9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one device"),
        ("x = ", "TOML"),
        ("speed = 1\n[[device]]\nname='a'", "has no 'speed'"),
        ("device = 3", "tables"),
        ("[[device]]", "has a name"),
        ("[[device]]\nname = 3", "has a name"),
        ("[[device]]\nname = ' '", "has a name"),
        ('[[device]]\nname = "a\\u0001"', "has a name"),
        ("[[device]]\nname='a'\nkind='gpu-card'", "kind of 'a' is one of 'host'"),
        ("[[device]]\nname='a'\nkind='no_such_kind'", "kind of 'a' is one of 'host'"),
        ("[[device]]\nname='a'\nkind=3", "kind of 'a' is one of 'host'"),
        ("[[device]]\nname='a'\nkind='cuda'\ncores=4", "has one lane"),
        ("[[device]]\nname='a'\nlink_bytes=1e9", "has no link"),
        ("[[device]]\nname='a'\ntf32=true", "no TF32"),
        ("[[device]]\nname='a'\nkind='cuda'\ntf32='yes'", "tf32 of 'a'"),
        ("[[device]]\nname='a'\nmemory=0", "memory of 'a'"),
        ("[[device]]\nname='a'\nmemory=nan", "memory of 'a'"),
        ("[[device]]\nname='a'\ngemm_flops=40", "gemm_flops of 'a' is in flops or bytes"),
        ("[[device]]\nname='a'\ngemm_flops='40 GB'", "gemm_flops is a number"),
        (f"[[device]]\nname='a'\ngemm_flops=1{'0' * 400}", "gemm_flops of 'a' is positive"),
        ("[[device]]\nname='a'\ncount=2\n[[device]]\nname='a-1'", "twice"),
        ("task_seconds='1 GB'\n[[device]]\nname='a'", "task_seconds is a number"),
        ("[[device]]\nname='a'\nflops=1", "has no 'flops'"),
        ("[[device]]\nname='a'\ncores=0", "whole number"),
        ("[[device]]\nname='a'\ncores=true", "whole number"),
        ("[[device]]\nname='a'\ncount=1e9", "whole number"),
        ("[[device]]\nname='a'\nmemory='lots'", "memory of 'a'"),
        ("[[device]]\nname='a'\nmemory=-1", "memory of 'a'"),
        ("[[device]]\nname='a'\ngemm_flops=-1", "gemm_flops of 'a' is positive"),
        ("[[device]]\nname='a'\ngemm_flops=nan", "gemm_flops of 'a' is positive"),
        ("[[device]]\nname='a'\ngemm_flops='fast'", "gemm_flops"),
        ("[[device]]\nname='a'\nkind='cuda'\nlink_bytes=0", "link of 'a'"),
        ("[[device]]\nname='a'\nkind='cuda'\nlink_seconds=-1", "link of 'a'"),
        ("[[device]]\nname='a'\n[[device]]\nname='a'", "twice"),
        ("store_read_bytes=0\n[[device]]\nname='a'", "store_read_bytes is positive"),
        ("task_seconds=-1\n[[device]]\nname='a'", "task_seconds"),
        ("task_seconds=inf\n[[device]]\nname='a'", "task_seconds"),
    ],
)
def test_nonsense_in_a_file_is_refused_with_its_name(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(OptionError, match=message) as caught:
        read_machine(path)
    assert str(path) in str(caught.value)


def test_flops_that_a_file_does_not_give_go_with_those_of_gemm(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("[[device]]\nname='a'\ngemm_flops=10e9\nsyrk_flops=3e9")
    rates, default = read_machine(path).devices[0].rates, Rates()
    assert (rates.gemm_flops, rates.syrk_flops) == (10e9, 3e9)
    assert rates.potrf_flops == pytest.approx(default.potrf_flops / 4)
    assert rates.read_bytes == default.read_bytes


@pytest.mark.parametrize("wrong", [{"memory_nbytes": math.nan}, {"cores": 1.5}, {"cores": 0}])
def test_devices_have_whole_cores_and_bytes(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(wrong))} of 'a' is a whole number"):
        Machine((Device("a", **wrong),))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="none.toml"):
        read_machine(tmp_path / "none.toml")


def test_resources_are_those_of_the_smallest_device_and_name_unlike_speeds() -> None:
    fast = Device("fast", cores=4, memory_nbytes=8 * 10**9)
    slow = Device("slow", cores=2, memory_nbytes=4 * 10**9)
    like = Machine((fast, Device("other", cores=4, memory_nbytes=8 * 10**9))).resources()
    assert (like.workers, like.threads, like.memory_nbytes) == (2, 4, 8 * 10**9)
    assert like.speeds == ()
    unlike = Machine((fast, slow)).resources()
    assert (unlike.threads, unlike.memory_nbytes) == (2, 4 * 10**9)
    assert unlike.speeds[0] == 2 * unlike.speeds[1]
    assert unlike.parts > 12


def test_devices_that_add_little_are_not_planned_for() -> None:
    fast = Device("fast", cores=10, memory_nbytes=8 * 10**9)
    slow = [Device(f"slow{i}", cores=1, memory_nbytes=10**9) for i in range(5)]
    assert Machine((fast, slow[0])).worthwhile().devices == (fast, slow[0])  # a tenth more
    tiny = replace(slow[0], rates=replace(Rates(), gemm_flops=1e9))
    alone = Machine((fast, tiny))
    assert alone.worthwhile().devices == (fast,)
    resources = alone.resources()
    assert (resources.workers, resources.threads, resources.speeds) == (1, 10, ())
    many = tuple(replace(tiny, name=f"t{i}") for i in range(1000))
    assert len(Machine((fast, *many)).worthwhile().devices) > 900  # together they count


def test_rates_grow_with_the_size_of_blocks_and_with_single_precision() -> None:
    rates = Rates(gemm_flops=1e11, half_size=100.0, single_speedup=3.0)
    assert rates.of("gemm_flops", "f8") == 1e11
    assert rates.of("gemm_flops", "f8", 100) == 5e10
    assert rates.of("gemm_flops", "f4") == 3e11
    assert rates.of("gemm_flops", "F") == 3e11
    assert rates.of("gemm_flops", "D") == 1e11


def test_skinny_products_read_as_much_for_few_columns_as_for_many() -> None:
    rates = Rates(skinny_flops=20e9, skinny_half=32.0, single_speedup=2.0)
    assert rates.of("skinny_flops", "f8", 32) == rates.of("skinny_flops", "f8") == 20e9
    # r w / (w + 32), 20 GFLOP/s with 32: 40 with very many
    assert rates.of("skinny_flops", "f8", 96) == pytest.approx(30e9)
    assert rates.of("skinny_flops", "f4", 8) == pytest.approx(16e9)
    sweeping = replace(rates, sweep_flops=1e9)
    assert sweeping.of(rate_of("norms"), "f4", 1000) == 1e9  # in double, whatever the dtype


def test_a_pass_with_few_columns_is_predicted_to_be_slower_a_flop() -> None:
    x = np.broadcast_to(np.zeros(1), (100_000, 1000))

    def predicted(width: int) -> tuple[float, float]:
        plan = lh.plan(
            "svd", x, rank=width - 12, method="krylov", memory="1 GB",
            machine=Machine((Device("d", rates=Rates(read_bytes=1e15, write_bytes=1e15)),)),
        )  # fmt: skip
        again = next(s for s in plan.job.explanation.planned if s.name == "pass again")
        assert again.width == width
        placed = place(again, plan.machine).simulation.seconds
        return again.seconds / again.flops, placed / again.flops

    rates = Rates()
    expected = 1 / rates.of("skinny_flops", "f8", 16), 1 / rates.of("skinny_flops", "f8", 64)
    few, many = predicted(16), predicted(64)
    assert few == pytest.approx([expected[0]] * 2, rel=0.02)
    assert many == pytest.approx([expected[1]] * 2, rel=0.02)
    assert few[0] > 1.5 * many[0]


def test_a_machine_is_faster_in_tf32_where_it_has_it() -> None:
    rates = Rates(single_speedup=2.0, tf32_speedup=16.0)
    machine = Machine((Device("gpu", "cuda", rates=rates, tf32=True), Device("cpu", rates=rates)))
    rounded = machine.with_tf32()
    assert [d.rates.of("gemm_flops", "f4") for d in rounded.devices] == [
        16 * rates.gemm_flops, 2 * rates.gemm_flops
    ]  # fmt: skip
    assert machine.resources().tf32_workers == 1

"""What was measured is kept for the device and the libraries that it was measured with."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import leptonhpc as lh
from leptonhpc.cli.app import app
from leptonhpc.placement import Machine
from leptonhpc.runtime.probe import here, measure

probing = sys.modules["leptonhpc.runtime.probe"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let measurements be short, and nothing be known."""
    monkeypatch.setattr(probing, "_SECONDS", 0.001)
    monkeypatch.setattr(probing, "_here", {})
    monkeypatch.setenv("LEPTONHPC_CACHE", str(tmp_path))
    probing._versions.cache_clear()
    return tmp_path


@pytest.mark.parametrize("kind", ["host", "leptonhpc.testing.strict_device"])
def test_another_process_finds_what_was_measured_here(
    kind: str, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEPTONHPC_DEVICE", kind)
    assert not here().rates.measured
    device = measure(save=True)
    monkeypatch.setattr(probing, "_here", {})  # as in another process
    again = here()
    assert again.rates == device.rates
    assert (again.link_bytes, again.link_seconds) == (device.link_bytes, device.link_seconds)
    monkeypatch.setattr(lh, "probe", lambda **_: Machine((device,)))
    table = CliRunner().invoke(app, ["probe"]).output
    assert ("GB/s in and out" in table) == device.overlaps


def test_plans_predict_by_what_was_measured_and_say_so(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.ones((20_000, 1_000))
    assert "(default rates; `leptonhpc probe`)" in lh.plan("svd", x, memory="1 GB").explain()
    device = measure(save=True)
    monkeypatch.setattr(probing, "_here", {})  # as in another process
    fast = lh.plan("svd", x, memory="1 GB")
    assert "(measured rates)" in fast.explain()
    per_second = {
        name: rate / 8
        for name, rate in device.rates.to_dict().items()
        if name.endswith(("_flops", "_bytes"))
    }
    slower = replace(device, rates=replace(device.rates, **per_second))
    monkeypatch.setattr(probing, "_here", {"host": slower})
    slow = lh.plan("svd", x, memory="1 GB").explanation
    work = sum(stage.seconds for stage in fast.explanation.planned)
    assert sum(stage.seconds for stage in slow.planned) == pytest.approx(8 * work, rel=0.01)
    assert slow.seconds > fast.explanation.seconds


@pytest.mark.parametrize("changed", ["numpy", "zarr", "device"])
def test_rates_of_other_libraries_or_another_device_are_not_taken(
    changed: str, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(save=True)
    monkeypatch.setattr(probing, "_here", {})
    assert here().rates.measured
    version = metadata.version

    def newer(name: str) -> Any:
        return "99.0" if name == changed else version(name)

    monkeypatch.setattr(metadata, "version", newer)
    probing._versions.cache_clear()
    if changed == "device":
        monkeypatch.setenv("LEPTONHPC_DEVICE", "leptonhpc.testing.strict_device")
    assert not here().rates.measured
    measure(save=True)
    assert len(list(quick.iterdir())) == 2


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    yield
    probing._versions.cache_clear()


def test_who_is_stopped_now_and_then_is_as_much_slower_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall, ran = [0.0], [0.0]
    clocks = SimpleNamespace(perf_counter=lambda: wall[0], thread_time=lambda: ran[0])
    monkeypatch.setattr(probing, "time", clocks)

    def stopping(every: int) -> Callable[[], None]:
        calls = itertools.count(1)

        def work() -> None:
            ran[0] += 0.01
            wall[0] += 0.01 + (3.0 if next(calls) % every == 0 else 0.0)

        return work

    rate = probing._Rate(on_host=True)
    # of 0.25 s each: one never stopped, one that stands still for 3 s of it
    assert rate(stopping(1000), 1.0, seconds=0.25) == pytest.approx(100.0)
    assert rate(stopping(10), 1.0, seconds=0.25) == pytest.approx(100.0)
    assert rate.share == pytest.approx(0.34 / 3.34, rel=0.1)
    device = probing._Rate(on_host=False)
    waiting = device(lambda: wall.__setitem__(0, wall[0] + 0.5), 1.0, seconds=2.0)
    assert waiting == pytest.approx(2.0)
    assert device.share == 1.0


_ONE_CORE = """
import sys
import leptonhpc.runtime.probe
from threadpoolctl import threadpool_info

probing = sys.modules["leptonhpc.runtime.probe"]
probing._SECONDS, measured = 0.001, probing._geqrf_rate

def seen(*arguments):
    print([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
    return measured(*arguments)

probing._geqrf_rate = seen
probing.measure(save=False)
"""


def test_rates_of_a_core_are_measured_on_one_core() -> None:
    done = subprocess.run(  # a process that has not used SciPy yet
        [sys.executable, "-c", _ONE_CORE], env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) <= {"[1]", "[1,", "1]", "1,"}, done.stdout


@pytest.mark.parametrize(("cold", "rate"), [(0, 16e9), (4, 16e9), (20, 0.5e9)])
def test_fresh_memory_is_as_fast_as_its_slowest_tenth(
    cold: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces, nbytes = 64, 1 << 16
    took = (nbytes / (0.5e9 if i < cold else 16e9) for i in range(pieces))
    clock = itertools.accumulate(itertools.chain.from_iterable((0.0, each) for each in took))
    monkeypatch.setattr(probing, "time", SimpleNamespace(thread_time=lambda: next(clock)))
    monkeypatch.setattr(probing, "_PIECE_NBYTES", nbytes)
    monkeypatch.setattr(probing.memory, "free_nbytes", lambda: 8 * pieces * nbytes)
    assert probing._fresh_rate() == pytest.approx(rate)


def test_a_copy_takes_seconds_of_its_own_beside_those_of_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall = [0.0]
    monkeypatch.setattr(
        probing, "time", SimpleNamespace(perf_counter=lambda: wall[0], thread_time=float)
    )

    def copy(array: Any) -> Any:  # at 1 GB/s, and 20 microseconds before the first byte
        wall[0] += 20e-6 + array.nbytes / 1e9
        return array

    link_bytes, link_seconds = probing._link(SimpleNamespace(put=copy, get=copy))
    assert link_bytes == pytest.approx(1e9)
    assert link_seconds == pytest.approx(20e-6)

"""Energy: what the kernel's counters say, also when they begin anew."""

import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest
from distributed import Client

import leptonhpc as lh
from leptonhpc.runtime import energy
from leptonhpc.runtime.energy import Meter

TURN_UJ = 262_143_328_850


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Give a folder as the kernel has it on a machine with two packages."""
    for folder, name in (
        ("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys"),
    ):  # fmt: skip
        place = tmp_path / folder
        place.mkdir()
        (place / "name").write_text(f"{name}\n")
        (place / "max_energy_range_uj").write_text(f"{TURN_UJ}\n")
        (place / "energy_uj").write_text("1000000\n")
    return tmp_path


def by_sensor(joules: dict[str, float]) -> dict[str, float]:
    return {name.split(" ", 1)[1]: value for name, value in joules.items()}


def test_packages_and_memory_are_counted_once_each(powercap: Path) -> None:
    meter = Meter("host", powercap)
    for folder, counted in (("0", 3_000_000), ("0:0", 9_000_000), ("0:1", 1_500_000)):
        (powercap / f"intel-rapl:{folder}" / "energy_uj").write_text(f"{counted}\n")
    # differences of counters below 2^53 uJ are exact, their scaling is not
    assert by_sensor(meter.end()) == pytest.approx(
        {"package-0": 2.0, "dram-0": 0.5, "package-1": 0.0}, rel=1e-12
    )


def test_a_counter_that_began_anew_is_followed(powercap: Path) -> None:
    counter = powercap / "intel-rapl:0" / "energy_uj"
    counter.write_text(f"{TURN_UJ - 1_000_000}\n")
    meter = Meter("host", powercap)
    for value in (TURN_UJ - 500_000, 250_000, 4_000_000):
        counter.write_text(f"{value}\n")
        meter.joules()
    # sums of numbers near 2.6e5 J: eps 2.6e5 = 6e-11
    assert by_sensor(meter.end())["package-0"] == pytest.approx(5.0, abs=1e-9)


@pytest.mark.parametrize("device", ["cuda", "cuda-tf32"])
@pytest.mark.parametrize(("visible", "gpu"), [("3,1", "GPU-3"), ("GPU-ab", "GPU-ab")])
def test_a_gpus_millijoules_are_those_of_the_first_that_is_seen(
    device: str, visible: str, gpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {gpu: 7_000_000, "GPU-0": 1}
    double = ModuleType("pynvml")
    double.__dict__.update(
        NVMLError=OSError, nvmlInit=lambda: None, nvmlDeviceGetUUID=str,
        nvmlDeviceGetHandleByIndex="GPU-{}".format, nvmlDeviceGetHandleByUUID=str,
        nvmlDeviceGetTotalEnergyConsumption=counted.__getitem__,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", double)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = Meter(device, tmp_path)
    for value in (7_002_000, 500):  # the second: its driver was loaded anew
        counted[gpu] = value
        meter.joules()
    # a counter of 7e3 J: eps 7e3 = 2e-12
    assert by_sensor(meter.end()) == pytest.approx({f"GPU {gpu}": 2.5}, abs=1e-11)
    assert Meter("host", tmp_path).end() == {}


def test_where_nothing_can_be_read_nothing_is_measured(tmp_path: Path, powercap: Path) -> None:
    assert Meter("host", tmp_path / "none").end() == {}
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    meter = Meter("host", powercap)
    assert by_sensor(meter.end()).keys() == {"dram-0", "package-1"}


def test_a_job_is_measured_from_its_beginning_to_its_end(
    powercap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter.__init__, "__defaults__", (powercap,))
    energy.begin("job", "host")
    (powercap / "intel-rapl:1" / "energy_uj").write_text("8000000\n")
    energy.begin("job", "host")  # workers are asked again when others join
    assert by_sensor(energy.end("job"))["package-1"] == pytest.approx(7.0, rel=1e-12)
    assert energy.end("job") == {}


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name == "leptonhpc-energy"}


def test_a_worker_that_is_asked_again_starts_no_second_thread(
    powercap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Meter.__init__, "__defaults__", (powercap,))
    before = threads()  # of which some may be about to end
    for _ in range(3):
        energy.begin("again", "host")
    assert len(threads() - before) == 1
    energy.end("again")


def test_a_sensor_that_fails_is_left_out_and_ends_no_job(powercap: Path) -> None:
    meter = Meter("host", powercap)
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    (powercap / "intel-rapl:0:1" / "energy_uj").write_text("gone")
    assert by_sensor(meter.end()) == {"package-1": 0.0}


def test_parts_on_a_cluster_leave_no_meter_on_its_workers(client: Client) -> None:
    assert sum(lh.parallel.parallel_process(abs, range(4))) == 6
    assert set(client.run(lambda: len(energy._meters)).values()) == {0}

"""A job on a machine is shown before it runs: who does how much, when, and who does nothing."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import MemoryBudgetError, OptionError
from leptonhpc.placement import Device, Machine, place_job
from leptonhpc.testing import put
from leptonhpc.testing.machines import machine_of, stage_of

SVG = "{http://www.w3.org/2000/svg}"


def placed_on(*speeds: float, **shared: float) -> Any:
    return place_job([stage_of(*[1.0] * 10)], machine_of(*speeds, **shared))


def test_words_html_and_json_say_who_does_how_much_and_why_another_does_nothing() -> None:
    job = placed_on(4.0, 1.0, 0.001)
    assert job.shares()["d0"] == (8, pytest.approx(0.8), pytest.approx(2.0))
    assert job.shares()["d1"] == (2, pytest.approx(0.2), pytest.approx(2.0))
    why = job.left_out()
    assert list(why) == ["d2"]
    for text in (str(job), job._repr_html_()):
        assert "about 2 s" in text
        assert "80.0%" in text
        assert f"not on d2: {why['d2']}" in text
    told = json.loads(json.dumps(job.to_dict()))
    assert [(d["name"], d["tasks"]) for d in told["devices"]] == [("d0", 8), ("d1", 2), ("d2", 0)]
    assert told["left_out"] == why
    assert told["stages"][0]["considered"]["homogeneous"] > 1000  # as many for each


def test_the_timeline_has_a_row_for_each_device_as_long_as_it_works() -> None:
    job = placed_on(4.0, 1.0)
    drawing = ElementTree.fromstring(job.svg())
    rows: dict[float, float] = {}
    for bar in drawing.iter(f"{SVG}rect"):
        if bar.find(f"{SVG}title") is not None:  # else it is of the legend
            y = float(bar.attrib["y"])
            rows[y] = rows.get(y, 0.0) + float(bar.attrib["width"])
    assert len(rows) == 2
    # both are busy from the beginning to the end
    assert list(rows.values()) == [pytest.approx(max(rows.values()), rel=0.01)] * 2
    texts = {text.text for text in drawing.iter(f"{SVG}text")}
    assert {"d0", "d1", "s", "2 s"} <= texts
    why = "not on d2: the job is as fast without it"
    assert why in placed_on(4.0, 1.0, 0.001).svg()
    assert why not in job.svg()


def test_names_of_devices_are_text_and_not_html() -> None:
    machine = machine_of(1.0, 0.001)
    devices = tuple(replace(d, name=f"<b>{d.name}</b>") for d in machine.devices)
    job = place_job([stage_of(1.0)], replace(machine, devices=devices))
    assert job.left_out()
    assert "<b>" not in job._repr_html_()


def test_what_is_in_the_way_is_said() -> None:
    assert "the scheduler is busy for 100% of it" in str(placed_on(1e3, 1e3, task_seconds=0.5))
    reading = place_job(
        [stage_of(*[0.0] * 8, read_nbytes=10**9)], machine_of(1.0, 1.0, store_read_bytes=1e8)
    )
    assert "devices wait for the store in 100% of it" in str(reading)
    assert "busy for" not in str(placed_on(1.0, 1.0))


def test_a_plan_for_a_machine_draws_its_timeline_and_one_for_this_process_has_none(
    tmp_path: Path,
) -> None:
    put(np.ones((400, 30)), tmp_path / "x", chunks=(50, 30))
    machine = machine_of(1.0, 0.5)
    plan = lh.plan("svd", tmp_path / "x", rank=2, memory="250 MB", machine=machine)
    assert "placed     on 2 devices" in plan.explain()
    assert ElementTree.fromstring(plan.timeline()).tag.endswith("svg")
    assert re.search("<svg.*</svg>", plan._repr_html_())
    here = lh.plan("svd", tmp_path / "x", rank=2, memory="250 MB")
    with pytest.raises(OptionError, match="connect to a cluster, or give machine="):
        here.timeline()


def test_a_plan_for_a_machine_is_not_run(tmp_path: Path) -> None:
    put(np.ones((400, 30)), tmp_path / "x", chunks=(50, 30))
    plan = lh.plan("norm", tmp_path / "x", memory="250 MB", machine=machine_of(1.0))
    with pytest.raises(OptionError, match="plan without machine="):
        plan.run()


def test_more_memory_than_any_device_has_is_refused_when_planned() -> None:
    machine = Machine((Device("large", memory_nbytes=10**9), Device("d", memory_nbytes=10**8)))
    x = np.broadcast_to(0.0, (5000, 50))
    with pytest.raises(MemoryBudgetError, match="more than any device has: at most 1000000000"):
        lh.plan("svd", x, rank=2, memory="2 GB", machine=machine)
    plan = lh.plan("svd", x, rank=2, memory="1 GB", machine=machine)
    assert plan.placement is not None

"""What the README shows is what the package says."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import zarr

import leptonhpc as lh

README = Path(__file__).parents[2] / "README.md"


def test_the_plan_that_the_readme_shows_is_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probing = import_module("leptonhpc.runtime.probe")
    monkeypatch.setattr(probing, "_here", {})
    monkeypatch.setattr(probing, "usable_cores", lambda: 2)
    monkeypatch.setenv("LEPTONHPC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LEPTONHPC_DEVICE", raising=False)
    monkeypatch.chdir(tmp_path)
    zarr.create_array(
        "sst.zarr", shape=(1_000_000, 2048), chunks=(4096, 2048), dtype="f4", compressors=None
    )
    text = README.read_text()
    call, shown = re.search(r"`lh\.(plan\(.*?\))` reads.*?```text\n(.*?)```", text, re.S).groups()  # type: ignore[union-attr]
    assert eval(f"lh.{call}", {"lh": lh}).explain() == shown.rstrip()

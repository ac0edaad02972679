"""Profiles say all of a cluster, and nothing that is not understood."""

from pathlib import Path
from typing import Any

import pytest

from leptonhpc.cluster import Group, Profile, load_profile, slurm
from leptonhpc.cluster.profiles import PROFILES, profile_from
from leptonhpc.errors import OptionError

WORKFLOWS = Path(__file__).parents[2] / "workflows"
GROUPS: dict[str, Any] = {"groups": {"a": {}}}


def test_the_template_of_the_workflow_has_two_groups() -> None:
    profile = load_profile(WORKFLOWS / "slurm" / "profile.toml")
    assert profile.kind == "slurm"
    assert profile.interface == "ib0"
    cpu, gpu = profile.groups
    assert (cpu.name, cpu.workers, cpu.nbytes, cpu.variables) == ("cpu", 4, 16 * 10**9, {})
    assert (gpu.options, gpu.variables) == (["--gres=gpu:1"], {"LEPTONHPC_DEVICE": "cuda"})


def test_a_profile_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "laptop.toml").write_text('kind = "local"\n[groups.a]\nworkers = 3\n')
    monkeypatch.setenv(PROFILES, str(tmp_path))
    assert load_profile("laptop") == Profile("local", (Group("a", 3),))
    with pytest.raises(OptionError, match=r"no profile 'desktop'.*: laptop"):
        load_profile("desktop")
    with pytest.raises(OptionError, match="no profile"):
        load_profile("../laptop")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "kind is one of"),
        ({"kind": "cloud", **GROUPS}, "found 'cloud'"),
        ({"kind": ["slurm"]}, "kind is one of"),
        ({"kind": "local"}, "needs groups"),
        ({"kind": "slurm", "interface": "lo", "prologue": [1], **GROUPS}, "list of lines"),
        ({"kind": "local", "groups": {"a": {"walltime": "ten"}}}, "walltime is minutes"),
        ({"kind": "local", "groups": {"a": 1}}, "tables"),
        ({"kind": "local", "groups": {"a": {"wokers": 1}}}, "unknown wokers"),
        ({"kind": "local", "groups": {"a": {"environment": "A=1"}}}, "a table of variables"),
        ({"kind": "local", "groups": {"a b": {}}}, "letters, digits"),
        ({"kind": "local", "groups": {"a": {"workers": "two"}}}, "a number from 1"),
        ({"kind": "local", "interface": "lo", **GROUPS}, "unknown interface"),
        ({"kind": "slurm", **GROUPS}, "needs interface"),
        ({"kind": "slurm", "interface": 1, **GROUPS}, "interface is a str"),
        ({"kind": "slurm", "interface": "lo", "groups": {"a": {"options": ["x\n"]}}}, "options"),
        ({"kind": "local", "groups": {"a": {"options": 1}}}, "options are a list"),
        ({"kind": "connect"}, "needs scheduler"),
        ({"kind": "connect", "scheduler": "tls://h:1", **GROUPS}, "unknown groups"),
    ],
)
def test_what_is_not_understood_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        profile_from(table)


def test_slurm_takes_a_profile_of_its_kind_only() -> None:
    profile = Profile("local", (Group("a"),))
    with pytest.raises(OptionError, match="found kind local"), slurm(profile):
        pytest.fail("it started")


def test_slurm_without_slurm_says_where_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    profile = Profile("slurm", (Group("a"),), interface="lo")
    with pytest.raises(OptionError, match="login node"), slurm(profile):
        pytest.fail("it started")

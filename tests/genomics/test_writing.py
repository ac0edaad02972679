"""What is written says what was tested: names, frequencies, and however small a p value."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from leptonhpc import genomics
from leptonhpc.cli.app import app
from leptonhpc.errors import OptionError
from leptonhpc.genomics.tails import log10_two_sided


def rows(path: Path) -> list[dict[str, str]]:
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


@pytest.mark.parametrize("missing", ["drop", "mean"])
def test_frequency_is_of_the_tested_samples(gappy: Any, tmp_path: Path, missing: Any) -> None:
    height = np.random.default_rng(1).normal(size=61)
    use = np.arange(61) % 4 > 0
    traits = {"h": np.where(use, height, np.nan)}
    found = genomics.gwas(gappy.bed, traits, missing=missing)
    (path,) = genomics.write_gwas(found, tmp_path / "out")
    calls = np.where(gappy.calls < 0, np.nan, gappy.calls.astype(float))[use]
    written = [float(row["A1_FREQ"]) for row in rows(path)]
    np.testing.assert_allclose(written, np.nanmean(calls, axis=0) / 2, rtol=1e-9)
    assert not np.allclose(written, found.variant_allele_frequency[:, 1])


@pytest.mark.parametrize("freedom", [3, 10, 500, 100_000])
def test_logarithms_of_p_are_those_of_scipy_where_it_has_them(freedom: int) -> None:
    for t in (2.5, 6.0, 12.0, 30.0):
        expected = np.log10(2) + stats.t.logsf(t, freedom) / np.log(10)
        # scipy's log of a small number: a relative error of 1e-10 of p is 4e-11 here
        assert abs(log10_two_sided(-t, freedom) - expected) < 1e-9
    assert abs(log10_two_sided(6.0, None) - np.log10(2 * stats.norm.sf(6.0))) < 1e-12


def test_small_p_agrees_with_the_leading_term_of_the_tail() -> None:
    for t, freedom in ((1e8, 50), (1e6, 80)):
        density = stats.t.logpdf(t, freedom)  # density * t / freedom is the tail, to freedom / t^2
        expected = (np.log(2) + density + np.log(t) - np.log(freedom)) / np.log(10)
        assert expected < -300
        assert abs(log10_two_sided(t, freedom) - expected) < 1e-9


def test_p_that_a_float_cannot_hold_is_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    calls = rng.binomial(2, 0.4, (3000, 3)).astype(np.int8)
    age = rng.normal(size=3000)
    y = 3 * calls[:, 0] + rng.normal(size=3000)
    found = genomics.gwas(calls, {"h": y}, covariates=age)
    assert found.variant_linreg_p_value[0, 0] == 0
    (path,) = genomics.write_gwas(found, tmp_path / "out")
    mantissa, _, exponent = rows(path)[0]["P"].partition("e")
    t = float(found.variant_linreg_t_value[0, 0])
    expected = log10_two_sided(t, 3000 - 3)
    assert expected < -400
    # six digits of the mantissa
    assert abs(np.log10(float(mantissa)) + int(exponent) - expected) < 1e-5
    np.testing.assert_allclose(float(rows(path)[1]["P"]), found.variant_linreg_p_value[1, 0])


@pytest.mark.parametrize("name", ["HDL/LDL", "a\\b", "", "two\nlines"])
def test_names_that_no_file_can_have_are_refused(complete: Any, tmp_path: Path, name: str) -> None:
    cohort = genomics.read_bed(complete.bed).select(variants=np.arange(3))
    found = genomics.gwas(cohort, {name: np.arange(61.0)})
    with pytest.raises(OptionError, match="cannot be part of a file's name"):
        genomics.write_gwas(found, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("trait", "taken", "message"),
    [("HDL/LDL", None, "part of a file's name"), ("h", "out.h.glm.linear", "out.h.glm.linear"),
     ("h", "out.h.qq.png", "out.h.qq.png")],
)  # fmt: skip
def test_the_command_refuses_before_it_computes(
    complete: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    trait: str, taken: str | None, message: str,
) -> None:  # fmt: skip
    table = tmp_path / "t.txt"
    people = (f"f{i // 2} i{i} {i}" for i in range(61))
    table.write_text("\n".join([f"FID IID {trait}", *people]))
    if taken is not None:
        (tmp_path / taken).write_text("mine")
    computed: list[Any] = []
    monkeypatch.setattr(genomics, "gwas", lambda *a, **k: computed.append(a))
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["gwas", str(complete.bed), str(table), "--out", str(out), "--plot"]
    )
    assert done.exit_code != 0
    assert message in done.output + str(done.exception)
    assert not computed

"""Small cohorts with structure and missing calls, as PLINK files and as matrices."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from leptonhpc.datasets.simulated_genotypes import draw_genotypes

PEOPLE, VARIANTS = 61, 240  # neither divides by 4 or by a chunk


@dataclass(frozen=True)
class Cohort:
    """A file set, and what is in it."""

    prefix: Path
    calls: np.ndarray
    """(people, variants), -1 where missing."""
    population: np.ndarray

    @property
    def bed(self) -> Path:
        return self.prefix.with_suffix(".bed")


@pytest.fixture(scope="session", autouse=True)
def _blas_on_one_thread() -> Iterator[None]:
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three populations, every call made, every variant varies."""
    return _cohort(tmp_path_factory.mktemp("complete") / "c", share_missing=0.0)


@pytest.fixture(scope="session")
def gappy(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """The same with 4 % of calls missing."""
    return _cohort(tmp_path_factory.mktemp("gappy") / "g", share_missing=0.04)


@pytest.fixture(scope="session")
def plink2() -> Callable[..., Path]:
    """Run plink2 on a file set and give the prefix of what it wrote, or skip."""
    program = shutil.which("plink2")
    if program is None:
        pytest.skip("plink2 is not installed (Debian has it: apt-get install plink2)")

    def run(cohort: Cohort, *options: str) -> Path:
        out = cohort.prefix.parent / f"plink-{'-'.join(options).replace('/', '_')[:40].strip('-')}"
        command = [program, "--bfile", str(cohort.prefix), "--out", str(out), "--threads", "1"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    return run


def _cohort(prefix: Path, *, share_missing: float) -> Cohort:
    rng = np.random.default_rng(3)
    calls = draw_genotypes(((0, PEOPLE), (0, 2 * VARIANTS)), populations=3, seed=5)
    calls[rng.random(calls.shape) < share_missing] = -1
    present = calls >= 0
    p = np.where(present, calls, 0).sum(0) / (2 * present.sum(0))
    calls = np.ascontiguousarray(calls[:, np.minimum(p, 1 - p) > 0.08][:, :VARIANTS])
    assert calls.shape == (PEOPLE, VARIANTS)
    write_plink(prefix, calls)
    return Cohort(prefix, calls, np.arange(PEOPLE) % 3)


def write_plink(prefix: Path, calls: np.ndarray) -> None:
    """Write a file set bit by bit, as the format's description has it."""
    codes = {2: 0b00, -1: 0b01, 1: 0b10, 0: 0b11}
    data = bytearray(b"\x6c\x1b\x01")
    for column in calls.T:
        for start in range(0, len(column), 4):
            quad = (codes[int(c)] << (2 * i) for i, c in enumerate(column[start : start + 4]))
            data.append(sum(quad))
    prefix.with_suffix(".bed").write_bytes(bytes(data))
    people, variants = calls.shape
    sexes = (1 + i % 2 for i in range(people))
    fam = "".join(f"f{i // 2} i{i} 0 0 {sex} -9\n" for i, sex in enumerate(sexes))
    prefix.with_suffix(".fam").write_text(fam)
    bim = (f"{1 + 3 * j // variants} rs{j} 0 {1000 + 500 * j} A G\n" for j in range(variants))
    prefix.with_suffix(".bim").write_text("".join(bim))

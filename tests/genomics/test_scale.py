"""Larger than memory, and on a cluster: the same answers, within the budget."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

from leptonhpc import datasets, genomics
from leptonhpc.errors import WorkerError

MEMORY_NBYTES = 330_000_000
PEOPLE, VARIANTS = 1500, 28_000  # 336 MB in double precision
PROGRAM = """
import sys, warnings
import numpy as np
from leptonhpc import genomics
from leptonhpc.runtime.memory import peak_nbytes
cohort = genomics.open_genotypes(sys.argv[1])
memory = int(sys.argv[2])
statistics = genomics.genotype_statistics(cohort, memory=memory)
kept = genomics.filter_variants(cohort, statistics=statistics, min_maf=0.05)
y = np.random.default_rng(0).normal(size=cohort.shape[0])
found = genomics.gwas(kept, y, memory=memory)
genomics.store_genotypes(kept, sys.argv[3], encoding="two-bit", memory=memory)
print(peak_nbytes(), float(found.variant_linreg_beta[-1, 0]))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, memory_limit=0,
        dashboard_address="127.0.0.1:0", host="127.0.0.1", worker_dashboard_address="127.0.0.1:0",
    ) as running:  # fmt: skip
        yield running
        warnings.simplefilter("ignore")


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        yield connected


def test_measured_peak_stays_under_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "g.zarr"
    datasets.fetch("simulated-genotypes", out=path, people=PEOPLE, variants=VARIANTS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), str(MEMORY_NBYTES), str(tmp_path / "two.zarr")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak, beta = done.stdout.split()
    assert int(peak) < MEMORY_NBYTES
    last = genomics.open_genotypes(tmp_path / "two.zarr")
    g = np.asarray(last.calls[:, -1:]).ravel().astype(float)
    y = np.random.default_rng(0).normal(size=PEOPLE)
    expected = np.cov(g, y)[0, 1] / g.var(ddof=1)
    np.testing.assert_allclose(float(beta), expected, rtol=1e-8)


def test_a_cluster_gives_the_same(gappy: Any, tmp_path: Path, cluster: LocalCluster) -> None:
    cohort = genomics.store_genotypes(genomics.read_bed(gappy.bed), tmp_path / "g", chunks=(20, 30))
    y = np.arange(61) % 7.0
    with Client(cluster):
        there = _answers(cohort, y)
    for name, here in _answers(cohort, y).items():
        np.testing.assert_allclose(there[name], here, rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_workers_cannot_read_is_refused(client: Client) -> None:
    from zarr.storage import MemoryStore

    from leptonhpc import store

    array = store.create_array(MemoryStore(), shape=(4, 5), dtype="int8", chunks=(4, 5))
    array.write_units((0, 0), np.ones((4, 5), np.int8))
    with pytest.raises(WorkerError, match="in this process only"):
        genomics.genotype_statistics(genomics.open_genotypes(_opened(array)))


def _opened(array: Any) -> Any:
    from leptonhpc.blocks import BlockedArray, StoredSource

    return BlockedArray(StoredSource(array))


def _answers(cohort: genomics.Genotypes, y: np.ndarray) -> dict[str, np.ndarray]:
    pairs = genomics.ld(cohort, window=10, threshold=0.1)
    found = {
        "frequency": genomics.genotype_statistics(cohort).frequency,
        "linear": genomics.gwas(cohort, y).variant_linreg_p_value,
        "logistic": genomics.gwas(cohort, y > 3, model="logistic").variant_logreg_beta,
        "mixed": genomics.gwas(cohort, y, model="mixed").variant_lmm_beta,
        "r2": pairs.ld_r2,
        "hwe": genomics.hwe(cohort).variant_hwe_p_value,
        "grm": genomics.grm(cohort).stat_genomic_relationship,
        "kinship": genomics.kinship(cohort).stat_king_kinship,
        "pca": np.abs(genomics.pca(cohort, components=2, method="exact").sample_pca_projection),
    }
    return {name: np.asarray(values) for name, values in found.items()}

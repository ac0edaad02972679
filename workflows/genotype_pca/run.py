"""Principal components of a cohort: filters, pruning, components, PLINK-style files, a picture.

python run.py [--data cohort.bed] [--components 10] [--memory "2 GB"]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from leptonhpc import datasets, genomics


def main() -> None:
    """Run every step and leave the files."""
    arguments = parse()
    arguments.folder.mkdir(exist_ok=True)
    cohort, groups = opened(arguments)
    print(cohort)
    statistics = genomics.genotype_statistics(cohort, memory=arguments.memory)
    kept = genomics.filter_variants(
        cohort, min_maf=arguments.maf, min_call_rate=0.95, statistics=statistics
    )
    print(f"{kept.shape[1]} variants have a rarer allele of {arguments.maf:.0%} or more")
    pruned = genomics.ld_prune(kept, window=50, threshold=0.2, memory=arguments.memory)
    print(f"{pruned.shape[1]} of them are left when correlated neighbours are pruned")
    found = genomics.pca(
        pruned, components=arguments.components, memory=arguments.memory, seed=arguments.seed
    )
    for number, share in enumerate(found.sample_pca_explained_variance_ratio.values[:4], 1):
        print(f"PC{number} holds {100 * share:.3f} % of the variance")
    prefix = arguments.folder / "cohort"
    written = genomics.write_pca(found, prefix, overwrite=True)
    picture = prefix.with_suffix(".pca.png")
    genomics.plot_components(found, groups=groups).figure.savefig(picture)
    print("wrote", *(path.name for path in (*written, picture)))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a .bed file, VCF-Zarr or a Zarr matrix; default: simulated")
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--maf", type=float, default=0.05, help="least frequency")
    parser.add_argument("--people", type=int, default=1500, help="of the simulated cohort")
    parser.add_argument("--variants", type=int, default=20_000, help="of the simulated cohort")
    parser.add_argument("--memory", help="of each worker, such as '2 GB'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("genotype-pca-output"))
    return parser.parse_args()


def opened(arguments: argparse.Namespace) -> tuple[genomics.Genotypes, np.ndarray | None]:
    """Open the user's cohort, or simulate three populations and say who belongs to which."""
    if arguments.data is not None:
        return genomics.open_genotypes(arguments.data), None
    path = arguments.folder / f"simulated-{arguments.people}-{arguments.variants}.zarr"
    if not path.exists():
        datasets.fetch(
            "simulated-genotypes", out=path, people=arguments.people, variants=arguments.variants
        )
    return genomics.open_genotypes(path), np.array(["A", "B", "C"])[np.arange(arguments.people) % 3]


if __name__ == "__main__":
    main()

"""Principal components of a cohort: filters, pruning, components, PLINK-style files, a picture.

python run.py [--data cohort.bed | --real] [--components 10] [--memory "2 GB"]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import zarr

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
    if arguments.components > 1:
        written.append(prefix.with_suffix(".pca.png"))
        genomics.plot_components(found, groups=groups).figure.savefig(written[-1])
    print("wrote", *(path.name for path in written))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", help="a .bed file, VCF-Zarr or a Zarr matrix; default: simulated")
    source.add_argument(
        "--real", action="store_true", help="2504 people of the 1000 Genomes Project, 55 variants"
    )
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--maf", type=float, default=0.05, help="least frequency")
    parser.add_argument("--people", type=int, default=1500, help="of the simulated cohort")
    parser.add_argument("--variants", type=int, default=20_000, help="of the simulated cohort")
    parser.add_argument("--memory", help="of each worker, such as '2 GB'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("genotype-pca-output"))
    return parser.parse_args()


def opened(arguments: argparse.Namespace) -> tuple[genomics.Genotypes, np.ndarray | None]:
    """Open the user's cohort, or one whose people are known to belong to groups."""
    if arguments.data is not None:
        return genomics.open_genotypes(arguments.data), None
    if arguments.real:
        path = fetched("ancestry-kidd", arguments.folder / "ancestry-kidd.zarr")
        codes = zarr.open_array(path / "superpopulation", mode="r")
        return genomics.open_genotypes(path), np.array(codes.attrs["meanings"])[codes[...]]
    people, variants = arguments.people, arguments.variants
    path = arguments.folder / f"simulated-{people}-{variants}.zarr"
    path = fetched("simulated-genotypes", path, people=people, variants=variants)
    return genomics.open_genotypes(path), np.array(["A", "B", "C"])[np.arange(people) % 3]


def fetched(name: str, path: Path, **options: int) -> Path:
    """Have a data set, from an earlier run if there was one."""
    if not path.exists():
        datasets.fetch(name, out=path, **options)
    return path


if __name__ == "__main__":
    main()

"""Ten principal components of a cohort in PLINK's files, by leptonhpc and by plink2.

python benchmarks/genotypes.py --samples 5000 --variants 100000 --peers plink2-approx,plink2-exact
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import fields
import numpy as np
import options
from contest import Contest, run_contest
from rows import Row
from tables import print_rows

PEERS = ("plink2-approx", "plink2-exact")
TINY = {"samples": 60, "variants": 3000, "components": 3, "memory": 500_000_000,
        "gemm_size": 256}  # fmt: skip
SIZES = ("samples", "variants", "components")


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    if shutil.which("plink2") is None:
        arguments.peers = [name for name in arguments.peers if not name.startswith("plink2")]
        print("plink2 is not installed: left out")
    sizes = {name: getattr(arguments, name) for name in SIZES}
    shape = {name: sizes[name] for name in SIZES[:2]}
    stem = fields.cohort(arguments.data, **shape)
    exact = fields.exact_variances(stem, **shape)[: arguments.components]

    def judge(answer: Mapping[str, Any]) -> float:
        """Compare eigenvalues of the relationship matrix, each scaled by its own convention."""
        found = np.asarray(answer["s"], dtype="f8")
        if len(found) < len(exact):
            return math.inf
        return float(np.max(np.abs(found[: len(exact)] / exact - 1)))

    contest = Contest(
        subject="genotypes",
        work="genotypes",
        dtype="float64" if arguments.precision == "double" else "float32",
        sizes=sizes,
        options={
            "bed": str(stem), "memory": arguments.memory, "components": arguments.components,
            "precision": arguments.precision,
        },
        input_nbytes=stem.with_suffix(".bed").stat().st_size,
        judge=judge,
        limits=False,
    )  # fmt: skip
    rows = run_contest(contest, arguments)
    title = f"{arguments.components} components of {arguments.samples} people x "
    print_rows(f"{title}{arguments.variants} variants, {arguments.memory / 1e9:g} GB", rows)
    return rows


def _parser() -> argparse.ArgumentParser:
    made = options.parser("genotypes", __doc__ or "", PEERS)
    made.add_argument("--samples", type=int, default=5000)
    made.add_argument("--variants", type=int, default=100_000)
    made.add_argument("--components", type=int, default=10)
    made.add_argument("--precision", choices=("single", "double"), default="single")
    made.add_argument("--memory", type=options.nbytes, default="2GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()

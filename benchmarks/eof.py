"""Ten EOFs of a gappy field that does not fit in memory, by leptonhpc and by xeofs.

python benchmarks/eof.py --times 5000 --lats 360 --lons 720 --memory 2GB --peers xeofs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import data
import fields
import options
from contest import Contest, run_contest
from rows import Row
from tables import print_rows

PEERS = ("xeofs",)
TINY = {"times": 200, "lats": 18, "lons": 36, "chunk_times": 50, "modes": 3,
        "memory": 400_000_000, "gemm_size": 256}  # fmt: skip
SIZES = ("times", "lats", "lons", "chunk_times", "modes")


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    x = fields.climate_field(
        arguments.data, times=arguments.times, lats=arguments.lats, lons=arguments.lons,
        chunk_times=arguments.chunk_times,
    )  # fmt: skip
    sizes = {name: getattr(arguments, name) for name in SIZES}
    contest = Contest(
        subject="eof",
        work="eof",
        dtype="float32",
        sizes=sizes,
        options={
            "x": str(x),
            "memory": arguments.memory,
            "modes": arguments.modes,
            "answers": str(arguments.data),
        },
        input_nbytes=data.stored_nbytes(x),
        judge=partial(fields.residual_of_modes, x),
        limits=False,
    )
    rows = run_contest(contest, arguments)
    shape = " x ".join(str(sizes[name]) for name in SIZES[:3])
    print_rows(f"{arguments.modes} EOFs of {shape} float32, {arguments.memory / 1e9:g} GB", rows)
    return rows


def _parser() -> argparse.ArgumentParser:
    made = options.parser("eof", __doc__ or "", PEERS)
    made.add_argument("--times", type=int, default=5000)
    made.add_argument("--lats", type=int, default=360)
    made.add_argument("--lons", type=int, default=720)
    made.add_argument("--chunk-times", type=int, default=50)
    made.add_argument("--modes", type=int, default=10)
    made.add_argument("--memory", type=options.nbytes, default="2GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()

"""Implicit feedback factored by leptonhpc and by the library implicit: time, loss and ranking.

python benchmarks/als.py --users 100000 --items 20000 --ratings 5000000 --peers implicit
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import als_peers
import options
from contest import Contest, run_contest
from rows import Row
from tables import print_rows

PEERS = ("implicit",)
TINY = {"users": 300, "items": 200, "ratings": 6000, "factors": 8, "sweeps": 2,
        "memory": 1_000_000_000, "gemm_size": 256}  # fmt: skip
SIZES = ("users", "items", "ratings", "factors", "sweeps")


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the contest that the command line asks for."""
    arguments = options.parse(_parser(), argv, TINY)
    sizes = {name: getattr(arguments, name) for name in SIZES}
    place = als_peers.ratings(
        arguments.data, users=arguments.users, items=arguments.items, count=arguments.ratings
    )

    def judge(answer: Mapping[str, Any]) -> float:
        """Say how far the ranking of held-out clicks is from a perfect one."""
        return 1.0 - float(answer["ndcg"])

    contest = Contest(
        subject="als",
        work="als",
        dtype="float32",
        sizes=sizes,
        options={
            "clicks": str(place), "memory": arguments.memory, "factors": arguments.factors,
            "sweeps": arguments.sweeps, "alpha": 10.0, "regularization": 1.0,
        },
        input_nbytes=(place / "train.npz").stat().st_size,
        judge=judge,
        limits=False,
    )  # fmt: skip
    rows = run_contest(contest, arguments)
    print_rows(
        f"{arguments.factors} factors of {arguments.ratings} clicks of {arguments.users} users on "
        f"{arguments.items} items, {arguments.sweeps} sweeps",
        rows,
    )
    for row in rows:
        if row["status"] == "ok":
            print(f"{row['contestant']}: loss {row['loss']:.6g}, NDCG@10 {row['ndcg']:.4f}")
    return rows


def _parser() -> argparse.ArgumentParser:
    made = options.parser("als", __doc__ or "", PEERS)
    made.add_argument("--users", type=int, default=100_000)
    made.add_argument("--items", type=int, default=20_000)
    made.add_argument("--ratings", type=int, default=5_000_000)
    made.add_argument("--factors", type=int, default=64)
    made.add_argument("--sweeps", type=int, default=15)
    made.add_argument("--memory", type=options.nbytes, default="4GB", help="of each worker")
    return made


if __name__ == "__main__":
    main()

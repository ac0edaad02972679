"""The fresh process of one contestant: it does its work once and writes what that took."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import als_peers
import domain_peers
import factor_peers
import limits
import nmf_peers
import own
import parallel_peers
import peers
from measure import Timer


def main(argv: Sequence[str] | None = None) -> None:
    """Run one case, given as JSON: contestant, result file, and the options of its work."""
    (text,) = sys.argv[1:] if argv is None else argv
    case = json.loads(text)
    contestants = {
        **limits.CONTESTANTS, **peers.CONTESTANTS, **factor_peers.CONTESTANTS, **own.CONTESTANTS,
        **domain_peers.CONTESTANTS, **als_peers.CONTESTANTS,
        **nmf_peers.CONTESTANTS, **parallel_peers.CONTESTANTS,
    }  # fmt: skip
    timer = Timer()
    answer = contestants[case["work"], case["contestant"]].run(case["options"], timer)
    taken = {
        "seconds": timer.seconds,
        "read_nbytes": timer.read_nbytes,
        "peak_nbytes": timer.peak_nbytes,
    }
    Path(case["result"]).write_text(json.dumps({**taken, **answer}))


if __name__ == "__main__":
    main()

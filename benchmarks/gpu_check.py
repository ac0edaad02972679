"""What leptonhpc does on the GPU of this machine: tests, ceilings, then jobs against the ceilings.

python benchmarks/gpu_check.py            # under eight minutes; rows to gpu_check.json
python benchmarks/gpu_check.py --double   # to the end without a GPU, at sizes of no meaning

Each step is a process of its own with its own time limit, and each part of a step is tried for
itself: what fails does not stop the rest. Rows are written after each step, with all that was said
about failures. Without a GPU (and without --double) it says so and ends with exit code 2; 1: a step
or a part of one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_FIRST_SECONDS = 30
"""That asking for the GPU may take."""
_TOLD = 20_000
"""Characters of what a step said about failures that are kept."""
DOUBLE = "leptonhpc.testing.cuda_double"
STEPS = {
    # seconds that each may take: together under eight minutes
    "machine": 15, "tests": 100, "ceilings": 60, "gemm": 80, "svd": 85, "cholesky": 105,
}  # fmt: skip
SIZES = {
    False: {
        "gemm": 32768, "ceiling": 16384, "potrf": 16384, "copy_nbytes": 1 << 30,
        "rows": 1_000_000, "columns": 2048, "cholesky": 65536, "numpy": 8192,
        "seconds": 1.0,
    },
    True: {
        "gemm": 192, "ceiling": 128, "potrf": 128, "copy_nbytes": 1 << 20, "rows": 4000,
        "columns": 400, "cholesky": 256, "numpy": 128, "seconds": 0.05,
    },
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps; give the exit code."""
    chosen = _parsed(argv)
    kind = DOUBLE if chosen.double else chosen.kind
    if not chosen.double and (missing := _why_no_gpu(kind)):
        print(f"gpu_check needs a GPU that CuPy sees: {missing}. --double runs it without one")
        return 2
    sizes = {**SIZES[chosen.double], **json.loads(chosen.sizes)}
    rows: list[dict[str, Any]] = []
    told: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=chosen.data, prefix="gpu-check-") as folder:
        for name in chosen.steps:
            limit = chosen.limit_seconds or STEPS[name]
            options = {"sizes": sizes, "folder": folder, "kind": kind, "rows": rows, "limit": limit}
            found, said = _step(name, options, limit)
            rows += found
            if any("failed" in row for row in found):
                told[name] = said[-_TOLD:]
            _show(rows, since=name)
            written = {"double": chosen.double, "kind": kind, "rows": rows, "told": told}
            chosen.out.write_text(json.dumps(written, indent=1))  # what is known if it is stopped
    for name, said in told.items():
        print(f"\n{name} said:\n{said[-2000:]}")
    print(f"rows: {chosen.out}")
    return 1 if any("failed" in row for row in rows) else 0


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--double", action="store_true", help="run on a double of a GPU")
    made.add_argument("--kind", default="cuda", choices=["cuda", "cuda-tf32"])
    made.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    made.add_argument("--sizes", default="{}", help="JSON: other sizes, see SIZES")
    made.add_argument("--limit-seconds", type=float, help="of each step, instead of its own")
    made.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    made.add_argument("--data", type=Path, help="folder on the disk to be measured")
    return made.parse_args(argv)


def _why_no_gpu(kind: str) -> str:
    """Ask in a process of its own: this one takes nothing of the GPU."""
    program = f"from leptonhpc.kernels import primitives_of; primitives_of({kind!r})"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False,
            timeout=_FIRST_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer in {_FIRST_SECONDS} s"
    return _last(done.stderr) if done.returncode else ""


def _step(name: str, options: dict[str, Any], limit: float) -> tuple[list[dict[str, Any]], str]:
    """Run one step in a process; give its rows, one that says how it failed, and what it said."""
    environment = {**os.environ, "LEPTONHPC_DEVICE": options["kind"]}
    began = time.perf_counter()
    command = [sys.executable, str(HERE / "gpu_steps.py"), name]
    try:
        done = subprocess.run(
            command, input=json.dumps(options), env=environment, capture_output=True, text=True,
            timeout=limit, check=False,
        )  # fmt: skip
        output, said = done.stdout, done.stderr
        failed = "" if done.returncode == 0 else _last(said)
    except subprocess.TimeoutExpired as expired:
        output, said = _text(expired.stdout), _text(expired.stderr)
        failed = f"took longer than {limit:.0f} s"
    rows = [row for line in output.splitlines() if (row := _row(line)) is not None]
    if failed:
        rows.append({"name": name, "failed": failed})
    seconds = time.perf_counter() - began
    return [{"step": name, "step_seconds": round(seconds, 2), **row} for row in rows], said


def _row(line: str) -> dict[str, Any] | None:
    """Read a row; a step that was ended may have been writing one."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["no message"])[-1]


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _show(rows: list[dict[str, Any]], *, since: str) -> None:
    for row in (r for r in rows if r["step"] == since):
        if "failed" in row:
            print(f"{row['name']:34} FAILED: {row['failed']}")
            continue
        value = f"{row['value']:>12.4g} {row['unit']:8}" if "value" in row else " " * 21
        told = [f"{row['fraction']:.2g} of {row['of']}"] if "fraction" in row else []
        told += [f"wanted {row['wanted']}"] if "wanted" in row else []
        told += [f"error {row['error']:.1e}"] if "error" in row else []
        told += ["NOT CONVERGED"] if row.get("converged") is False else []
        told += [row["note"]] if "note" in row else []
        print(f"{row['name']:34} {value} {', '.join(told)}".rstrip(), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

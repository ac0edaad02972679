"""Jobs are killed at random moments and begun again: no wrong number, nothing lost, nothing twice.

python tests/soak/kills.py --kills 200 --seed 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, WrapperStore

LONGEST_SECONDS = 300.0
"""A run that takes longer hangs."""
SETTLE_SECONDS = 0.004
"""Each read of a chunk takes so long, so that there are moments to be killed at."""


@dataclass(frozen=True)
class Case:
    """One driver and its question."""

    driver: str
    shapes: tuple[tuple[int, ...], ...]
    fields: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    every_seconds: float = 60.0
    """Between checkpoints inside a pass, as predicted."""


CASES = {
    "svd by passes": Case("svd", ((1500, 120),), ("u", "s", "vh"), {
        "rank": 4, "method": "krylov", "accuracy": 1e-2, "memory": "200 MB"}, 0.0),
    "svd by Gram matrix": Case("svd", ((1500, 120),), ("u", "s", "vh"), {
        "rank": 4, "method": "gram", "memory": "200 MB"}, 0.0),
    "matmul": Case("matmul", ((1500, 300), (300, 1200)), ("product",), {"memory": "240 MB"}),
    "cholesky": Case("cholesky", ((700, 700),), ("l",), {"memory": "170 MB"}),
    "lu": Case("lu", ((700, 700),), ("perm", "l", "u"), {"memory": "170 MB"}),
    "qr": Case("qr", ((900, 500),), ("q", "r"), {"memory": "200 MB"}),
    "inv": Case("inv", ((500, 500),), ("x",), {"memory": "170 MB"}),
    "eigh": Case("eigh", ((300, 300),), ("eigenvalues", "eigenvectors"), {"memory": "200 MB"}),
    "solve": Case("solve", ((700, 700), (700, 3)), ("x",), {"memory": "162 MB"}),
    "lstsq": Case("lstsq", ((1500, 120), (1500, 3)), ("x", "residuals", "s"), {
        "memory": "200 MB"}, 0.0),
    "pinv": Case("pinv", ((300, 300),), ("pinv",), {"memory": "158 MB"}),
    "polar": Case("polar", ((300, 300),), ("u", "p"), {"memory": "158 MB"}),
    "cg": Case("cg", ((400, 400), (400, 2)), ("x",), {"tol": 1e-13, "memory": "200 MB"}, 0.0),
    "lsmr": Case("lsmr", ((1500, 120), (1500, 2)), ("x",), {
        "tol": 1e-13, "memory": "200 MB"}, 0.0),
    "nmf": Case("nmf", ((1500, 120),), ("w", "h"), {
        "rank": 4, "init": "random", "tol": 1e-3, "memory": "165 MB"}, 0.0),
}  # fmt: skip
"""Every driver that takes out=."""


class Slow(WrapperStore):
    """A store whose chunks take a moment."""

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        """Read after a moment."""
        import asyncio

        if key.startswith("c/"):
            await asyncio.sleep(SETTLE_SECONDS)
        return await self._store.get(key, *args, **options)


def keep_inputs(case: Case, folder: Path) -> list[Path]:
    """Store a case's arrays: positive definite, or not negative, where the driver asks for it."""
    paths = []
    for number, shape in enumerate(case.shapes):
        a = np.random.default_rng(number).standard_normal(shape)
        if number == 0 and case.driver in ("cholesky", "eigh", "cg"):
            a = a @ a.T / shape[0] + np.eye(shape[0])
        elif case.driver == "nmf":
            a = abs(a)
        path = folder / f"x{number}"
        array = zarr.create_array(path, shape=shape, dtype="f8", chunks=(100, 100))
        array[...] = a
        paths.append(path)
    return paths


def slow_inputs(paths: list[Path]) -> list[Any]:
    """Open arrays whose chunks take a moment."""
    import leptonhpc as lh

    stores = [Slow(LocalStore(path, read_only=True)) for path in paths]
    return [lh.open(zarr.open_array(store, mode="r")) for store in stores]


def run(name: str, paths: list[Path], out: Path, answer: Path) -> None:
    """Run a case in this process, and leave digests and counts in a file."""
    import leptonhpc as lh
    from leptonhpc.api import outputs
    from leptonhpc.planning import layout
    from leptonhpc.runtime import checkpoints

    case, ran, run_job = CASES[name], [], outputs.run_job
    outputs.run_job = lambda *args, **options: (ran.append(name), run_job(*args, **options))[1]
    checkpoints.EVERY_SECONDS = case.every_seconds
    layout.BAND_NBYTES = layout.TASK_NBYTES = 100_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r = getattr(lh, case.driver)(*slow_inputs(paths), **case.options, out=out, progress=False)
    values = [np.ascontiguousarray(np.asarray(getattr(r, name))) for name in case.fields]
    found = {
        "digests": [hashlib.sha256(value).hexdigest() for value in values],
        "certificate": r.certificate.to_dict(),
        "resumed": {s.name: s.resumed_tasks for s in r.report.stages if not s.resumed},
        "stages": [s.name for s in r.report.stages if s.resumed or not ran],  # or all was there
    }
    answer.write_text(json.dumps(found, default=str))


def marks_of(out: Path) -> tuple[set[str], Counter[str]]:
    """Read from a journal which stages are whole, and how many blocks of others are done."""
    journal = Path(f"{out}.partial") / ".leptonhpc"
    stages = {path.stem for path in journal.glob("stages/*.npz")}
    done = Counter(
        path.parent.name
        for path in journal.glob("done/*/*")
        if path.is_file() and not path.name.endswith(".partial")
    )
    for path in journal.glob("parts/*.npz"):
        with np.load(path) as part:
            done[path.stem] = len(part["tasks of this part"])
    return stages, Counter({k: n for k, n in done.items() if k not in stages})


class Soak:
    """Kills jobs and looks at what comes of it.

    Parameters
    ----------
    folder : Path
        For inputs and outputs.
    seed : int
        Of the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["leptonhpc.api", "kills", "scipy.linalg.cython_blas"])
        self.kills = Counter[str]()
        self.whole: dict[str, tuple[dict[str, Any], float]] = {}
        self.inputs: dict[str, list[Path]] = {}

    def prepare(self, name: str) -> None:
        """Run a case once without a kill."""
        if name in self.whole:
            return
        place = self.folder / name.replace(" ", "-")
        place.mkdir()
        self.inputs[name] = keep_inputs(CASES[name], place)
        if not self.whole:  # start the fork server
            first = self.context.Process(target=time.sleep, args=(0,))
            first.start()
            first.join()
        began = time.monotonic()
        found = self._run(name, place / "whole", None)
        assert found is not None
        self.whole[name] = (found, time.monotonic() - began)

    def kill(self, name: str, kills: int, number: int) -> None:
        """Kill a case so often, let it end, and compare."""
        self.prepare(name)
        expected, seconds = self.whole[name]
        out = self.folder / f"out-{number}"
        found = None
        for _ in range(kills):
            found = self._run(name, out, self.random.uniform(0, seconds))
            if found is not None:
                break  # it was faster
            self.kills[name] += 1
        if found is None:
            stages, done = marks_of(out)
            found = self._run(name, out, None)
            assert found is not None
            assert stages <= set(found["stages"]), f"{name}: done again: {stages}"
            for stage, count in done.items():
                got = found["resumed"].get(stage)
                assert got is None or got == count, f"{name}: {stage}: {got} of {count}"
        assert found["digests"] == expected["digests"], f"{name} gives other numbers"
        other = {
            key: (value, found["certificate"][key])
            for key, value in expected["certificate"].items()
            if found["certificate"][key] != value
        }
        assert not other, f"{name} has another certificate: {other}"
        assert out.exists()
        assert not Path(f"{out}.partial").exists()

    def _run(self, name: str, out: Path, until: float | None) -> dict[str, Any] | None:
        """Run a case in a process of its own; None if that was killed before it ended."""
        answer = self.folder / "answer"
        answer.unlink(missing_ok=True)
        process = self.context.Process(target=run, args=(name, self.inputs[name], out, answer))
        process.start()
        process.join(LONGEST_SECONDS if until is None else until)
        if process.is_alive():
            assert until is not None, f"{name} hangs"
            process.kill()
            process.join()
        if process.exitcode == -signal.SIGKILL:
            return None
        assert process.exitcode == 0, f"{name} failed"
        return dict(json.loads(answer.read_text()))


def soak(folder: Path, *, kills: int, seed: int) -> Counter[str]:
    """Kill so often, all cases in turn, in an order that is drawn.

    Parameters
    ----------
    folder : Path
        Empty.
    kills : int
        At least so many.
    seed : int
        Of the order and the moments.

    Returns
    -------
    Counter
        Kills of each case.
    """
    it, number = Soak(folder, seed), 0
    names = it.random.sample(list(CASES), len(CASES))
    while it.kills.total() < kills:
        it.kill(names[number % len(names)], it.random.randint(1, 3), number)
        number += 1
    return it.kills


def main() -> None:
    """Soak, and say what was killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        killed = soak(Path(folder), kills=arguments.kills, seed=arguments.seed)
    print(
        f"{killed.total()} kills in {time.monotonic() - began:.0f} s, nothing wrong: {dict(killed)}"
    )


if __name__ == "__main__":
    sys.modules["kills"] = sys.modules["__main__"]
    main()

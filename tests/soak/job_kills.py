"""Jobs of the sciences are killed at random moments and begun again: the same bits, nothing left.

python tests/soak/job_kills.py --kills 100 --seed 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from kills import Slow
from zarr.storage import LocalStore

LONGEST_SECONDS = 300.0
"""A run that takes longer hangs."""
SAMPLES, VARIANTS, WIDTH = 60, 900, 30
TIMES = 480
PARTS = 40
OUT = "r.zarr"


def keep_inputs(folder: Path) -> None:
    """Store a cohort, two fields (one of them with scattered gaps), and ratings."""
    import xarray as xr

    from leptonhpc.recommend import store_ratings

    rng = np.random.default_rng(0)
    calls = rng.integers(0, 3, (SAMPLES, VARIANTS)).astype("i1")
    calls[rng.random(calls.shape) < 0.02] = -1
    zarr.create_array(folder / "calls", data=calls, chunks=(SAMPLES, WIDTH))
    coordinates = {
        "time": np.datetime64("2000-01-01") + np.arange(TIMES),
        "lat": np.linspace(-60.0, 60.0, 8), "lon": np.arange(12) * 30.0,
    }  # fmt: skip
    for name in ("air", "rain"):
        values = rng.standard_normal((TIMES, 3)) @ rng.standard_normal((3, 96))
        values += 0.1 * rng.standard_normal(values.shape)
        if name == "rain":
            values[rng.random(values.shape) < 0.05] = np.nan
        field = xr.DataArray(
            values.reshape(TIMES, 8, 12), coordinates, ("time", "lat", "lon"), name=name
        )
        field.chunk({"time": 20}).to_dataset().to_zarr(folder / name, consolidated=False)
    rows, columns = np.nonzero(rng.random((200, 120)) < 0.1)
    from scipy.sparse import csr_array

    ratings = csr_array((rng.random(len(rows)) + 1, (rows, columns)), shape=(200, 120))
    store_ratings(ratings, folder / "ratings", block_ratings=300)


def _cohort(folder: Path) -> Any:
    import leptonhpc as lh

    store = Slow(LocalStore(folder / "calls", read_only=True))
    return lh.open(zarr.open_array(store, mode="r"))


def _pca(folder: Path, out: Path) -> Any:
    from leptonhpc import genomics

    return genomics.pca(_cohort(folder), components=3, out=out)


def _gwas(folder: Path, out: Path) -> Any:
    from leptonhpc import genomics

    traits = np.random.default_rng(1).standard_normal((SAMPLES, 2))
    return genomics.gwas(_cohort(folder), traits, out=out)


def _eof(folder: Path, out: Path) -> Any:
    from leptonhpc import climate

    return climate.eof(folder / "air", modes=3, out=out)


def _mca(folder: Path, out: Path) -> Any:
    from leptonhpc import climate

    other = climate.fill_gaps(folder / "rain", modes=3, most_iterations=2)
    return climate.mca(folder / "air", other, modes=2, out=out)


def _fill_gaps(folder: Path, out: Path) -> Any:
    from leptonhpc import climate

    return climate.fill_gaps(folder / "rain", modes=3, tol=1e-9, most_iterations=40, out=out)


def _bootstrap(folder: Path, out: Path) -> Any:
    from leptonhpc import climate

    return climate.bootstrap(folder / "air", modes=2, draws=200, out=out)


def _als(folder: Path, out: Path) -> Any:
    from leptonhpc.recommend import ImplicitALS

    model = ImplicitALS(n_factors=3, tol=0, max_iter=10, random_state=0)
    model.fit(folder / "ratings", out=out)
    return model.user_factors_, model.item_factors_


def _part(number: int) -> float:
    time.sleep(0.02)
    return float(np.sqrt(number))


def _process(folder: Path, out: Path) -> Any:
    import leptonhpc as lh

    return (np.array(list(lh.parallel.parallel_process(_part, range(PARTS), out=out))),)


JOBS: dict[str, Callable[[Path, Path], Any]] = {
    "genomics.pca": _pca,
    "genomics.gwas": _gwas,
    "climate.eof": _eof,
    "climate.mca": _mca,
    "climate.fill_gaps": _fill_gaps,
    "climate.bootstrap": _bootstrap,
    "recommend.ImplicitALS": _als,
    "parallel.parallel_process": _process,
}


def run(name: str, folder: Path, out: Path, answer: Path) -> None:
    """Run a job in this process, and leave a digest of each array in a file."""
    from leptonhpc.climate import passes as rows
    from leptonhpc.genomics import passes as variants

    rows.EVERY_SECONDS, variants._MOST_CELLS = 0.0, SAMPLES * WIDTH
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few samples
        found = JOBS[name](folder, out)
    if hasattr(found, "to_dataset"):
        found = found.to_dataset(name="found")
    arrays = [found[key].values for key in sorted(found)] if hasattr(found, "coords") else found
    digests = [
        hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for array in arrays
        if array.dtype.kind != "O"
    ]
    answer.write_text(json.dumps(digests))


class Soak:
    """Kills jobs and looks at what comes of them.

    Parameters
    ----------
    folder : Path
        Empty; for inputs and outputs.
    seed : int
        Of the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.inputs, self.outputs = folder / "inputs", folder / "outputs"
        self.inputs.mkdir()
        self.answer, self.random = folder / "answer", random.Random(seed)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([
            "leptonhpc.api", "leptonhpc.climate", "leptonhpc.genomics", "leptonhpc.recommend",
            "leptonhpc.parallel", "xarray", "job_kills",
        ])  # fmt: skip
        self.kills, self.unfinished = Counter[str](), Counter[str]()
        """Of each job, and those of them that left something to go on with."""
        self.whole: dict[str, tuple[list[str], float]] = {}
        keep_inputs(self.inputs)

    def kill(self, name: str, kills: int) -> None:
        """Kill a job so often, let it end, and compare with one that was never killed."""
        if name not in self.whole:
            if not self.whole:  # start the fork server
                first = self.context.Process(target=time.sleep, args=(0,))
                first.start()
                first.join()
            began = time.monotonic()
            digests = self._run(name, LONGEST_SECONDS)
            assert digests, f"{name} hangs"
            self.whole[name] = digests, time.monotonic() - began
        expected, seconds = self.whole[name]
        found = None
        for _ in range(kills):
            found = self._run(name, self.random.uniform(0, seconds))
            if found is not None:
                break  # it was faster
            self.kills[name] += 1
            left = {path.name for path in self.outputs.iterdir()}
            if OUT in left:  # whole, and not made again; what it was about to remove may be left
                shutil.rmtree(self.outputs)
                break
            self.unfinished[name] += bool(left)
        found = found or self._run(name, LONGEST_SECONDS)
        assert found is not None, f"{name} hangs"
        assert found == expected, f"{name} gives other numbers"

    def _run(self, name: str, until: float) -> list[str] | None:
        """Run a job in a process of its own; None if that was killed before it ended."""
        self.answer.unlink(missing_ok=True)
        self.outputs.mkdir(exist_ok=True)
        out = self.outputs / OUT
        process = self.context.Process(target=run, args=(name, self.inputs, out, self.answer))
        process.start()
        process.join(until)
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode == -signal.SIGKILL:
            return None
        assert process.exitcode == 0, f"{name} failed"
        left = [path.name for path in self.outputs.iterdir()]
        assert left == [OUT], f"{name} left {left}"
        shutil.rmtree(self.outputs)
        return list(json.loads(self.answer.read_text()))


def soak(folder: Path, *, kills: int, seed: int) -> Soak:
    """Kill so often, all jobs in turn.

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
    Soak
        With its kills of each job.
    """
    it, number = Soak(folder, seed), 0
    names = it.random.sample(list(JOBS), len(JOBS))
    while it.kills.total() < kills:
        it.kill(names[number % len(names)], it.random.randint(1, 3))
        number += 1
    return it


def main() -> None:
    """Soak, and say what was killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        it = soak(Path(folder), kills=arguments.kills, seed=arguments.seed)
    print(
        f"{it.kills.total()} kills in {time.monotonic() - began:.0f} s, nothing wrong: "
        f"{dict(it.kills)}; something to go on with was left by {dict(it.unfinished)}"
    )


if __name__ == "__main__":
    sys.modules["job_kills"] = sys.modules["__main__"]
    main()

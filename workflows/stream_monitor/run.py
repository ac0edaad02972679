"""Watch a stream of measurements: follow its modes, and say when they change.

python run.py                      # a writer and a watcher, until the stream ends
python run.py watch --stream x.zarr --state monitor.state      # a stream of yours
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import leptonhpc as lh

SENSORS, MODES, CHUNK = 64, 2, 50
CHANGE = 0.6  # of the made stream: where the second regime begins


def main() -> None:
    """Write, watch, or both."""
    arguments = parse()
    arguments.folder.mkdir(exist_ok=True)
    arguments.stream = arguments.stream or arguments.folder / "stream.zarr"
    arguments.state = arguments.state or arguments.folder / "monitor.state"
    if arguments.what == "write":
        write(arguments)
    elif arguments.what == "watch":
        watch(arguments)
    else:
        both(arguments)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["both", "write", "watch"], default="both")
    parser.add_argument("--stream", type=Path, help="Zarr array (time, sensor) that grows")
    parser.add_argument("--state", type=Path, help="where the watcher keeps how far it is")
    parser.add_argument("--rows", type=int, default=4000, help="that the made stream gets")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between its slabs")
    parser.add_argument("--rank", type=int, default=MODES, help="modes that are followed")
    parser.add_argument("--forgetting", type=float, default=0.997, help="of a row for each later")
    parser.add_argument("--threshold", type=float, default=20.0, help="degrees, of the alarm")
    parser.add_argument("--timeout", type=float, help="end when nothing new comes for so long")
    parser.add_argument("--folder", type=Path, default=Path("stream-monitor-output"))
    return parser.parse_args()


def both(arguments: argparse.Namespace) -> None:
    """Let another process append while this one watches."""
    command = [
        sys.executable, __file__, "write", "--stream", arguments.stream, "--folder",
        arguments.folder, "--rows", arguments.rows, "--pause", arguments.pause,
    ]  # fmt: skip
    writer = subprocess.Popen([str(part) for part in command])
    try:
        while not (arguments.stream / "zarr.json").exists():
            if writer.poll() is not None:
                raise SystemExit("the writer ended without writing")
            time.sleep(0.05)
        watch(arguments)
    finally:
        writer.terminate()
        writer.wait()


def write(arguments: argparse.Namespace) -> None:
    """Append measurements until there are enough; go on where a killed writer stopped."""
    stream, total = arguments.stream, arguments.rows
    start = lh.open(stream).shape[0] if (stream / "zarr.json").exists() else 0
    while start < total:
        stop = min(start - start % CHUNK + CHUNK, total)
        start = lh.streams.append(stream, measure(start, stop, total), chunk_rows=CHUNK)
        time.sleep(arguments.pause)
    lh.streams.end_stream(stream)


def measure(start: int, stop: int, total: int) -> np.ndarray:
    """Make rows start to stop: two modes and noise; late on, one mode is another."""
    shapes = np.linalg.qr(np.random.default_rng(0).standard_normal((SENSORS, 3)))[0].T
    rows = np.stack(
        [np.random.default_rng([1, row]).standard_normal(66) for row in range(start, stop)]
    )
    late = np.arange(start, stop)[:, np.newaxis] >= CHANGE * total
    second = np.where(late, shapes[2], shapes[1])
    return 4 * rows[:, :1] * shapes[0] + 3 * rows[:, 1:2] * second + 0.3 * rows[:, 2:]


def watch(arguments: argparse.Namespace) -> None:
    """Take each slab once, whenever this is killed and begun again; draw what was seen."""
    with lh.watch(
        arguments.stream, state=arguments.state, rows=CHUNK, poll_seconds=0.02,
        timeout_seconds=arguments.timeout,
    ) as slabs:  # fmt: skip
        state = slabs.state
        if state is None:
            model = lh.streams.IncrementalSVD(
                arguments.rank, center=True, forgetting=arguments.forgetting
            )
            monitor = lh.streams.DriftMonitor(threshold_degrees=arguments.threshold)
            state = {"model": model, "monitor": monitor, "seen": []}
        else:
            print(f"going on after row {slabs.position}")
        for slab in slabs:
            take(state, slab)
            slabs.commit(state)
    alarms = [drift.rows for drift in state["seen"] if drift.alarm]
    print(f"{state['model'].rows} rows, alarms at rows {', '.join(map(str, alarms)) or '(none)'}")
    if state["seen"]:
        draw(state["seen"], arguments)


def take(state: dict[str, Any], slab: lh.streams.Slab) -> None:
    """Merge a slab into the model, and compare its subspace with what it was."""
    model = state["model"].partial_fit(slab.values)
    drift = state["monitor"].update(model)
    state["seen"].append(drift)
    if drift.alarm:
        angle = np.degrees(drift.since[-1])
        print(
            f"ALARM at row {drift.rows}: the modes turned by {angle:.0f} degrees; "
            f"{100 * drift.missed:.0f} % of the last slab is outside of them"
        )


def draw(seen: list[lh.streams.Drift], arguments: argparse.Namespace) -> None:
    """Leave the picture: angles, and what the modes missed, along the stream."""
    from matplotlib.figure import Figure

    rows = [drift.rows for drift in seen]
    figure = Figure(figsize=(9, 5), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(rows, [np.degrees(d.since[-1]) for d in seen], label="since the reference")
    top.plot(rows, [np.degrees(d.step[-1]) for d in seen], label="with this slab")
    top.axhline(arguments.threshold, color="tab:red", linestyle="--", label="threshold")
    top.set(ylabel="largest angle, degrees")
    bottom.plot(rows, [100 * d.missed for d in seen], color="tab:green")
    bottom.set(xlabel="rows taken", ylabel="outside the modes, %", ylim=(0, 100))
    for axes in (top, bottom):
        for drift in seen:
            if drift.alarm:
                axes.axvline(drift.rows, color="tab:red", linewidth=0.8)
    top.legend()
    figure.savefig(arguments.folder / "drift.png", dpi=120)


if __name__ == "__main__":
    main()

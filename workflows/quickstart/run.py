"""EOFs of a real temperature record, and of an array larger than memory, in about a minute.

python workflows/quickstart/run.py [--folder quickstart-output] [--gigabytes 1.5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import leptonhpc as lh
from leptonhpc import datasets, errors

console = Console()


def main() -> None:
    """Run both jobs and leave a picture of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("quickstart-output"))
    parser.add_argument("--gigabytes", type=float, default=1.5, help="size of the second array")
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    try:
        real_record(arguments.folder)
    except errors.DatasetError as error:
        console.print(f"[yellow]Skipped the real record: {error}")
    larger_than_memory(arguments.folder, arguments.gigabytes)


def real_record(folder: Path) -> None:
    """EOFs of yearly temperature over North America, 1860 to 2099 (Met Office, scenario E1)."""
    console.rule("1. A real record: temperature over North America, 1860 to 2099")
    path = folder / "e1.zarr"
    if not path.exists():
        datasets.fetch("met-office-e1", out=path)
    x = lh.open(path / "air_temperature")
    latitude = np.asarray(lh.open(path / "latitude"))
    # each grid cell counts by its area: the root of the cosine of its latitude
    weights = np.repeat(np.sqrt(np.cos(np.deg2rad(latitude))), x.shape[2])
    plan = lh.plan("svd", x.as_matrix(), rank=4, center=True, weights=weights)
    console.print(str(plan), highlight=False)
    r = plan.run()
    console.print(str(r.certificate), highlight=False)
    console.print(str(r.report), highlight=False)
    console.print(f"EOF 1 holds {100 * r.certificate.captured_each[0]:.1f} % of the variance")
    draw_modes(r, x.shape[1:], weights, folder / "e1.png", "Met Office E1, yearly temperature")


def larger_than_memory(folder: Path, gigabytes: float) -> None:
    """EOFs of a simulated monthly field with 300 MB of memory, libraries included."""
    lats, lons = 90, 180
    times = 12 * int(gigabytes * 1e9 / (4 * lats * lons) / 12)
    console.rule(f"2. {gigabytes:g} GB in 300 MB: {times} months on {lats} x {lons} cells")
    path = folder / f"climate-{times}.zarr"
    if not path.exists():
        with console.status("simulating the field"):
            datasets.fetch("simulated-climate", out=path, times=times, lats=lats, lons=lons)
    x = lh.open(path / "temperature").as_matrix()
    plan = lh.plan("svd", x, rank=6, center=True, memory="300 MB")
    console.print(str(plan), highlight=False)
    r = plan.run(out=folder / "climate-svd.zarr", overwrite=True)
    console.print(str(r.certificate), highlight=False)
    console.print(str(r.report), highlight=False)
    draw_modes(r, (lats, lons), np.ones(lats * lons), folder / "climate.png", "Simulated climate")
    console.print(
        f"\nThe result is in {folder / 'climate-svd.zarr'}; again with: leptonhpc.load(...)"
    )


def draw_modes(
    r: lh.SvdResult, shape: tuple[int, ...], weights: NDArray[np.float64], path: Path, title: str
) -> None:
    """Draw the first three modes: map on top, time series below."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    patterns = np.asarray(r.vh)[:3] / weights
    series = np.asarray(r.u)[:, :3] * r.s[:3]
    figure, axes = plt.subplots(2, 3, figsize=(13, 6), layout="constrained")
    for mode, (top, bottom) in enumerate(axes.T):
        field = patterns[mode].reshape(shape)
        limit = np.abs(field).max()
        # row 0 is the southernmost latitude in some records, the northernmost in others
        top.imshow(field, cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower", aspect="auto")
        share = 100 * r.certificate.captured_each[mode]
        top.set(title=f"EOF {mode + 1}: {share:.1f} %", xticks=[], yticks=[])
        bottom.plot(series[:240, mode], linewidth=0.8)
        bottom.set(xlabel="time step")
    axes[1, 0].set(ylabel="score")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    console.print(f"picture: {path}")


if __name__ == "__main__":
    main()

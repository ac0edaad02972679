"""EOFs of a climate field, from file to figure.

python run.py                                       Pacific sea surface temperature, fetched once
python run.py --data sst.nc --variable sst          a field of yours: netCDF, GRIB or Zarr
python run.py --simulate 4 --memory "1 GB"          4 GB of simulated temperature in 1 GB of memory
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import xarray as xr

from leptonhpc import climate, datasets, errors


def main() -> None:
    """Find the modes, store them, and draw them as they are and rotated."""
    chosen = arguments()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    data, variable = field(chosen)
    modes = climate.eof(
        data,
        chosen.modes,
        variable=variable,
        anomalies=chosen.anomalies,
        detrend=chosen.detrend,
        memory=chosen.memory,
        out=chosen.folder / "eofs.zarr",
        overwrite=chosen.overwrite,
    )
    show(modes)
    climate.plot_eof(modes).savefig(chosen.folder / "eofs.png")
    climate.plot_scree(modes).savefig(chosen.folder / "scree.png")
    rotated = climate.rotate(modes.load())
    climate.plot_eof(rotated, title="After varimax rotation").savefig(chosen.folder / "rotated.png")
    print(f"eofs.zarr, eofs.png, scree.png and rotated.png are in {chosen.folder}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a Zarr group, a netCDF or GRIB file, or 'files-*.nc'")
    parser.add_argument("--variable", help="which, if there are several")
    parser.add_argument("--simulate", type=float, metavar="GB", help="a field of this size")
    parser.add_argument("--modes", type=int, default=10)
    parser.add_argument("--anomalies", choices=["season", "month", "dayofyear", "hour"])
    parser.add_argument("--detrend", type=int, default=0, metavar="DEGREE")
    parser.add_argument("--memory", help="budget of each worker, such as '2 GB'")
    parser.add_argument("--overwrite", action="store_true", help="replace modes found before")
    parser.add_argument("--folder", type=Path, default=Path("climate-eof-output"))
    return parser.parse_args()


def field(chosen: argparse.Namespace) -> tuple[str | Path, str | None]:
    """Give where the field is, fetched or simulated if none is named, and its variable."""
    if chosen.data is not None:
        return chosen.data, chosen.variable
    if chosen.simulate is not None:
        lats, lons = 90, 180
        times = max(24, int(chosen.simulate * 1e9 / (4 * lats * lons)))
        path = chosen.folder / f"simulated-{times}.zarr"
        if not path.exists():
            datasets.fetch("simulated-climate", out=path, times=times, lats=lats, lons=lons)
        return path, "temperature"
    path = chosen.folder / "pacific-sst.zarr"
    if not path.exists():
        datasets.fetch("pacific-sst", out=path)
    return path, "sst"


def show(modes: xr.Dataset) -> None:
    """Print what each mode holds, and how it was found."""
    print(f"{'mode':>4}  {'variance':>10}  {'eigenvalue':>11}  {'North error':>11}")
    for mode in modes["mode"].values:
        one = modes.sel(mode=mode)
        share = 100 * float(one.variance_fraction)
        numbers = float(one.eigenvalues), float(one.north_errors)
        print(f"{mode:>4}  {share:>8.4f} %  {numbers[0]:>11.5g}  {numbers[1]:>11.5g}")
    certificate, report = (json.loads(modes.attrs[name]) for name in ("certificate", "report"))
    print(
        f"{certificate['method']}, {certificate['passes']:.3g} passes, {report['seconds']:.1f} s, "
        f"peak {report['peak_nbytes'] / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    try:
        main()
    except errors.LeptonError as error:
        raise SystemExit(f"run.py: {error}") from error

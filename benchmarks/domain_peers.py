"""Climate and genomics: each contestant as its own pages advise for data larger than memory."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from measure import Timer
from peers import Contestant


def eof_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Stream the field within the budget."""
    from leptonhpc.climate import eof

    with timer:
        found = eof(
            options["x"], options["modes"], variable="t", weights="coslat",
            memory=options["memory"], progress=False,
        )  # fmt: skip
        eofs, s = found.eofs.values, found.singular_values.values
    return _kept(options, eofs, s)


def eof_xeofs(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Chunks of Dask, randomised, on threads."""
    import dask
    import xarray as xr
    import xeofs

    with timer, dask.config.set(scheduler="threads", num_workers=options["cores"]):
        field = xr.open_zarr(options["x"])["t"]
        model = xeofs.single.EOF(
            n_modes=options["modes"], use_coslat=True, check_nans=True, solver="randomized",
            random_state=0,
        )  # fmt: skip
        model.fit(field, dim="time")
        eofs = model.components().transpose("mode", "lat", "lon").values
        s = model.singular_values().values
    return _kept(options, eofs, s)


def _kept(options: dict[str, Any], eofs: Any, s: Any) -> dict[str, Any]:
    place = Path(options["answers"]) / f"modes-{abs(hash(options['scratch'])):x}.npz"
    np.savez(place, eofs=np.asarray(eofs), s=np.asarray(s, dtype="f8"))
    return {"modes": str(place)}


def pca_leptonhpc(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Read the .bed block by block; the whole relationship matrix of the samples is made."""
    from leptonhpc.genomics import pca

    with timer:
        found = pca(
            f"{options['bed']}.bed", components=options["components"], method="exact",
            precision=options["precision"], memory=options["memory"], progress=False,
        )  # fmt: skip
        values = found.sample_pca_eigenvalue.values
    return {"s": values.tolist()}


def pca_plink(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Run plink2 as a user does, on the same cores."""
    out = Path(options["scratch"]) / "plink"
    command = [
        "plink2", "--bfile", options["bed"], "--pca", str(options["components"]),
        *options["plink"], "--threads", str(options["cores"]), "--out", str(out),
    ]  # fmt: skip
    with timer:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout[-500:] + done.stderr[-500:])
    return {"s": np.loadtxt(f"{out}.eigenval").tolist()}


def pca_plink_approx(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Run its randomized method."""
    return pca_plink({**options, "plink": ["approx"]}, timer)


def pca_plink_exact(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Run its exact method."""
    return pca_plink({**options, "plink": []}, timer)


CONTESTANTS = {
    ("eof", "leptonhpc"): Contestant(eof_leptonhpc, needs=("xarray",)),
    ("eof", "xeofs"): Contestant(eof_xeofs, needs=("xeofs", "xarray")),
    ("genotypes", "leptonhpc"): Contestant(pca_leptonhpc, needs=("xarray",)),
    ("genotypes", "plink2-approx"): Contestant(pca_plink_approx),
    ("genotypes", "plink2-exact"): Contestant(pca_plink_exact),
}

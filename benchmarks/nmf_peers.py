"""Non-negative factorisation of a tall Zarr array, from the same kind of start."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from measure import Timer
from peers import Contestant


def nmf_leptonhpc(options: dict[str, Any], timer: Timer, method: str = "sweeps") -> dict[str, Any]:
    """Stream the array within the budget: extrapolated HALS."""
    import leptonhpc as lh

    with timer, warnings.catch_warnings(action="ignore"):
        r = lh.nmf(
            options["x"], rank=options["rank"], init="nndsvd", method=method,
            memory=options["memory"], progress=False,
        )  # fmt: skip
        w, h = np.asarray(r.w), np.asarray(r.h)
    report = r.report
    told = {name: getattr(report, name) for name in ("read_nbytes", "passes", "peak_nbytes")}
    return {**_kept(options, w, h), **told, "iterations": r.certificate.sweeps}


def nmf_compressed(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Sweep over the leading modes, and read the array once more."""
    return nmf_leptonhpc(options, timer, "compressed")


def nmf_sklearn(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Read all of it, then coordinate descent."""
    import zarr
    from sklearn.decomposition import NMF

    with timer, warnings.catch_warnings(action="ignore"):
        model = NMF(options["rank"], init="nndsvd", random_state=0)
        w = model.fit_transform(zarr.open_array(options["x"], mode="r")[...])
        h = model.components_
    return {**_kept(options, w, h), "iterations": int(model.n_iter_)}


def nmf_sklearn_minibatch(options: dict[str, Any], timer: Timer) -> dict[str, Any]:
    """Read all of it, then multiplicative updates of batches."""
    import zarr
    from sklearn.decomposition import MiniBatchNMF

    with timer, warnings.catch_warnings(action="ignore"):
        model = MiniBatchNMF(options["rank"], init="nndsvda", random_state=0)
        w = model.fit_transform(zarr.open_array(options["x"], mode="r")[...])
        h = model.components_
    return {**_kept(options, w, h), "iterations": int(model.n_iter_)}


def _kept(options: dict[str, Any], w: Any, h: Any) -> dict[str, Any]:
    place = Path(options["answers"]) / f"factors-{abs(hash(options['scratch'])):x}.npz"
    np.savez(place, w=w, h=h)
    return {"modes": str(place)}


CONTESTANTS: dict[tuple[str, str], Contestant] = {
    ("nmf", "leptonhpc"): Contestant(nmf_leptonhpc),
    ("nmf", "leptonhpc-compressed"): Contestant(nmf_compressed),
    ("nmf", "sklearn"): Contestant(nmf_sklearn, ("sklearn",)),
    ("nmf", "sklearn-minibatch"): Contestant(nmf_sklearn_minibatch, ("sklearn",)),
}

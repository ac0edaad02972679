"""Rotated EOFs: modes of simple structure, varimax [1]_ and promax [2]_.

Loadings L = E sqrt(eigenvalue) and standardised scores U hold the truncated field as U L^T. With
any regular T it is (U T) (L T^-T)^T too; the rotation is chosen so that few loadings are large.

References
----------
.. [1] H. F. Kaiser, The varimax criterion for analytic rotation in factor analysis, Psychometrika
   23, 187-200, 1958.
.. [2] A. E. Hendrickson, P. O. White, Promax: a quick method for rotation to oblique simple
   structure, Brit. J. Stat. Psych. 17, 65-70, 1964.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from leptonhpc.api.destinations import Destination
from leptonhpc.climate.parts import field_names, part, require_modes, require_whole, sample_dim
from leptonhpc.errors import NotConvergedWarning, OptionError

if TYPE_CHECKING:
    import xarray as xr


def rotate(
    modes: xr.Dataset,
    n_modes: int | None = None,
    *,
    method: Literal["varimax", "promax"] = "varimax",
    power: int = 4,
    kaiser: bool = False,
    tol: float = 1e-10,
    most_iterations: int = 1000,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> xr.Dataset:
    """Rotate EOFs towards simple structure.

    Parameters
    ----------
    modes : Dataset
        A result of `eof`, of real data, not rotated.
    n_modes : int, optional
        Rotate the first of them; default all.
    method : {"varimax", "promax"}
        Orthogonal: scores stay uncorrelated. Oblique: they need not be.
    power : int
        Of promax: loadings are brought near their own power; 1 is varimax.
    kaiser : bool
        Give each cell the same weight while the rotation is sought, as xeofs does.
    tol : float
        Varimax stops when its criterion grows by less than this share.
    most_iterations : int
        When it gives up, with a warning.
    out : str or path, optional
        A Zarr group (.zarr) or netCDF file (.nc) to be made.
    overwrite : bool
        Replace what is at `out`.

    Returns
    -------
    Dataset
        As `eof` gives it, modes ordered by variance: ``eofs`` of length one (no longer orthogonal),
        ``pcs``, ``eigenvalues`` and ``variance_fraction`` of the rotated modes, and ``rotation``,
        the matrix that standardised scores are multiplied by.

    Raises
    ------
    OptionError
        If there are fewer modes, they are complex or rotated already, or an option makes no sense.
    OutputExistsError
        If `out` is taken.

    Warns
    -----
    NotConvergedWarning
        If varimax did not settle.

    Notes
    -----
    The loadings (cells by modes) are held in memory. The modes together hold the same field as
    before, and the variance of uncorrelated ones adds up to the same.
    """
    destination = Destination(out, overwrite=overwrite)
    _check(modes, n_modes, method, power, most_iterations)
    modes = modes.transpose("mode", ...)
    chosen = modes.isel(mode=slice(n_modes))
    deviation = np.sqrt(chosen.eigenvalues.values)
    loadings = _flat(chosen) * deviation
    turned, r = _varimax(loadings, kaiser=kaiser, tol=tol, most=most_iterations)
    if method == "promax":
        turned, r = _promax(turned, r, power)
    units = np.asarray(chosen.pcs.transpose(sample_dim(modes), "mode").values) / deviation @ r
    lengths = np.linalg.norm(turned, axis=0)
    order = np.argsort(lengths)[::-1]
    turned, lengths, r = turned[:, order], lengths[order], r[:, order]
    # the largest entry of each is positive
    signs = np.sign(turned[np.abs(turned).argmax(axis=0), np.arange(len(lengths))])
    found = _dataset(
        chosen, turned * signs / lengths, units[:, order] * signs * lengths, lengths**2, r * signs,
        method=method,
    )  # fmt: skip
    return found if out is None else destination.keep(found)


def _check(
    modes: xr.Dataset, n_modes: int | None, method: str, power: int, most_iterations: int
) -> None:  # fmt: skip
    require_modes(modes)
    require_whole(n_modes=n_modes, most_iterations=most_iterations)
    if most_iterations < 1:
        raise OptionError(f"most_iterations is at least 1; found {most_iterations}")
    if "rotation" in modes.attrs:
        message = f"these EOFs are rotated already, by {modes.attrs['rotation']}"
        raise OptionError(f"{message}. Rotate what eof gave")
    if modes.pcs.dtype.kind == "c":
        raise OptionError("rotation is for real EOFs; these are complex")
    there = modes.sizes["mode"]
    if not 2 <= (there if n_modes is None else n_modes) <= there:
        raise OptionError(f"n_modes is from 2 to {there}, the modes there are; found {n_modes}")
    if method not in ("varimax", "promax"):
        raise OptionError(f"method is 'varimax' or 'promax'; found {method!r}")
    if not 1 <= power <= 20:
        raise OptionError(f"power is from 1 to 20; found {power}")


def _flat(modes: xr.Dataset) -> NDArray[np.float64]:
    """Give EOFs of all fields as (cells, modes), without land."""
    parts = [part(modes, "eofs", name).values for name in field_names(modes)]
    flat = np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1).T
    return np.asarray(flat[~np.isnan(flat[:, 0])], dtype=np.float64)


def _varimax(
    loadings: NDArray[np.float64], *, kaiser: bool, tol: float, most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maximise the variance of squared loadings over orthogonal R, by its polar iteration."""
    lengths = np.linalg.norm(loadings, axis=1, keepdims=True) if kaiser else 1.0
    a = loadings / np.where(np.asarray(lengths) > 0, lengths, 1)
    r, before = np.eye(a.shape[1]), 0.0
    for _ in range(most):
        b = a @ r
        gradient = a.T @ (b**3 - b * np.mean(b**2, axis=0))
        u, s, vh = np.linalg.svd(gradient)
        r = u @ vh
        if s.sum() <= before * (1 + tol):
            return loadings @ r, r
        before = float(s.sum())
    message = (
        f"varimax did not settle in {most} iterations; a larger tol= or most_iterations= would"
    )
    warnings.warn(message, NotConvergedWarning, stacklevel=3)
    return loadings @ r, r


def _promax(
    loadings: NDArray[np.float64], r: NDArray[np.float64], power: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bring L P near sign(L) |L|^power by least squares; factors keep variance one."""
    target = loadings * np.abs(loadings) ** (power - 1)
    p = np.linalg.lstsq(loadings, target, rcond=None)[0]
    p = p * np.sqrt(np.diag(np.linalg.inv(p.T @ p)))
    return loadings @ p, r @ np.linalg.inv(p).T


def _dataset(
    modes: xr.Dataset, eofs: NDArray[Any], pcs: NDArray[Any], variances: NDArray[Any],
    rotation: NDArray[Any], *, method: str,
) -> xr.Dataset:  # fmt: skip
    dim = sample_dim(modes)
    kept = modes.drop_vars(("singular_values", "north_errors"))
    found: dict[str, Any] = {}
    begin = 0
    for name in field_names(modes):
        old = part(modes, "eofs", name)
        flat = np.full((len(variances), old.size // len(variances)), np.nan)
        sea = ~np.isnan(old.values.reshape(flat.shape)[0])
        flat[:, sea] = eofs[begin : begin + int(sea.sum())].T
        begin += int(sea.sum())
        found[str(old.name)] = old.copy(data=flat.reshape(old.shape)).assign_attrs(
            long_name=f"EOFs rotated by {method}"
        )
    found["pcs"] = modes.pcs.transpose(dim, "mode").copy(data=pcs)
    found["eigenvalues"] = modes.eigenvalues.copy(data=variances)
    share = variances / float(modes.total_variance)
    found["variance_fraction"] = modes.variance_fraction.copy(data=share)
    text = {"long_name": "what standardised scores are multiplied by"}
    found["rotation"] = (("unrotated", "mode"), rotation, text)
    return kept.assign(found).assign_attrs(rotation=method)

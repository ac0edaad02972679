"""Where a result goes: memory, a Zarr group or a netCDF file, whole or not at all."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from leptonhpc import store
from leptonhpc.errors import OptionError, OutputExistsError

if TYPE_CHECKING:
    import xarray as xr

_ZARR, _NETCDF = ".zarr", (".nc", ".nc4")


class Destination:
    """The place of a result.

    Parameters
    ----------
    out : str, path or None
        The place; None: memory.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    OptionError
        If the name does not say which format.
    OutputExistsError
        If something is there.
    """

    def __init__(self, out: str | os.PathLike[str] | None, *, overwrite: bool) -> None:
        self._out = None if out is None else os.fspath(out).rstrip("/")
        self._overwrite = overwrite
        if self._out is None:
            if overwrite:
                raise OptionError("overwrite= is about an output; give out=")
            return
        if not self._out.endswith((_ZARR, *_NETCDF)):
            message = f"out ends in .zarr or .nc, which says its format; found {self._out!r}"
            raise OptionError(message)
        if not overwrite and store.exists(self._out):
            message = f"{self._out!r} exists; pass overwrite=True or choose another output"
            raise OutputExistsError(message)

    @property
    def scratch(self) -> str | None:
        """Where the matrices of a decomposition are kept until the result is written."""
        return None if self._out is None else f"{self._out}.svd"

    def keep(self, dataset: xr.Dataset) -> xr.Dataset:
        """Write a result, and give it as it is stored.

        Parameters
        ----------
        dataset : Dataset
            The result, in memory or lazy.

        Returns
        -------
        Dataset
            The same; from a Zarr group lazily.
        """
        import xarray as xr

        if self._out is None:
            return dataset.load()
        partial = f"{self._out}.partial"
        store.remove(partial)
        if self._out.endswith(_ZARR):
            with warnings.catch_warnings():
                # what xarray opens without a word; Zarr's own specification has it not yet
                warnings.filterwarnings("ignore", message="Consolidated metadata is currently not")
                _uniform(dataset).to_zarr(partial, consolidated=True, zarr_format=3)
            store.publish(partial, self._out, overwrite=self._overwrite)
        else:
            dataset.to_netcdf(partial)
            os.replace(partial, self._out)
        if self.scratch is not None:
            store.remove(self.scratch)
        if self._out.endswith(_ZARR):
            stored: xr.Dataset = xr.open_zarr(self._out)
            return stored
        return xr.load_dataset(self._out)


def _uniform(dataset: xr.Dataset) -> xr.Dataset:
    """Give all chunks of a lazy variable one length, as Zarr has them."""
    lazy = {name: v for name, v in dataset.variables.items() if v.chunks is not None}
    found = {
        name: v.chunk({dim: max(lengths) for dim, lengths in v.chunksizes.items()})
        for name, v in lazy.items()
    }
    return dataset.assign(found)

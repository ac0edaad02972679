"""Where a result goes: memory, a Zarr group or a netCDF file, whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from leptonhpc import store
from leptonhpc.errors import OptionError, OutputExistsError, StoreError

if TYPE_CHECKING:
    import xarray as xr

_ZARR, _NETCDF = ".zarr", (".nc", ".nc4")
_MARK = "leptonhpc_unfinished"


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
        If something is there, or something else is where the output would be made.
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
        self._require_own_places()

    @property
    def scratch(self) -> str | None:
        """Where the matrices of a decomposition are kept until the result is written."""
        return None if self._out is None else f"{self._out}.svd"

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Say of a finished decomposition of other options what it is."""
        try:
            yield
        except OutputExistsError as error:
            if self.scratch is None or not _is_svd(_attributes(self.scratch)):
                raise
            message = (
                f"{self.scratch!r} was left by an unfinished call with other data or options; make "
                "that call again to go on with it, pass overwrite=True to begin anew, or choose "
                "another output"
            )
            raise OutputExistsError(message) from error

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
        if self._out.endswith(_ZARR):
            partial = f"{self._out}.partial"
            self._require_own_places()
            store.remove(partial)
            # the mark is there before anything else, so that what is left of a stop is known
            store.create_group(partial, attributes={_MARK: True})
            with warnings.catch_warnings():
                # what xarray opens without a word; Zarr's own specification has it not yet
                warnings.filterwarnings("ignore", message="Consolidated metadata is currently not")
                _uniform(dataset).to_zarr(partial, mode="a", consolidated=True, zarr_format=3)
            store.publish(partial, self._out, overwrite=self._overwrite)
        else:
            self._keep_netcdf(dataset)
        if self.scratch is not None:
            store.remove(self.scratch)
        if self._out.endswith(_ZARR):
            stored: xr.Dataset = xr.open_zarr(self._out)
            return stored
        return xr.load_dataset(self._out)

    def _require_own_places(self) -> None:
        """Refuse what this package did not make where it would make, and remove, its own."""
        if self._out is None:
            return
        own = (_is_mark, _is_svd)
        for place, is_own in zip((f"{self._out}.partial", self.scratch), own, strict=True):
            if place is not None and store.exists(place) and not is_own(_attributes(place)):
                message = (
                    f"{place!r}, where the output would be made, is something else; move it, or "
                    "choose another output"
                )
                raise OutputExistsError(message)

    def _keep_netcdf(self, dataset: xr.Dataset) -> None:
        assert self._out is not None
        partial = f"{self._out}.{uuid4().hex[:8]}.partial"
        try:
            dataset.to_netcdf(partial)
            if not self._overwrite and store.exists(self._out):
                message = f"{self._out!r} appeared meanwhile; pass overwrite=True or choose another"
                raise OutputExistsError(message)
            os.replace(partial, self._out)
        finally:
            if os.path.exists(partial):
                os.remove(partial)


def _attributes(place: str) -> Mapping[str, Any]:
    try:
        return store.read_attributes(place)
    except StoreError:
        return {}


def _is_mark(attributes: Mapping[str, Any]) -> bool:
    # xarray puts those of the result in the place of the mark
    return _MARK in attributes or {"certificate", "report", "fields"} <= set(attributes)


def _is_svd(attributes: Mapping[str, Any]) -> bool:
    return attributes.get("driver") == "svd" and "certificate" in attributes


def _uniform(dataset: xr.Dataset) -> xr.Dataset:
    """Give all chunks of a lazy variable one length, as Zarr has them."""
    lazy = {name: v for name, v in dataset.variables.items() if v.chunks is not None}
    found = {
        name: v.chunk({dim: max(lengths) for dim, lengths in v.chunksizes.items()})
        for name, v in lazy.items()
    }
    return dataset.assign(found)

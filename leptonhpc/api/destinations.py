"""Where a dataset goes: memory, a Zarr group or a netCDF file, whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import leptonhpc
from leptonhpc import store
from leptonhpc.api.outputs import FORMAT
from leptonhpc.errors import NotAnArrayError, OptionError, OutputExistsError, StoreError
from leptonhpc.store.locations import Location, describe, is_local, local_path
from leptonhpc.store.making import MARK, require_no_maker

if TYPE_CHECKING:
    import xarray as xr

_ZARR, _NETCDF = ".zarr", (".nc", ".nc4")
MADE_BY = "leptonhpc"
"""Attribute of a finished dataset: the version that made it."""

Scratch = Literal["svd", "blocks", "product"]


class Destination:
    """The place of a result.

    Parameters
    ----------
    out : str, path or None
        The place; None: memory.
    overwrite : bool
        Replace what is there.
    scratch : {"svd", "blocks", "product"}
        What is kept beside the place until the result is written: a decomposition, the blocks of a
        pass, or a product, so that the same call goes on after a stop.

    Raises
    ------
    OptionError
        If the name does not say which format.
    OutputExistsError
        If something is there, or something else is where the output would be made.
    """

    def __init__(
        self, out: str | os.PathLike[str] | None, *, overwrite: bool, scratch: Scratch = "svd"
    ) -> None:
        self._kind = scratch
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
        """Where what a stopped call goes on from is kept until the result is written."""
        return None if self._out is None else f"{self._out}.{self._kind}"

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Say of what another unfinished call left what it is."""
        try:
            yield
        except OutputExistsError as error:
            if self.scratch is None or not self._is_scratch(attributes_at(self.scratch)):
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

        dataset = dataset.assign_attrs({MADE_BY: leptonhpc.__version__})
        if self._out is None:
            return dataset.load()
        if self._out.endswith(_ZARR):
            with (
                store.being_made(self._out, overwrite=self._overwrite) as place,
                warnings.catch_warnings(),
            ):
                # what xarray opens without a word; Zarr's own specification has it not yet
                warnings.filterwarnings("ignore", message="Consolidated metadata is currently not")
                _storable(dataset).to_zarr(place, mode="w-", consolidated=True, zarr_format=3)
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
        require_no_maker(self._out)
        place = self.scratch
        if place is not None and store.exists(place):
            if self._is_scratch(attributes_at(place)):
                return
            message = (
                f"{place!r}, where the output would be made, is something else; move it, or "
                "choose another output"
            )
            raise OutputExistsError(message)

    def _is_scratch(self, attributes: Mapping[str, Any]) -> bool:
        if self._kind == "blocks":
            return MARK in attributes
        driver = {"svd": "svd", "product": "matmul"}[self._kind]
        return attributes.get("driver") == driver and "certificate" in attributes

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


def attributes_of_result(location: Location) -> dict[str, Any]:
    """Give the attributes of what a driver stored.

    Parameters
    ----------
    location : str or path
        The finished result.

    Returns
    -------
    dict
        Its attributes.

    Raises
    ------
    NotAnArrayError
        If it is something else; of what is known it is said what opens it.
    """
    name = describe(location)
    if is_local(location) and local_path(location).is_file():
        message = (
            f"{name!r} is not a result of leptonhpc, but a file; if it is netCDF, "
            "xarray.open_dataset reads it"
        )
        raise NotAnArrayError(message)
    attributes = store.read_attributes(location)
    if attributes.get("format") == FORMAT:
        return attributes
    message = f"{name!r} is not a result of leptonhpc"
    if MADE_BY in attributes:
        message = (
            f"{name!r} is a Dataset that leptonhpc made, which xarray.open_zarr reads; its "
            "attributes have what load and report show of results of drivers"
        )
    raise NotAnArrayError(message)


def attributes_at(place: str) -> Mapping[str, Any]:
    """Give the attributes of a group or array.

    Parameters
    ----------
    place : str
        Path or URL.

    Returns
    -------
    mapping
        Empty where there is none, or something else.
    """
    try:
        return store.read_attributes(place)
    except StoreError:
        return {}


def _storable(dataset: xr.Dataset) -> xr.Dataset:
    """Give all chunks of a lazy variable one length, as Zarr has them, and text of any length."""
    lazy = {name: v for name, v in dataset.variables.items() if v.chunks is not None}
    found: dict[Any, Any] = {
        name: v.chunk({dim: max(lengths) for dim, lengths in v.chunksizes.items()})
        for name, v in lazy.items()
    }
    # Zarr's specification has no text of fixed length
    text = {name: v for name, v in dataset.variables.items() if v.dtype.kind == "U"}
    found |= {name: v.astype(object) for name, v in text.items()}
    return dataset.assign(found)

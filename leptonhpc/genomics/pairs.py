"""Matrices of pairs of samples: in memory, and in a Zarr array beside the products they are of."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.api import matmul
from leptonhpc.api import open as open_array
from leptonhpc.api.destinations import attributes_at
from leptonhpc.blocks import BlockedArray
from leptonhpc.errors import MemoryBudgetError, OptionError, OutputExistsError
from leptonhpc.genomics.extras import TABLES_NBYTES, Nbytes, beside_tables
from leptonhpc.genomics.genotypes import Genotypes, sample_variables
from leptonhpc.genomics.kept import refused_leaves_nothing
from leptonhpc.planning.amounts import parse_nbytes
from leptonhpc.runtime import connected_client, resources_of
from leptonhpc.store.locations import Location
from leptonhpc.store.making import require_no_maker

if TYPE_CHECKING:
    import xarray

Product = NDArray[Any] | BlockedArray
Band = Callable[[slice], NDArray[np.float64]]

_ITEM_NBYTES = 8
_BAND_NBYTES = 4 << 20


class PairsOutput:
    """Where a matrix of pairs goes, and the products that it is made of, until it is there.

    Parameters
    ----------
    out : str, path or None
        A Zarr array to be made; None: memory only.
    products : sequence of str
        What the products are called: ``OUT.NAME`` each.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    OptionError
        If `out` is no path or URL.
    OutputExistsError
        If something is there, or something else is where a product would be kept.
    """

    def __init__(self, out: Location | None, products: Sequence[str], *, overwrite: bool) -> None:
        self._out, self._overwrite = out, overwrite
        self._places: dict[str, str] = {}
        self._begun: list[str] = []
        self._held_nbytes = 0
        self._results: list[Any] = []
        if out is None:
            if overwrite:
                raise OptionError("overwrite= is about an output; give out=")
            return
        if not isinstance(out, str | os.PathLike):
            message = "out of a matrix of pairs is a path or URL: products are kept beside it"
            raise OptionError(f"{message}; found {type(out).__name__}")
        store.require_free(out, overwrite=overwrite)
        require_no_maker(out)
        for product in products:
            place = f"{os.fspath(out)}.{product}"
            if store.exists(place) and attributes_at(place).get("driver") != "matmul":
                message = f"{place!r}, where a product would be kept, is something else; move it"
                raise OutputExistsError(f"{message}, or choose another output")
            self._places[product] = place

    def product(
        self, name: str, a: BlockedArray, b: BlockedArray, *, memory: Nbytes, progress: bool | None
    ) -> Product:
        """Multiply, or take up a product of an earlier call.

        Parameters
        ----------
        name : str
            Of the product.
        a, b : BlockedArray
            The factors.
        memory : int, float, str or None
            Budget of each worker: what is held of earlier products comes off.
        progress : bool, optional
            Show a bar.

        Returns
        -------
        array or BlockedArray of shape (samples, samples)
            Where it fits: in memory, or stored.

        Raises
        ------
        MemoryBudgetError
            If there is no room, or none for the result where no `out` was given.
        """
        place = self._places.get(name)
        kept: dict[str, Any] = {}
        if place is not None:
            kept = {"out": place, "overwrite": self._overwrite}
            self._begun.append(place)
        square = a.shape[0] ** 2 * _ITEM_NBYTES
        # the result is made when the products are there
        later = self._held_nbytes + (square if self._out is None else 0)
        with (
            refused_leaves_nothing(self._begun),
            _beside(memory, self._held_nbytes, later, a.shape[0]) as rest,
        ):
            found = matmul(a, b, memory=rest, progress=progress, **kept)
        self._results.append(found)  # a temporary store is removed with its result
        if not isinstance(found.product, BlockedArray):
            self._held_nbytes += square
        return found.product

    def keep(
        self, cohort: Genotypes, name: str, products: Sequence[Product], band: Band
    ) -> xarray.Dataset:
        """Make the matrix band by band, forget the products, and give it with the samples' names.

        Parameters
        ----------
        cohort : Genotypes
            Whose samples they are.
        name : str
            Of the variable.
        products : sequence of array or BlockedArray
            What it is made of.
        band : callable
            Gives some rows of the matrix, of a slice.

        Returns
        -------
        xarray.Dataset
            The matrix: in memory, or where it is stored.
        """
        samples = cohort.shape[0]
        step = _band_rows(samples, products)
        bands = [slice(low, min(low + step, samples)) for low in range(0, samples, step)]
        if self._out is None:
            values = np.empty((samples, samples))
            for rows in bands:
                values[rows] = band(rows)
            return pairs_dataset(cohort, name, values)
        with (
            refused_leaves_nothing(self._begun),
            store.being_made(self._out, overwrite=self._overwrite, leave=False) as place,
        ):
            array = store.create_array(
                place, shape=(samples, samples), dtype=np.float64, chunks=(step, samples),
                dimension_names=("samples_0", "samples_1"),
            )  # fmt: skip
            for number, rows in enumerate(bands):
                array.write_units((number, 0), band(rows))
        for product in self._places.values():
            store.remove(product)
        return pairs_dataset(cohort, name, open_array(self._out).to_dask())


def _band_rows(samples: int, products: Sequence[Product]) -> int:
    """Give rows of a few megabytes; of stored products whole blocks, which are read once."""
    few = max(1, _BAND_NBYTES // (_ITEM_NBYTES * samples))
    stored = [x.chunks[0][0] for x in products if isinstance(x, BlockedArray)]
    return min(samples, max([few, *stored]))


@contextmanager
def _beside(memory: Nbytes, held: int, later: int, samples: int) -> Iterator[Nbytes]:
    """Give what a budget leaves beside matrices of pairs, which are in the caller's process."""
    budget = parse_nbytes(memory)
    if budget is None or connected_client() is not None:
        yield memory
        return
    way = "Give more, or out=: a stored matrix is not held"
    free = resources_of(budget).arrays_nbytes - TABLES_NBYTES
    if later > free:
        message = (
            f"matrices of pairs of {samples} samples take {later / 1e6:.0f} MB in memory; "
            f"memory={memory!r} leaves {max(0, free) / 1e6:.0f} MB beside what libraries take"
        )
        raise MemoryBudgetError(f"{message}. {way}")
    if not held:
        with beside_tables(budget) as rest:
            yield rest
        return
    try:
        with beside_tables(budget - held) as rest:
            yield rest
    except MemoryBudgetError as error:
        message = f"products of pairs that are held take {-(-held // 10**6)} MB of them too"
        raise MemoryBudgetError(f"{error}; {message}. {way}") from error


def pairs_dataset(cohort: Genotypes, name: str, values: Any) -> xarray.Dataset:
    """Give a matrix of pairs with the samples' names.

    Parameters
    ----------
    cohort : Genotypes
        Whose samples they are.
    name : str
        Of the variable.
    values : array of shape (samples, samples), NumPy or Dask
        The matrix.

    Returns
    -------
    xarray.Dataset
        ``NAME`` (samples_0, samples_1), and the names.
    """
    import xarray as xr

    return xr.Dataset(
        {name: (("samples_0", "samples_1"), values), **sample_variables(cohort.samples)},
        attrs={"source": cohort.name, "variants": cohort.shape[1]},
    )

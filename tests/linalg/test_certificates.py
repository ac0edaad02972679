"""Certificates hold Python's own numbers: stored and loaded they are the same."""

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import leptonhpc as lh

A = np.random.default_rng(0).standard_normal((40, 40))
S = A @ A.T + 40 * np.eye(40)
DRIVERS: dict[str, Callable[[], Any]] = {
    "matmul": lambda: lh.matmul(A, A),
    "matmul float32": lambda: lh.matmul(A.astype("f4"), A.astype("f4")),
    "norm": lambda: lh.norm(A),
    "svd": lambda: lh.svd(A, rank=3),
    "svd sketch": lambda: lh.svd(A, rank=3, method="sketch"),
    "eigh": lambda: lh.eigh(S),
    "cholesky": lambda: lh.cholesky(S),
    "lu": lambda: lh.lu(A),
    "qr": lambda: lh.qr(A),
    "solve": lambda: lh.solve(A, A[:, :2]),
    "lstsq": lambda: lh.lstsq(A[:, :9], A[:, 20]),
    "inv": lambda: lh.inv(A),
    "pinv": lambda: lh.pinv(A[:, :9]),
    "polar": lambda: lh.polar(A[:, :9]),
    "cond": lambda: lh.cond(A),
    "matrix_rank": lambda: lh.matrix_rank(A),
    "cg": lambda: lh.cg(S, A[:, 0]),
    "lsmr": lambda: lh.lsmr(A[:, :9], A[:, 20]),
    "nmf": lambda: lh.nmf(np.abs(A), rank=2),
}


@pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")
@pytest.mark.parametrize("name", list(DRIVERS))
def test_a_certificate_is_the_same_when_it_was_written_down(name: str) -> None:
    certificate = DRIVERS[name]().certificate
    said = certificate.to_dict()
    assert type(certificate.converged) is bool
    assert json.loads(json.dumps(said)) == {
        key: list(value) if isinstance(value, tuple) else value for key, value in said.items()
    }


@pytest.mark.parametrize("name", ["svd", "lu", "solve"])
def test_lines_of_a_certificate_have_their_values_in_one_column(name: str) -> None:
    _, *lines = str(DRIVERS[name]().certificate).splitlines()
    starts = [re.match(r"  \S.*?\s{2,}(?=\S)", line) for line in lines]
    assert "computed" in lines[-1]
    assert len({start.end() for start in starts if start is not None}) == 1

"""The kernels of QR: every device factors, and Gram matrices are of what is written."""

from typing import Any

import numpy as np
import pytest

from leptonhpc.kernels import table
from leptonhpc.linalg import qr_tall

from .systems import draw as gaussian

DTYPES = ["float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (30, 30)])
def test_kernels_of_every_device_factor(device: str, dtype: str, shape: tuple[int, int]) -> None:
    kernels, (m, n), k = table(device), shape, min(shape)
    a, edges = gaussian(shape, dtype), (*range(0, n, 9), n)
    small: dict[str, Any] = {
        "dtype": np.dtype(dtype), "seed": 1, "name": "a", "columns": n, "edges": edges,
        "place": None,
    }  # fmt: skip
    packed, done = np.zeros(shape, dtype), []
    for c0, c1 in zip(edges, edges[1:], strict=False):
        at = ((0, m), (c0, c1))
        acc = kernels["load"].begin(small, at)
        kernels["load"].step(acc, [a[:, c0:c1]], small, at)
        for (b0, b1), earlier in done:
            for s, e in ((b0, min(b0 + 5, b1, m)), (min(b0 + 5, b1, m), min(b1, m))):
                told = {**small, "needed": [earlier]}
                kernels["update_geqrf"].step(acc, [packed[s:, s:e].copy()], told, ((s, m), (s, e)))
        packed[:, c0:c1] = kernels["geqrf"].finish(acc, small, at)
        done.append(((c0, c1), acc))
    total = {key: sum(acc[key] for _, acc in done) for key in ("taus", "diagonal", "expected")}
    small |= {"taus": total["taus"], "signs": np.where(total["diagonal"].real < 0, -1, 1)}
    at = ((0, m), (0, k))
    acc = kernels["form_q"].begin(small, at)
    for s in reversed(range(0, k, 7)):
        e = min(s + 7, k)
        kernels["form_q"].step(acc, [packed[s:, s:e].copy()], small, ((s, m), (s, e)))
    q = kernels["form_q"].finish(acc, small, at)
    assert q is not None
    small |= {"left": acc["left"], "expected": total["expected"]}
    at = ((0, k), (0, n))
    acc = kernels["unpack_r"].begin(small, at)
    kernels["unpack_r"].step(acc, [packed[:k]], small, at)
    r = kernels["unpack_r"].finish(acc, small, at)
    assert r is not None
    allowed = 8 * (k + m**0.5) * np.finfo(dtype).eps
    assert np.linalg.norm(q @ r - a) <= allowed * np.linalg.norm(a)
    assert np.linalg.norm(q.conj().T @ q - np.eye(k)) <= k**0.5 * allowed
    assert acc["hypot_defect"] <= 2 * allowed * np.linalg.norm(a)


@pytest.mark.parametrize("device", ["host", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_solved_gram_is_that_of_a_times_the_inverse_triangles(device: str, dtype: str) -> None:
    a = gaussian((70, 8), dtype)
    wide = np.result_type(dtype, np.float64)
    triangles = [np.triu(gaussian((8, 8), wide.name, s)) + 4 * np.eye(8) for s in (1, 2)]
    kernel, bands = table(device)["solved_gram"], ((0, 33), (33, 70))
    small = {
        "dtype": np.dtype(dtype), "wide": wide, "seed": 0, "name": "a", "columns": 8, "tile": 16,
        "factors": triangles, "first": True, "write": True, "basis": None, "turn": None,
    }  # fmt: skip
    acc = kernel.begin(small, ())
    out = [kernel.step(acc, [a[p:q]], small, ((p, q), (0, 8))) for p, q in bands]
    x = np.concatenate([o for o in out if o is not None])
    expected = a.astype(wide) @ np.linalg.inv(triangles[0]) @ np.linalg.inv(triangles[1])
    eps = float(np.finfo(dtype).eps)
    assert np.linalg.norm(x - expected) <= 64 * eps * np.linalg.norm(expected)
    gram = x.astype(wide).conj().T @ x.astype(wide)  # of what is written
    assert np.linalg.norm(np.tril(acc["gram"] - gram)) <= 1e-14 * np.linalg.norm(gram)


def test_the_shift_is_no_larger_than_it_must_be() -> None:
    exact = np.ones((6, 6))  # of rank one: no factor without a shift
    r = qr_tall._cholesky(exact)
    assert 0 < np.linalg.norm(r.conj().T @ r - exact) <= 64 * 6 * np.finfo(float).eps * 6
    assert np.array_equal(qr_tall._cholesky(np.eye(3)), np.eye(3))

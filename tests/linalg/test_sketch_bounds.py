"""What one pass says of each of its modes: bounds that hold, that are near, and that decide."""

import numpy as np
import pytest

import leptonhpc as lh
from leptonhpc.errors import NotConvergedWarning
from leptonhpc.testing import matrix_with_spectrum, spectrum

SPECTRA = {
    "fast": 0.3 ** np.arange(60.0),
    "slow": spectrum("slow", 60),
    "flat": np.ones(60),
    "four": np.r_[np.ones(4), np.zeros(56)],
    "zero": np.zeros(60),
}
pytestmark = pytest.mark.filterwarnings("ignore::leptonhpc.errors.NotConvergedWarning")


def measured(a: np.ndarray, r: lh.SvdResult) -> np.ndarray:
    """Give the larger residual of each mode."""
    u, s, vh = (np.asarray(x, np.result_type(x, float)) for x in (r.u, r.s, r.vh))
    wide = a.astype(np.result_type(a, float))
    left = np.linalg.norm(wide.conj().T @ u - vh.conj().T * s, axis=0)
    return np.maximum(left, np.linalg.norm(wide @ vh.conj().T - u * s, axis=0))


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize(
    ("dtype", "shape", "center"),
    [(np.float32, (120, 60), False), (np.float64, (60, 120), True), (complex, (120, 60), True)],
)
def test_the_residual_of_every_mode_is_within_its_bound(
    name: str, dtype: type, shape: tuple[int, int], center: bool
) -> None:
    for seed in range(3):
        a = matrix_with_spectrum(shape, SPECTRA[name], dtype=dtype, seed=seed)
        r = lh.svd(a, rank=6, method="sketch", seed=seed, center=center, memory="1 GB")
        a = a - a.mean(axis=0) * center
        c, true = r.certificate, measured(a, r)
        bounds = np.array(c.residuals)
        assert np.all(true <= bounds + c.rounding)
        # sqrt(16 / 3) at most, of a chi-square variable with 16 degrees, and as much by its own
        large = true > 1e4 * c.rounding
        assert np.all(bounds[large] <= 6 * true[large])
        assert c.converged == bool(np.all(bounds <= 1e-3 * r.s + 8 * c.rounding))


def test_it_has_converged_if_every_mode_has_the_accuracy_that_was_asked_for() -> None:
    # three modes stand out, the fourth is one of many
    a = matrix_with_spectrum((120, 60), np.r_[1e3, 500, 200, np.ones(57)])
    three = lh.svd(a, rank=3, method="sketch", accuracy=0.1, memory="1 GB")
    assert three.certificate.converged
    with pytest.warns(NotConvergedWarning, match="did not reach its accuracy"):
        four = lh.svd(a, rank=4, method="sketch", accuracy=0.1, memory="1 GB")
    # of |A|_F the error is small all the same
    assert four.certificate.frobenius_bound <= 0.1 * four.certificate.norm
    assert four.certificate.residuals[3] > 0.1 * four.s[3]
    with pytest.warns(NotConvergedWarning):
        lh.svd(a, rank=3, method="sketch", accuracy=1e-4, memory="1 GB")

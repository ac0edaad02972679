"""A singular value decomposition by the installed package, and the same by NumPy."""

import subprocess
import sys

import numpy as np

import leptonhpc as lh


def main() -> None:
    """Compare the singular values and run the command line."""
    a = np.random.default_rng(0).standard_normal((300, 40))
    s = np.asarray(lh.svd(lh.open(a), rank=5).s)
    expected = np.linalg.svd(a, compute_uv=False)[:5]
    # s^2 from the Gram matrix is off by at most about m eps s_1^2
    bound = a.shape[0] * np.finfo(a.dtype).eps * expected[0] ** 2 / expected[-1]
    assert np.max(np.abs(s - expected)) <= bound, (s, expected)
    subprocess.run([sys.executable, "-m", "leptonhpc", "--help"], check=True, capture_output=True)
    print(f"leptonhpc {lh.__version__} from {lh.__file__}")


if __name__ == "__main__":
    main()

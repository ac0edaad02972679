"""A singular value decomposition by the installed package, and the same by NumPy.

With the name of an extra, also all that this brought is imported.
"""

import subprocess
import sys
import warnings
from importlib import import_module
from importlib.metadata import packages_distributions, requires

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import leptonhpc as lh

NEED = {"recommend": "recommend", "sklearn": "decomposition"}
"""Layers that cannot be imported without their extra."""


def main(extra: str | None = None) -> None:
    """Compare the singular values, run the command line, and import what an extra brought."""
    a = np.random.default_rng(0).standard_normal((300, 40))
    s = np.asarray(lh.svd(lh.open(a), rank=5).s)
    expected = np.linalg.svd(a, compute_uv=False)[:5]
    # s^2 from the Gram matrix is off by at most about m eps s_1^2
    bound = a.shape[0] * np.finfo(a.dtype).eps * expected[0] ** 2 / expected[-1]
    assert np.max(np.abs(s - expected)) <= bound, (s, expected)
    subprocess.run([sys.executable, "-m", "leptonhpc", "--help"], check=True, capture_output=True)
    print(f"leptonhpc {lh.__version__} from {lh.__file__}")
    if extra is not None:
        print(f"{extra}: {' '.join(imported(extra))}")


def imported(extra: str) -> list[str]:
    """Import the modules of an extra's packages, and the layer that needs them."""
    named = [Requirement(text) for text in requires("leptonhpc") or []]
    brought = {
        canonicalize_name(r.name) for r in named if r.marker and r.marker.evaluate({"extra": extra})
    }
    assert brought, f"there is no extra {extra}"
    modules, found = [], set()
    for module, packages in packages_distributions().items():
        names = brought.intersection(map(canonicalize_name, packages))
        found |= names
        modules += [module] if names else []
    assert found == brought, f"not installed: {brought - found}"
    modules += [f"leptonhpc.{NEED[extra]}"] if extra in NEED else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what others warn of is theirs
        for module in modules:
            import_module(module)
    return modules


if __name__ == "__main__":
    main(*sys.argv[1:])

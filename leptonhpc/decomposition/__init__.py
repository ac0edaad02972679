"""Estimators for scikit-learn over the drivers: arrays that do not fit in memory, and small ones.

They need scikit-learn: ``pip install 'leptonhpc[sklearn]'``.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    message = (
        f"leptonhpc.decomposition needs scikit-learn 1.6 or later ({error}); install "
        "leptonhpc[sklearn]"
    )
    raise ImportError(message) from error

from leptonhpc.decomposition.incremental import IncrementalPCA
from leptonhpc.decomposition.kernel import KernelPCA
from leptonhpc.decomposition.nmf import NMF
from leptonhpc.decomposition.pca import PCA
from leptonhpc.decomposition.ridge import Ridge
from leptonhpc.decomposition.truncated import TruncatedSVD

__all__ = ["NMF", "PCA", "IncrementalPCA", "KernelPCA", "Ridge", "TruncatedSVD"]

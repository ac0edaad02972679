"""Recommendation from sparse ratings that need not fit in memory: ALS, ranking and its measures.

It needs numba and scikit-learn: ``pip install 'leptonhpc[recommend]'``.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    message = (
        f"leptonhpc.recommend needs scikit-learn 1.6 or later ({error}); install "
        "leptonhpc[recommend]"
    )
    raise ImportError(message) from error

from leptonhpc.recommend.als import ALS
from leptonhpc.recommend.certificates import AlsCertificate, AlsReport
from leptonhpc.recommend.implicit import ImplicitALS
from leptonhpc.recommend.loading import load
from leptonhpc.recommend.metrics import (
    evaluate,
    map_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    rmse,
)
from leptonhpc.recommend.ranking import Ranked
from leptonhpc.recommend.ratings import Ratings, open_ratings
from leptonhpc.recommend.storing import store_ratings
from leptonhpc.recommend.triples import array_triples, read_triples

__all__ = [
    "ALS",
    "AlsCertificate",
    "AlsReport",
    "ImplicitALS",
    "Ranked",
    "Ratings",
    "array_triples",
    "evaluate",
    "load",
    "map_at_k",
    "ndcg_at_k",
    "open_ratings",
    "precision_at_k",
    "read_triples",
    "recall_at_k",
    "rmse",
    "store_ratings",
]

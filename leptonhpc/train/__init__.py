"""Training of torch models on Zarr arrays: in this process, or in step on a Dask cluster.

It needs torch: ``pip install 'leptonhpc[train]'``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leptonhpc.train.estimators import TorchClassifier, TorchRegressor
    from leptonhpc.train.fitting import fit
    from leptonhpc.train.layout import Layout
    from leptonhpc.train.metrics import Score
    from leptonhpc.train.prediction import predict
    from leptonhpc.train.result import TrainReport, TrainResult

_HOMES = {
    "Layout": "layout",
    "Score": "metrics",
    "TorchClassifier": "estimators",
    "TorchRegressor": "estimators",
    "TrainReport": "result",
    "TrainResult": "result",
    "fit": "fitting",
    "predict": "prediction",
}

__all__ = [
    "Layout",
    "Score",
    "TorchClassifier",
    "TorchRegressor",
    "TrainReport",
    "TrainResult",
    "fit",
    "predict",
]


def __getattr__(name: str) -> Any:
    """Load public names on first use: importing this package imports no torch."""
    if name in _HOMES:
        return getattr(import_module(f"leptonhpc.train.{_HOMES[name]}"), name)
    message = f"module 'leptonhpc.train' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """List public names."""
    return list(__all__)

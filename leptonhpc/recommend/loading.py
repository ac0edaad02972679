"""Fitted models from the disk."""

from __future__ import annotations

from typing import Any

import numpy as np

from leptonhpc.errors import LeptonError
from leptonhpc.recommend.als import ALS
from leptonhpc.recommend.fitting import certificate_of, report_of
from leptonhpc.recommend.implicit import ImplicitALS
from leptonhpc.recommend.outputs import Path, read_factors
from leptonhpc.recommend.ratings import Ratings, open_ratings


def load(location: Path) -> ALS | ImplicitALS:
    """Read what a fit with `out=` left.

    Parameters
    ----------
    location : str or path
        What was given as `out`.

    Returns
    -------
    ALS or ImplicitALS
        Fitted, in memory; with its parameters. `ratings_` is None where the ratings are gone, or
        were in memory.

    Raises
    ------
    StoreError
        If nothing is there.
    NotAnArrayError
        If it is something else.
    """
    found = read_factors(location)
    facts = found.attributes
    kind: Any = {"ALS": ALS, "ImplicitALS": ImplicitALS}[facts["kind"]]
    model = kind(**facts["parameters"])
    skip = int(facts["biases"])
    for side, factors in (("user", found.users), ("item", found.items)):
        setattr(model, f"{side}_factors_", np.ascontiguousarray(factors[:, skip:]))
        biases = factors[:, 0].copy() if skip else np.zeros(len(factors), factors.dtype)
        setattr(model, f"{side}_biases_", biases)
    model.mean_ = facts["mean"]
    model.user_labels_, model.item_labels_ = found.user_labels, found.item_labels
    model.ratings_ = _ratings(facts["ratings"])
    model.n_features_in_ = len(found.items)
    model.certificate_, model.report_ = certificate_of(facts), report_of(facts)
    model.n_iter_ = len(model.certificate_.losses) // 2
    fitted: ALS | ImplicitALS = model
    return fitted


def _ratings(location: str | None) -> Ratings | None:
    """Open the ratings of a fit, if they are still where they were."""
    if location is None:
        return None
    try:
        return open_ratings(location)
    except LeptonError:
        return None

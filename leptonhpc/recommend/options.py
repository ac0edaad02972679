"""Parameters of the estimators, checked before anything is read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from leptonhpc.errors import OptionError

_LEAST = {"n_factors": 1, "cg_steps": 1, "max_iter": 1}
_CHOICES = {"solver": ("cg", "cholesky"), "dtype": ("float32", "float64")}
_NOT_NEGATIVE = ("regularization", "tol", "alpha")


def check_options(estimator: Any) -> None:
    """Refuse parameters that cannot be.

    Parameters
    ----------
    estimator : ALS or ImplicitALS
        Whose parameters they are.

    Raises
    ------
    OptionError
        If one is out of range; the message has what it may be.
    """
    name, given = type(estimator).__name__, estimator.get_params()
    for key, usual in _LEAST.items():
        # biases alone are a model
        least = 0 if key == "n_factors" and given.get("biases") else usual
        value = given[key]
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise OptionError(f"{key} of {name} is a whole number from {least}; found {value!r}")
    for key, choices in _CHOICES.items():
        if given[key] not in choices:
            wanted = " or ".join(map(repr, choices))
            raise OptionError(f"{key} of {name} is {wanted}; found {given[key]!r}")
    for key in _NOT_NEGATIVE:
        value = given.get(key, 0.0)
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        positive = key == "alpha" and key in given
        if not number or not 0 <= value < math.inf or (positive and value == 0):
            wanted = "positive" if positive else "not negative"
            raise OptionError(f"{key} of {name} is a finite number, {wanted}; found {value!r}")
    seed = given["random_state"]
    if isinstance(seed, int | np.integer) and seed < 0:
        raise OptionError(f"random_state of {name} is not negative; found {seed}")

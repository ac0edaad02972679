"""Teleconnection modes for simulated climate: orthogonal patterns and uncorrelated scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from leptonhpc.datasets.streams import stream

_SCORES = 3
_SCORE_LAG1 = 0.7
_FIRST_AMPLITUDE, _DECAY = 1.5, 0.7
_RADIUS_DEGREES = 20.0
_POLES = (
    ((0.0, 235.0), (10.0, 140.0)),  # El Nino and the western Pacific
    ((65.0, 340.0), (38.0, 330.0)),  # North Atlantic
    ((48.0, 195.0), (55.0, 245.0)),  # Pacific and North America
    ((-75.0, 180.0), (-45.0, 90.0)),  # around Antarctica
    ((-5.0, 60.0), (-8.0, 100.0)),  # Indian Ocean
    ((45.0, 60.0), (60.0, 110.0)),  # Eurasia
)
"""Two centres of opposite sign of each mode, degrees north and east."""

MOST_MODES = len(_POLES)


def plant_modes(
    latitude: NDArray[np.float64], lons: int, times: int, modes: int, *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make patterns and scores that are the EOFs of their product.

    Parameters
    ----------
    latitude : array of shape (lats,)
        Degrees north.
    lons, times : int
        Sizes; longitudes are regular from 0.
    modes : int
        At most `MOST_MODES`, lats * lons and times - 3.
    seed : int
        Of the scores; the patterns are always the same.

    Returns
    -------
    tuple of (patterns, scores)
        `patterns` of shape (modes, lats, lons), float32, kelvin: orthogonal with weights
        cos(latitude), area-mean square 1.5^2 of the first, each next one 0.7^2 of the one before.
        `scores` of shape (times, modes), float32: red in time, mean 0, mean square 1, orthogonal
        to each other and to the annual cycle.
    """
    return _patterns(latitude, lons, modes), _scores(times, modes, seed)


def _patterns(latitude: NDArray[np.float64], lons: int, modes: int) -> NDArray[np.float32]:
    lat, lon = np.meshgrid(np.deg2rad(latitude), np.arange(lons) * 2 * np.pi / lons, indexing="ij")
    weights = np.cos(lat).ravel()
    bumps = [_bump(lat, lon, plus) - _bump(lat, lon, minus) for plus, minus in _POLES[:modes]]
    basis = np.stack([bump.ravel() for bump in bumps], axis=1) * np.sqrt(weights)[:, np.newaxis]
    q = _orthonormal(basis) * np.sqrt(weights.sum() / weights)[:, np.newaxis]
    q *= _FIRST_AMPLITUDE * _DECAY ** np.arange(modes)
    return np.ascontiguousarray(q.T.reshape(modes, *lat.shape), dtype=np.float32)


def _bump(
    lat: NDArray[np.float64], lon: NDArray[np.float64], centre: tuple[float, float]
) -> NDArray[np.float64]:
    """Evaluate a bell around a centre, by great-circle distance."""
    lat0, lon0 = np.deg2rad(centre)
    cosine = np.sin(lat) * np.sin(lat0) + np.cos(lat) * np.cos(lat0) * np.cos(lon - lon0)
    distance = np.arccos(np.clip(cosine, -1, 1))
    bell: NDArray[np.float64] = np.exp(-0.5 * (distance / np.deg2rad(_RADIUS_DEGREES)) ** 2)
    return bell


def _scores(times: int, modes: int, seed: int) -> NDArray[np.float32]:
    scores = stream(seed, _SCORES).standard_normal((times, modes))
    for t in range(1, times):
        scores[t] += _SCORE_LAG1 * scores[t - 1]
    angle = 2 * np.pi * np.arange(times) / 12
    season = np.stack([np.ones(times), np.cos(angle), np.sin(angle)], axis=1)
    q = _orthonormal(np.concatenate([season, scores], axis=1))[:, 3:]
    return np.asarray(q * np.sqrt(times), np.float32)


def _orthonormal(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormalise columns in their order and keep their signs."""
    q, r = np.linalg.qr(a)
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)

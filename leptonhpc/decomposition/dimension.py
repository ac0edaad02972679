"""How many components samples have, by Minka's approximation of the evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln


def most_likely_dimension(variances: NDArray[np.float64], samples: int) -> int:
    """Give the dimension of largest evidence in probabilistic PCA.

    Parameters
    ----------
    variances : array of shape (n,)
        Of all principal components, descending.
    samples : int
        Number of samples.

    Returns
    -------
    int
        From 1 to n - 1 (1 for one feature).

    Notes
    -----
    Laplace's approximation [1]_, equation (30). O(n^3) for n features.

    References
    ----------
    .. [1] T. P. Minka, Automatic choice of dimensionality for PCA, Advances in Neural Information
       Processing Systems 13, 2000.
    """
    count = len(variances)
    if count < 3:
        return 1
    evidence = [_log_evidence(variances, rank, samples) for rank in range(1, count)]
    return int(np.argmax(evidence)) + 1


def _log_evidence(variances: NDArray[np.float64], rank: int, samples: int) -> float:
    """Give the logarithm of p(data | rank), less what is the same for all ranks."""
    n, eps = len(variances), float(np.finfo(float).eps)
    kept = variances[:rank]
    if kept[-1] < eps:  # no variance in this direction: it is not a component
        return -np.inf
    noise = max(eps, float(np.mean(variances[rank:])))
    lengths = np.arange(n, n - rank, -1) / 2
    # volume of the manifold of rank-dimensional frames
    frames = float(np.sum(gammaln(lengths) - np.log(np.pi) * lengths)) - rank * np.log(2)
    fit = -samples / 2 * (float(np.sum(np.log(kept))) + (n - rank) * np.log(noise))
    free = n * rank - rank * (rank + 1) / 2
    # curvature: log det of the Hessian of the frames
    model = np.concatenate([kept, np.full(n - rank, noise)])
    i, j = np.triu_indices(n, 1)
    i, j = i[i < rank], j[i < rank]
    with np.errstate(divide="ignore"):  # equal variances: a flat direction
        steps = np.log(variances[i] - variances[j]) + np.log(1 / model[j] - 1 / model[i])
    curvature = float(np.sum(steps + np.log(samples)))
    volume = np.log(2 * np.pi) * (free + rank) / 2
    return float(frames + fit + volume - curvature / 2 - rank * np.log(samples) / 2)

"""Ideal observers of a feed whose interests are Gaussian: lower bounds of a model's loss.

A user's interest z in a topic is a Gaussian process in time, and the labels of an event are
Bernoulli with logits `offset + scale * z`. The best prediction of an event from the user's earlier
events is then Bayesian logistic regression. Its prior is the covariance of z given what an observer
sees: the times, nothing of them, or only their order.

The posterior is kept Gaussian and updated event by event (assumed density filtering). An event
depends on the interests only through its own z, so an update takes one-dimensional integrals, which
Gauss-Hermite quadrature computes precisely; so does a prediction, which integrates the sigmoid over
the posterior. On the default feed this costs 0.0004 of NE against the exact posterior (by Monte
Carlo; Laplace's approximation costs 0.002). An observer without times models their effect as
Gaussian, which is not quite true, so a model without times may be better by some thousandths.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Kernel = Callable[[np.ndarray], np.ndarray]
"""Event indices int [S, n] -> prior covariance of their interests, float64 [S, n, n]."""

_CHUNK_ELEMENTS = 1 << 21  # of the covariances in memory at once
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def basis_kernel(features: np.ndarray) -> Kernel:
    """Covariance of interests w . features with w ~ N(0, I); features float [N, D] by event."""

    def kernel(events: np.ndarray) -> np.ndarray:
        x_SxNxD = features[events]
        return x_SxNxD @ x_SxNxD.transpose(0, 2, 1)

    return kernel


def distance_kernel(
    places: np.ndarray, covariance: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Kernel:
    """Covariance of interests at places float [N], as a function of two of them."""

    def kernel(events: np.ndarray) -> np.ndarray:
        x = places[events]
        return covariance(x[:, :, None], x[:, None, :])

    return kernel


def summed(kernels: Sequence[Kernel]) -> Kernel:
    """Covariance of a sum of independent interests."""

    def kernel(events: np.ndarray) -> np.ndarray:
        first, *others = (kernel(events) for kernel in kernels)
        return sum(others, start=first)

    return kernel


def constant_kernel(constant: float, noise: float) -> Kernel:
    """Covariance of a constant interest plus independent noise per event, of these variances."""

    def kernel(events: np.ndarray) -> np.ndarray:
        n = events.shape[1]
        return np.broadcast_to(constant + noise * np.eye(n), (len(events), n, n))

    return kernel


def position_kernel(covariance: np.ndarray, position: np.ndarray) -> Kernel:
    """Covariance [P, P] between positions in a history; `position` int [N] is that of an event."""

    def kernel(events: np.ndarray) -> np.ndarray:
        p = position[events]
        return covariance[p[:, :, None], p[:, None, :]]

    return kernel


def predict(
    group: np.ndarray,
    offset: np.ndarray,
    scale: np.ndarray,
    labels: np.ndarray,
    kernels: Mapping[str, Kernel],
) -> dict[str, np.ndarray]:
    """Predicts every event's labels from the labels of the earlier events of its group.

    Args:
      group: int [N], the interest that an event depends on: one number per (user, topic). Within a
        group, events are in order of time.
      offset: float [N, T], the known part of the logits.
      scale: float [T], what one unit of interest adds to them.
      labels: bool [N, T].
      kernels: the observers' priors, by name.

    Returns:
      Probabilities by observer, float64 [N, T] each.
    """
    probabilities = {name: np.empty(labels.shape) for name in kernels}
    for events, length in _batches(group):
        for name, kernel in kernels.items():
            p_SxNxT = filter_sequences(
                kernel(events), offset[events], scale, labels[events], length
            )
            inside = np.arange(events.shape[1]) < length[:, None]
            probabilities[name][events[inside]] = p_SxNxT[inside]
    return probabilities


def filter_sequences(
    covariance: np.ndarray,
    offset: np.ndarray,
    scale: np.ndarray,
    labels: np.ndarray,
    length: np.ndarray,
) -> np.ndarray:
    """Predicts each event of S sequences from those before it, by assumed density filtering.

    The interests have the prior covariance [S, n, n] and mean zero. Offset and labels [S, n, T] and
    scale [T] are as in `predict`. Sequences have length int [S] of the n events, and come longest
    first. Returns probabilities, float64 [S, n, T]; those beyond a sequence's end are meaningless.
    """
    covariance = np.array(covariance, np.float64)
    mean = np.zeros(offset.shape[:2])
    probabilities = np.full(offset.shape, np.nan)
    for i in range(offset.shape[1]):
        s = np.searchsorted(-length, -i)  # the first s sequences are longer than i
        variance = np.maximum(covariance[:s, i, i], 0.0)
        z_SxQ = mean[:s, i, None] + np.sqrt(variance)[:, None] * _NODES
        logits_SxQxT = offset[:s, i, None, :] + scale * z_SxQ[:, :, None]
        p_SxQxT = 1 / (1 + np.exp(-logits_SxQxT))
        probabilities[:s, i] = np.einsum("q,sqt->st", _WEIGHTS, p_SxQxT)
        # Mean and variance of z given its labels ...
        seen_SxQxT = np.where(labels[:s, i, None, :], p_SxQxT, 1 - p_SxQxT)
        weight_SxQ = _WEIGHTS * seen_SxQxT.prod(axis=2)
        weight_SxQ /= weight_SxQ.sum(axis=1, keepdims=True)
        new_mean = (weight_SxQ * z_SxQ).sum(axis=1)
        new_variance = (weight_SxQ * (z_SxQ - new_mean[:, None]) ** 2).sum(axis=1)
        # ... and of the interests at the later events.
        known = variance > 0
        gain = np.divide(1.0, variance, out=np.zeros_like(variance), where=known)
        later = covariance[:s, i, i + 1 :]
        mean[:s, i + 1 :] += later * (gain * (new_mean - mean[:s, i]))[:, None]
        shrink = gain * (1 - new_variance * gain)
        covariance[:s, i + 1 :, i + 1 :] -= (
            later[:, :, None] * (later * shrink[:, None])[:, None, :]
        )
    return probabilities


def _batches(group: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the groups, longest first: event indices [S, n], padded with 0, and lengths [S]."""
    order = np.argsort(group, kind="stable")
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    longest = np.argsort(-count, kind="stable")
    first, count = first[longest], count[longest]
    begin = 0
    while begin < len(count):
        n = count[begin]
        chunk = slice(begin, begin + max(1, _CHUNK_ELEMENTS // n**2))
        length = count[chunk]
        index = np.arange(n)
        inside = index < length[:, None]
        yield order[np.where(inside, first[chunk, None] + index, 0)], length
        begin = chunk.stop

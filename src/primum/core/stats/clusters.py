"""Items that come in clusters: several prompts of one category, several attempts at one goal.

What is alike inside a cluster tells less than as many independent items would. Everything here takes one value per item
and the name of its cluster; with one item a cluster it is the textbook's case.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.core.stats.paired import t_value
from primum.core.stats.proportions import Interval

LEAST = 10
"""Below so many clusters a bootstrap has too little to draw from; the t interval is used."""
Floats = NDArray[np.float64]


class Sums(NamedTuple):
    """Per cluster: the sum of its values and how many there are, each (G,)."""

    total: Floats
    size: Floats


def cluster_sums(values: Sequence[float], clusters: Sequence[Hashable]) -> Sums:
    """Add values up by cluster, in the order of first appearance.

    Raises:
        ValueError: no values, or lengths differ.
    """
    if not values or len(values) != len(clusters):
        raise ValueError(f"need one cluster per value, got {len(values)} values and {len(clusters)} clusters")
    place: dict[Hashable, int] = {}
    at = np.array([place.setdefault(cluster, len(place)) for cluster in clusters])
    total = np.zeros(len(place))
    np.add.at(total, at, np.asarray(values, dtype=np.float64))
    return Sums(total, np.bincount(at).astype(np.float64))


def cluster_mean(values: Sequence[float], clusters: Sequence[Hashable], confidence: float = 0.95) -> Interval:
    """Return the mean with its cluster-robust t interval (Miller 2024, arXiv:2411.00640, appendix A).

    SE = sqrt(G/(G-1)) / n * sqrt(sum over clusters of (sum of deviations)^2), with G - 1 degrees of freedom. Limits are
    infinite with one cluster.
    """
    total, size = cluster_sums(values, clusters)
    n, groups = float(size.sum()), len(size)
    mean = float(total.sum()) / n
    if groups < 2:
        return Interval(mean, -math.inf, math.inf)
    spread = math.sqrt(groups / (groups - 1) * float(((total - mean * size) ** 2).sum())) / n
    half = t_value(confidence, groups - 1) * spread
    return Interval(mean, mean - half, mean + half)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    confidence: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the mean with its BCa bootstrap interval, whole clusters drawn (Efron 1987, JASA 82:171).

    Of paired differences it is the paired cluster bootstrap. Below LEAST clusters, and where all clusters have the same
    mean (the bootstrap's interval would be a point), the t interval of `cluster_mean` stands in.
    """
    sums = cluster_sums(values, clusters)
    mean = float(sums.total.sum() / sums.size.sum())
    if len(sums.size) < LEAST or np.ptp(sums.total / sums.size) == 0:
        return cluster_mean(values, clusters, confidence)
    means = _draws(sums, draws, np.random.default_rng(seed))
    low, high = np.quantile(means, _bca(means, mean, _jackknife(sums), confidence))
    return Interval(mean, float(low), float(high))


def _draws(sums: Sums, draws: int, random: np.random.Generator) -> Floats:
    """Return the means of `draws` resamples; in blocks, so that memory stays small for many clusters."""
    groups = len(sums.size)
    means: list[Floats] = []
    block = max(1, 4_000_000 // groups)
    for start in range(0, draws, block):
        picked = random.integers(0, groups, (min(block, draws - start), groups))
        means.append(sums.total[picked].sum(1) / sums.size[picked].sum(1))
    return np.concatenate(means)


def _jackknife(sums: Sums) -> Floats:
    return (sums.total.sum() - sums.total) / (sums.size.sum() - sums.size)


def _bca(means: Floats, mean: float, left_out: Floats, confidence: float) -> list[float]:
    """Return the two shares at which the bootstrap's means are cut: bias z0 and acceleration a corrected."""
    from statistics import NormalDist

    normal = NormalDist()
    below = float((means < mean).mean() + (means == mean).mean() / 2)
    bias = normal.inv_cdf(min(max(below, 1e-6), 1 - 1e-6))
    gap = left_out.mean() - left_out
    scale = float((gap**2).sum()) ** 1.5
    acceleration = float((gap**3).sum()) / (6 * scale) if scale else 0.0
    z = normal.inv_cdf((1 + confidence) / 2)
    return [normal.cdf(bias + (bias + side) / (1 - acceleration * (bias + side))) for side in (-z, z)]


def sign_flip(
    values: Sequence[float], clusters: Sequence[Hashable], draws: int = 10_000, seed: int = 0, side: str = "both"
) -> float:
    """Return p of the hypothesis that differences are symmetric about 0, by flipping the signs of whole clusters.

    p = (1 + draws at least as extreme) / (draws + 1) (Phipson and Smyth 2010); exact over all 2^G flips where there are
    no more of these than draws.

    Args:
        values: paired differences.
        clusters: the cluster of each.
        draws: random flips.
        seed: of the flips.
        side: "both", or "greater" where only a positive mean counts.
    """
    total = cluster_sums(values, clusters).total
    total = total[total != 0]
    if not len(total):
        return 1.0
    exact = 2 ** len(total) <= draws if len(total) < 60 else False
    flipped = _all_flips(total) if exact else _random_flips(total, draws, np.random.default_rng(seed))
    seen = float(total.sum())
    edge = 1e-9 * float(np.abs(total).sum())
    extreme = int((flipped >= seen - edge).sum() if side == "greater" else (np.abs(flipped) >= abs(seen) - edge).sum())
    return extreme / len(flipped) if exact else (1 + extreme) / (len(flipped) + 1)


def _all_flips(total: Floats) -> Floats:
    sums = np.zeros(1)
    for one in total:
        sums = np.concatenate([sums + one, sums - one])
    return sums


def _random_flips(total: Floats, draws: int, random: np.random.Generator) -> Floats:
    sums: list[Floats] = []
    block = max(1, 4_000_000 // len(total))
    for start in range(0, draws, block):
        signs = random.integers(0, 2, (min(block, draws - start), len(total))) * 2.0 - 1
        product: NDArray[Any] = signs @ total
        sums.append(product)
    return np.concatenate(sums)


def cluster_mde(
    values: Sequence[float], clusters: Sequence[Hashable], alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Return the smallest mean that these clusters would find, at the spread they have; None with one cluster."""
    from statistics import NormalDist

    interval = cluster_mean(values, clusters, 1 - alpha)
    groups = len(cluster_sums(values, clusters).size)
    if groups < 2:
        return None
    spread = (interval.high - interval.value) / t_value(1 - alpha, groups - 1)
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * spread

"""The same items measured twice: before and after, or a prompt and its twin.

Counts of a paired table: `both`, `only_first`, `only_second`, `neither` say on which of the two sides the event
happened. b is `only_first` and c is `only_second`, so that c - b is the change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple, cast

from primum.core.stats.proportions import Interval, wilson, z_value


class PairedTable(NamedTuple):
    """Counts of pairs by the side on which the event happened."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        """All pairs."""
        return sum(self)


def bonett_price(b: int, c: int, n: int, confidence: float = 0.95) -> Interval:
    """Return (c - b) / n with the adjusted Wald interval of Bonett and Price 2012, J Educ Behav Stat 37:479.

    Args:
        b: pairs with the event on the first side only.
        c: pairs with the event on the second side only.
        n: all pairs.
        confidence: two-sided confidence.
    """
    _check_discordant(b, c, n)
    first, second = (b + 1) / (n + 2), (c + 1) / (n + 2)
    change = second - first
    half = z_value(confidence) * math.sqrt((first + second - change**2) / (n + 2))
    return Interval((c - b) / n, max(-1.0, change - half), min(1.0, change + half))


def _check_discordant(b: int, c: int, n: int) -> None:
    if n <= 0 or b < 0 or c < 0 or b + c > n:
        raise ValueError(f"need b, c >= 0 and b + c <= n, n > 0; got b={b}, c={c}, n={n}")


def paired_contrast(table: PairedTable, ratio: float = 1.0, confidence: float = 0.95) -> Interval:
    """Return p_second - ratio * p_first for paired shares, with the square-and-add interval.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10 (ratio 1); for any ratio the same limits are combined as
    in Zou and Donner 2008, Statistics in Medicine 27:1693. It asks "is the second share at most `ratio` times
    the first?" without taking the first for known.
    """
    p1, low1, high1 = wilson(table.both + table.only_first, table.n, confidence)
    p2, low2, high2 = wilson(table.both + table.only_second, table.n, confidence)
    phi = _phi(table)
    value = p2 - ratio * p1
    down, up = (p2 - low2, ratio * (high1 - p1)), (high2 - p2, ratio * (p1 - low1))
    low = value - math.sqrt(max(0.0, down[0] ** 2 + down[1] ** 2 - 2 * phi * down[0] * down[1]))
    high = value + math.sqrt(max(0.0, up[0] ** 2 + up[1] ** 2 - 2 * phi * up[0] * up[1]))
    return Interval(value, low, high)


def _phi(table: PairedTable) -> float:
    """Return the correlation of the two sides; Newcombe's continuity correction shrinks a positive one."""
    both, only_first, only_second, neither = table
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    cross = both * neither - only_first * only_second
    return (max(cross - table.n / 2, 0.0) if cross > 0 else cross) / math.sqrt(margins)


def mcnemar_exact(b: int, c: int) -> float:
    """Return the two-sided exact p of McNemar's test: min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2)."""
    return min(1.0, 2 * sign_tail(min(b, c), b + c))


def sign_tail(k: int, m: int) -> float:
    """Return P(X <= k), X ~ Binomial(m, 1/2): how likely at most k of m changed pairs go one way by chance alone.

    By the incomplete beta function, to some twelve digits: as quick for a million changed pairs as for ten.
    """
    from scipy.special import bdtr  # scipy takes long to load, and most verbs never need it

    return float(bdtr(k, m, 0.5))


def paired_mean(differences: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean of the differences with its t interval; limits are infinite below two differences."""
    mean = fmean(differences)
    n = len(differences)
    if n < 2:
        return Interval(mean, -math.inf, math.inf)
    half = t_value(confidence, n - 1) * stdev(differences) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def paired_ratio(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return mean(second) / mean(first) of paired positive numbers, with a t interval on the log scale.

    The ratio of the means, not the mean of the ratios: an item near zero cannot outweigh the rest. Its variance is
    that of the linearised residuals second - R first (Cochran 1977, Sampling Techniques, chapter 6), and the interval
    is symmetric in log R, so that swapping the sides inverts it.

    Raises:
        ValueError: lengths differ, or a mean is not positive.
    """
    residuals = ratio_residuals(first, second)
    ratio = fmean(second) / fmean(first)
    spread = paired_mean(residuals, confidence).high  # the residuals' mean is 0: this is the half width of log R
    return Interval(ratio, ratio * math.exp(-spread), ratio * math.exp(spread))


class Sums(NamedTuple):
    """Sums over n pairs of whole numbers (x, y), which can be added up in parts."""

    n: int
    x: int
    y: int
    xx: int
    xy: int
    yy: int


def ratio_of_sums(sums: Sums, confidence: float = 0.95) -> Interval:
    """Return sum(y) / sum(x) with the interval of `paired_ratio`, from sums alone; they are exact, being integers.

    Raises:
        ValueError: fewer than two pairs, or a sum that is not positive.
    """
    n, x, y = sums.n, sums.x, sums.y
    if n < 2 or x <= 0 or y <= 0:
        raise ValueError(f"a ratio needs two pairs and positive sums, got n={n}, {x} and {y}")
    squares = (sums.yy * x * x - 2 * sums.xy * x * y + sums.xx * y * y) / (x * x * y * y)  # of residuals over n
    spread = t_value(confidence, n - 1) * math.sqrt(squares * n / (n - 1))
    return Interval(y / x, y / x * math.exp(-spread), y / x * math.exp(spread))


def ratio_residuals(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Return what each pair adds to the error of log(mean(second) / mean(first)); the mean of these is 0.

    Raises:
        ValueError: lengths differ, or a mean is not positive.
    """
    if len(first) != len(second):
        raise ValueError(f"paired numbers need equal lengths, got {len(first)} and {len(second)}")
    base, top = fmean(first), fmean(second)
    if base <= 0 or top <= 0:
        raise ValueError("a ratio needs positive means")
    return [after / top - before / base for before, after in zip(first, second, strict=True)]


def fieller(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return mean(second) / mean(first) of paired numbers of either sign, with Fieller's interval.

    It holds the ratios r for which the mean of second - r first does not differ from 0 by Student's t (Fieller 1954,
    Some problems in interval estimation, Journal of the Royal Statistical Society B 16). The limits are infinite
    where the mean of `first` itself does not differ from 0, and below two pairs.

    Raises:
        ValueError: lengths differ, or the mean of `first` is 0.
    """
    if len(first) != len(second):
        raise ValueError(f"paired numbers need equal lengths, got {len(first)} and {len(second)}")
    n, x, y = len(first), fmean(first), fmean(second)
    if x == 0:
        raise ValueError("a ratio needs a mean other than 0 below the line")
    if n < 2:
        return Interval(y / x, -math.inf, math.inf)
    scale = t_value(confidence, n - 1) ** 2 / (n * (n - 1))
    xx, xy, yy = (
        scale * math.fsum((a - p) * (b - q) for a, b in zip(left, right, strict=True))
        for left, p, right, q in ((first, x, first, x), (first, x, second, y), (second, y, second, y))
    )
    # the limits solve (y - r x)^2 = t^2 (s_yy - 2 r s_xy + r^2 s_xx) / n
    a, b, c = x * x - xx, x * y - xy, y * y - yy
    if a <= 0:
        return Interval(y / x, -math.inf, math.inf)
    half = math.sqrt(max(0.0, b * b - a * c))
    return Interval(y / x, (b - half) / a, (b + half) / a)


def mde_mean(differences: Sequence[float], alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest mean difference that these many pairs would find, at the spread they have, two-sided."""
    return _reach(alpha, power) * stdev(differences) / math.sqrt(len(differences))


def t_value(confidence: float, freedom: int) -> float:
    """Return the two-sided quantile of Student's t."""
    from scipy.special import stdtrit  # scipy takes long to load, and most verbs never need it

    return float(cast(float, stdtrit(freedom, (1 + confidence) / 2)))


def mde(discordance: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest change of a paired share that n pairs would find with the given power, two-sided.

    Solves d = (z_{1-alpha/2} + z_power) sqrt((pi - d^2) / n) for d (Miller 2024, arXiv:2411.00640, with the
    variance of a difference of paired binaries); pi is the share of pairs that change.
    """
    if n <= 0 or not 0 <= discordance <= 1:
        raise ValueError(f"need n > 0 and a share of discordant pairs, got n={n}, discordance={discordance}")
    reach = _reach(alpha, power)
    return reach * math.sqrt(discordance / (n + reach**2))


def _reach(alpha: float, power: float) -> float:
    return z_value(1 - alpha) + NormalDist().inv_cdf(power)


def needed_pairs(discordance: float, margin: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """Return how many pairs decide a non-inferiority test with this margin: (z_conf + z_power)^2 pi / margin^2."""
    if margin <= 0:
        raise ValueError("the margin must be positive")
    reach = NormalDist().inv_cdf(confidence) + NormalDist().inv_cdf(power)
    return math.ceil(reach**2 * discordance / margin**2)

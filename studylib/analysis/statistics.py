"""How sure a number is: questions of one article are not independent, and seeds vary too.

Scores of one model are an array (S, n): seeds by questions, the same n questions under every seed.
`clusters` (n,) names each question's article. Nothing here draws random numbers but from the `rng`
it is given.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np

from studylib.core.errors import StudyError

ARTICLES, QUESTIONS = 30, 100  # an interval needs at least as many
SEEDS = 5  # fewer say too little of others to be drawn from
REPEATS = 10_000
LEVEL = 0.05  # of the tests


def enough(questions: int, articles: int) -> bool:
    """Whether so many are enough for an interval."""
    return questions >= QUESTIONS and articles >= ARTICLES


def enough_clusters(clusters: np.ndarray) -> bool:
    """Whether questions of these articles (n,) are enough for an interval."""
    return enough(len(clusters), len(set(clusters)))


def clustered_error(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Mean of values (n,) and its standard error when values of one cluster hang together.

    √(G/(G−1) Σ_g (Σ_{i∈g} (x_i − x̄))²) / n: the sandwich estimate for a mean (Liang and Zeger,
    1986, from memory). With clusters of one it is the ordinary standard error. Raises StudyError
    with less than two clusters.
    """
    sums, _ = _by_cluster(values - values.mean(), clusters)
    if len(sums) < 2:
        raise StudyError("a clustered error needs at least two clusters.")
    return float(values.mean()), float(
        np.sqrt(len(sums) / (len(sums) - 1) * np.square(sums).sum()) / len(values)
    )


def design_effect(values: np.ndarray, clusters: np.ndarray) -> float:
    """How many times more questions are needed because they come in clusters: clustered over
    ordinary variance."""
    return (
        clustered_error(values, clusters)[1] / clustered_error(values, np.arange(len(values)))[1]
    ) ** 2


def bootstrap(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Two-level bootstrap: means (repeats, ...) of values (..., S, n). Seeds and then clusters are
    drawn with replacement.

    All leading entries share their draws, always the same ones, so that differences and ratios are
    paired. Fewer than `SEEDS` seeds are not drawn, but averaged.
    """
    values = values.mean(-2, keepdims=True) if values.shape[-2] < SEEDS else values
    return means_of(values, clusters, _same_draws(values.shape[-2], len(set(clusters))))


@lru_cache(maxsize=2)
def _same_draws(seeds: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    return draws(seeds, groups, np.random.default_rng(0))


def draws(
    seeds: int, groups: int, rng: np.random.Generator, repeats: int = REPEATS
) -> tuple[np.ndarray, np.ndarray]:
    """How often each of so many seeds (repeats, S), as a share, and of so many clusters (repeats,
    G) is drawn with replacement."""
    drawn_seeds, drawn_groups = (
        rng.multinomial(count, np.full(count, 1 / count), size=repeats) for count in (seeds, groups)
    )
    return drawn_seeds / seeds, drawn_groups.astype(float)


def means_of(
    values: np.ndarray, clusters: np.ndarray, drawn: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """The means (repeats, ...) of values (..., S, n) in such draws."""
    drawn_seeds, drawn_groups = drawn
    sums, sizes = _by_cluster(values, clusters)  # (..., S, G) and (G,)
    totals = np.einsum("bs,...sg,bg->b...", drawn_seeds, sums, drawn_groups, optimize=True)
    return totals / (drawn_groups @ sizes).reshape(-1, *[1] * (values.ndim - 2))


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip(
    differences: np.ndarray, clusters: np.ndarray, rng: np.random.Generator, repeats: int = REPEATS
) -> float:
    """Two-sided p-value of a mean paired difference (n,) under random signs per cluster (exact for
    symmetric differences).

    The observed signs count as one of the draws, so that p is never 0 (Phipson and Smyth, 2010,
    from memory).
    """
    sums, _ = _by_cluster(differences, clusters)
    signs = rng.integers(0, 2, size=(repeats, len(sums))) * 2 - 1
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) * (1 - 1e-12)
    return float((1 + as_far.sum()) / (1 + repeats))


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlations (...) of scores (..., models); 0 where all of one side are equal."""
    x, y = (scores - scores.mean(-1, keepdims=True) for scores in (first, second))
    spread = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    product = (x * y).sum(-1)
    return np.divide(product, spread, out=np.zeros_like(product), where=spread > 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, step down (Holm, 1979): in the given order, never above
    1."""
    p = np.asarray(p_values, float)
    order = p.argsort(kind="stable")
    raised = np.minimum(1.0, np.arange(len(p), 0, -1) * p[order])
    return np.maximum.accumulate(raised)[order.argsort()].tolist()


def detectable(
    deviation: float,
    questions: float,
    effect: float = 1.0,
    power: float = 0.8,
    level: float = LEVEL,
) -> float:
    """The least true mean paired difference that is found with `power`, given the SD of single
    differences.

    (z_{1−level/2} + z_power) · deviation · √(effect / questions), `effect` being the design effect.
    """
    return (
        (NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power))
        * deviation
        * sqrt(effect / questions)
    )


def stricter(tests: int) -> float:
    """How many times larger a difference must be to be found as surely when the level is divided by
    so many tests."""
    return detectable(1, 1, level=LEVEL / tests) / detectable(1, 1) if tests else 1.0


def _by_cluster(values: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums (..., G) of values (..., n) by cluster, and the clusters' sizes (G,)."""
    names, member = np.unique(clusters, return_inverse=True)
    groups = np.zeros((len(clusters), len(names)))
    groups[np.arange(len(clusters)), member] = 1
    return values @ groups, groups.sum(0)


def calibration_error(
    probabilities: Sequence[float], right: Sequence[float], bins: int = 10
) -> float:
    """Expected calibration error, 0 to 1: over `bins` equal bins of probability, |mean probability
    − share right|, weighted by size.

    Guo et al. (2017), §2, from memory.
    """
    gaps = calibration_gaps(np.asarray(probabilities), np.asarray(right), bins)
    return float(np.abs(gaps.mean(-1)).sum())  # a bin's size cancels out


def calibration_gaps(probabilities: np.ndarray, right: np.ndarray, bins: int = 10) -> np.ndarray:
    """Probability − right (bins, ...) of answers (...), in the bin of the probability, 0 in others.
    The absolute means of the bins sum up to the calibration error."""
    which = np.minimum((probabilities * bins).astype(int), bins - 1)
    inside = which == np.arange(bins).reshape(-1, *[1] * which.ndim)
    return inside * (probabilities - right)

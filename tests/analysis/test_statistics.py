"""Statistics, against closed forms, scipy and simulation."""

import numpy as np
import pytest
from invented import resampled_means
from scipy import stats

from studylib.analysis import statistics
from studylib.core.errors import StudyError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_clusters_of_one_give_the_ordinary_error(rng):
    values = rng.normal(size=50)
    mean, error = statistics.clustered_error(values, np.arange(50))
    assert mean == pytest.approx(values.mean()) and error == pytest.approx(stats.sem(values))
    assert statistics.design_effect(values, np.arange(50)) == pytest.approx(1)


def test_correlations_are_those_of_numpy_and_zero_without_spread(rng):
    """Of many lines at once; a draw in which all scores are equal tells of no relation."""
    first, second = rng.normal(size=(2, 5, 9))
    expected = [np.corrcoef(*pair)[0, 1] for pair in zip(first, second, strict=True)]
    assert statistics.correlation(first, second) == pytest.approx(expected)
    assert statistics.correlation(np.ones((5, 9)), second).tolist() == [0.0] * 5


def test_copies_of_a_question_add_nothing(rng):
    """Every value four times in its cluster: the error of one of each, and a design effect of about
    four."""
    once = rng.normal(size=40)
    values, clusters = np.repeat(once, 4), np.repeat(np.arange(40), 4)
    assert statistics.clustered_error(values, clusters)[1] == pytest.approx(stats.sem(once))
    assert statistics.design_effect(values, clusters) == pytest.approx(4 * 159 / 156)


def test_one_cluster_is_refused_and_two_are_taken():
    with pytest.raises(StudyError, match="two clusters"):
        statistics.clustered_error(np.ones(3), np.zeros(3))
    assert statistics.clustered_error(
        np.array([0.0, 1, 2, 5]), np.array([0, 0, 1, 1])
    ) == pytest.approx((2, 1.5))  # sums of -3 and 3


def test_the_clustered_error_is_the_sandwich_of_a_regression_on_nothing_but_a_constant(rng):
    """Clusters of unlike sizes, in any order: (X'X)⁻¹ (Σ_g X_g' e_g e_g' X_g) (X'X)⁻¹ G/(G−1), in
    matrices."""
    clusters = rng.permutation(np.repeat(list("abcde"), [1, 2, 3, 5, 9]))
    values, ones = rng.normal(size=20), np.ones((20, 1))
    residuals, bread = values - values.mean(), np.linalg.inv(ones.T @ ones)
    scores = [ones[clusters == name].T @ residuals[clusters == name] for name in "abcde"]
    expected = bread @ sum(np.outer(each, each) for each in scores) @ bread * 5 / 4
    assert statistics.clustered_error(values, clusters) == pytest.approx(
        (values.mean(), np.sqrt(expected.item()))
    )


def test_the_bootstrap_has_the_spread_of_a_nested_sampling(rng):
    """Of a sum of a seed's and an article's effect, closed form: Var_S(1−1/S)/S + Var_G(1−1/G)/G
    with the variances as drawn."""
    seeds, articles = rng.normal(size=6), rng.normal(size=30)
    values, clusters = seeds[:, None] + np.repeat(articles, 5), np.repeat(np.arange(30), 5)
    means = resampled_means(values, clusters, rng, 40_000)
    assert means.mean() == pytest.approx(values.mean(), abs=0.01)
    assert means.std() == pytest.approx(np.sqrt(seeds.var() / 6 + articles.var() / 30), rel=0.02)


def test_draws_are_shares_of_seeds_and_counts_of_clusters(rng):
    """As many as there are, whole ones, each as often as the others: a multinomial's means and
    variances."""
    seeds, groups = statistics.draws(4, 10, rng, 20_000)
    assert seeds.shape == (20_000, 4) and groups.shape == (20_000, 10)
    np.testing.assert_allclose(seeds.sum(1), 1)
    assert (
        (groups.sum(1) == 10).all()
        and (groups == groups.round()).all()
        and (4 * seeds == (4 * seeds).round()).all()
    )
    np.testing.assert_allclose(groups.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(groups.var(0), 0.9, rtol=0.06)
    np.testing.assert_allclose((4 * seeds).var(0), 0.75, rtol=0.06)
    assert len(statistics.draws(2, 2, rng)[0]) == statistics.REPEATS


def test_means_of_given_draws_are_means_over_the_rows_drawn(rng):
    """Of several models and measures at once, written out as a loop."""
    values, clusters = rng.random((2, 3, 4, 7)), np.array(list("bacabca"))
    seeds, groups = (
        np.array([[0.25, 0.5, 0, 0.25], [1.0, 0, 0, 0]]),
        np.array([[2.0, 0, 1], [1, 1, 1]]),
    )
    means = statistics.means_of(values, clusters, (seeds, groups))
    assert means.shape == (2, 2, 3)
    for draw in range(2):
        weights = groups[draw][[("abc").index(name) for name in clusters]]
        for model, measure in np.ndindex(2, 3):
            expected = np.average(seeds[draw] @ values[model, measure], weights=weights)
            assert means[draw, model, measure] == pytest.approx(expected)


def test_an_interval_leaves_as_much_out_on_both_sides():
    assert statistics.interval(np.arange(1001.0)[::-1]) == pytest.approx((25, 975))
    assert statistics.interval(np.arange(1001.0), 0.5) == pytest.approx((250, 750))


def test_the_bootstrap_draws_the_same_twice_and_averages_few_seeds(rng):
    """Four seeds give what their mean gives; of five, some draws leave one out."""
    clusters = np.repeat(np.arange(40), 4)
    values = rng.random((2, 5, 160)) + np.arange(5)[:, None]
    few = statistics.bootstrap(values[:, :4], clusters)
    assert few.shape == (statistics.REPEATS, 2)
    np.testing.assert_array_equal(few, statistics.bootstrap(values[:, :4], clusters))
    mean = values[:, :4].mean(1, keepdims=True)
    np.testing.assert_allclose(few, statistics.bootstrap(mean, clusters))
    assert few.std() < 0.2 < statistics.bootstrap(values, clusters).std()


def test_articles_and_questions_must_be_enough_for_an_interval():
    assert statistics.enough_clusters(np.arange(120) % 30)
    assert not statistics.enough_clusters(np.arange(120) % 29)
    assert not statistics.enough_clusters(np.arange(99) % 30)


def test_models_share_their_draws(rng):
    values, clusters = rng.random((2, 3, 60)), rng.integers(0, 12, 60)
    values[1] = values[0] - 0.25
    means = resampled_means(values, clusters, rng, 500)
    assert means.shape == (500, 2)
    np.testing.assert_allclose(means[:, 0] - means[:, 1], 0.25)


def test_draws_are_as_if_rows_had_been_drawn(rng):
    """Against the plain way: index seeds and articles, average what comes up."""
    values, clusters = rng.random((3, 40)), np.repeat(np.arange(8), [2, 8, 5, 5, 1, 9, 4, 6])
    means = resampled_means(values, clusters, rng, 20_000)
    plain = []
    for _ in range(20_000):
        columns = np.concatenate([np.flatnonzero(clusters == g) for g in rng.integers(0, 8, 8)])
        plain.append(values[rng.integers(0, 3, 3)][:, columns].mean())
    for level in (0.025, 0.5, 0.975):
        assert np.quantile(means, level) == pytest.approx(np.quantile(plain, level), abs=0.01)


def test_sign_flips_are_scipys(rng):
    for shift in (0.0, 0.3, 0.8):
        differences = rng.normal(shift, 1, size=12)
        exact = stats.permutation_test(
            (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
        ).pvalue
        assert statistics.sign_flip(differences, np.arange(12), rng, 100_000) == pytest.approx(
            exact, abs=0.006
        )


def test_sign_flips_of_whole_clusters_in_closed_form(rng):
    """Each cluster's sum turns as one: of 1 and 2 a mean as far as the observed comes up in two of
    four, of −1 and 2 in all."""
    clusters = np.array([0, 1, 0, 1, 1])
    for differences, share in (
        ([0.5, 1, 0.5, 0.5, 0.5], 1 / 2),
        ([-0.5, 1, -0.5, 0.5, 0.5], 1),
        ([0.1, 0.1, 0.2, 0.1, 0.1], 1 / 2),
    ):
        assert statistics.sign_flip(np.array(differences), clusters, rng, 20_000) == pytest.approx(
            share, abs=0.015
        )


def test_a_test_of_one_cluster_is_never_significant_and_the_observed_signs_count(rng):
    assert statistics.sign_flip(np.array([0.1, 0.2, 0.7]), np.zeros(3), rng, 50) == 1.0
    assert statistics.sign_flip(np.ones(60), np.arange(60), rng, 99) == 1 / 100


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0] and statistics.holm([]) == []
    assert statistics.holm([0.3]) == [0.3] and statistics.holm([0.9, 0.02]) == pytest.approx(
        [0.9, 0.04]
    )


def test_holm_rejects_what_its_steps_reject(rng):
    """At any level: in rising order, until one p-value is above the level divided by the tests that
    are left."""
    for count in (1, 2, 5, 9):
        p_values = rng.random(count) ** 3
        for level in (0.01, 0.05, 0.3):
            steps = np.sort(p_values) <= level / np.arange(count, 0, -1)
            rejected = count if steps.all() else int(np.argmin(steps))
            assert sum(value <= level for value in statistics.holm(p_values)) == rejected


@pytest.mark.parametrize(("points", "questions"), [(1, 12559), (2, 3140), (5, 503)])
def test_detectable_differences_of_the_literature(points, questions):
    assert 100 * statistics.detectable(0.4, questions) == pytest.approx(points, rel=1e-3)
    assert statistics.detectable(0.4, questions, effect=4) == pytest.approx(
        2 * statistics.detectable(0.4, questions)
    )


def test_a_detectable_difference_is_found_with_the_power_asked_for():
    """The power of a two-sided z-test at the difference, without the chance of finding it on the
    wrong side."""
    for power, level in ((0.8, 0.05), (0.9, 0.05), (0.8, 0.01)):
        difference = statistics.detectable(0.4, 900, effect=2.25, power=power, level=level)
        error = 0.4 * np.sqrt(2.25 / 900)
        assert stats.norm.sf(stats.norm.isf(level / 2) - difference / error) == pytest.approx(power)


def test_a_difference_must_be_larger_the_more_tests_share_the_level():
    quantile = stats.norm.ppf
    expected = (quantile(1 - 0.05 / 7 / 2) + quantile(0.8)) / (
        quantile(1 - 0.05 / 2) + quantile(0.8)
    )
    assert (
        statistics.stricter(7) == pytest.approx(expected)
        and statistics.stricter(1) == statistics.stricter(0) == 1
    )
    assert statistics.stricter(2) == pytest.approx(
        (quantile(1 - 0.05 / 4) + quantile(0.8)) / (quantile(0.975) + quantile(0.8))
    )


def test_too_few_questions_or_articles_get_no_interval():
    assert (
        statistics.enough(100, 30)
        and not statistics.enough(99, 30)
        and not statistics.enough(100, 29)
    )
    assert not statistics.enough(3, 3)


@pytest.mark.slow
def test_intervals_cover_and_the_test_rejects_as_often_as_they_say(rng):
    """48 articles of 20 questions, ICC 0.1, 5 seeds whose means differ by an SD of 0.5 points,
    2,000 studies."""
    articles, per, seeds, studies, sd = 48, 20, 5, 2_000, 0.4
    clusters, covered, rejected = np.repeat(np.arange(articles), per), 0, 0
    for _ in range(studies):
        article = np.repeat(rng.normal(0, sd * np.sqrt(0.1), articles), per)
        question = article + rng.normal(0, sd * np.sqrt(0.9), articles * per)
        differences = question + rng.normal(0, 0.005, (seeds, 1))
        low, high = statistics.interval(resampled_means(differences, clusters, rng, 1_000))
        covered += low <= 0 <= high
        rejected += statistics.sign_flip(differences.mean(0), clusters, rng, 1_000) < 0.05
    assert 0.93 <= covered / studies <= 0.97
    assert 0.04 <= rejected / studies <= 0.06


@pytest.mark.slow
def test_the_interval_of_what_is_kept_covers_as_often_as_it_says(rng):
    """The ratio of two means, 48 articles of 10 questions: a teacher right in 70 %, a student that
    keeps 80 % of that, articles easy or hard for both (answers right or wrong, shared luck), one
    seed, 2,000 studies."""
    articles, per, studies, covered = 48, 10, 2_000, 0
    clusters = np.repeat(np.arange(articles), per)
    for _ in range(studies):
        ease = np.repeat(rng.beta(7, 3, articles), per)  # mean 0.7
        teacher = rng.random(articles * per) < ease
        student = np.where(
            rng.random(articles * per) < 0.5,
            teacher * (rng.random(articles * per) < 0.8),
            rng.random(articles * per) < 0.8 * ease,
        )
        drawn = resampled_means(
            np.stack([student, teacher]).astype(float)[:, None], clusters, rng, 1_000
        )
        low, high = statistics.interval(drawn[:, 0] / drawn[:, 1])
        covered += low <= 0.8 <= high
    assert 0.93 <= covered / studies <= 0.97

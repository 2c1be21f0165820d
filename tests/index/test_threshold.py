"""The threshold: a gamma fit on leave-one-out training scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cache.base.errors import AsdError
from cache.base.options import make
from index.scorer import find
from index.threshold import METHODS, fit_threshold, p_values
from tests.conftest import make_table


def test_the_percentile_of_known_gamma_scores_comes_back() -> None:
    scores = stats.gamma.rvs(3.0, scale=2.0, size=20_000, random_state=0)
    threshold = fit_threshold(scores)
    assert threshold.parameters["shape"] == pytest.approx(3.0, rel=0.05)
    assert threshold.value == pytest.approx(stats.gamma.ppf(0.9, 3.0, scale=2.0), rel=0.02)
    assert threshold.decide(scores).mean() == pytest.approx(0.1, abs=0.01)


def test_scores_with_negative_values_get_a_location() -> None:
    scores = stats.gamma.rvs(3.0, scale=2.0, size=5000, random_state=0)
    moved = fit_threshold(scores - 10)
    assert moved.value == pytest.approx(fit_threshold(scores).value - 10, abs=0.4)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("value", [0.0, 2.0, -1.0])
def test_scores_that_do_not_vary_tell_no_threshold(value: float, method: str) -> None:
    scores = np.full(50, value)
    scores[3] *= 1 + 1e-12
    threshold = fit_threshold(scores, method)
    assert threshold.value == np.inf
    assert threshold.decide(np.array([value, value + 0.1])).tolist() == [0, 0]


def test_without_scores_nothing_is_called_anomalous() -> None:
    assert fit_threshold(np.empty(0)).decide(np.array([1e9])).tolist() == [0]


def test_zeros_of_duplicate_clips_do_not_break_the_fit() -> None:
    scores = np.concatenate([np.zeros(3), stats.gamma.rvs(3.0, size=100, random_state=0)])
    assert 1 < fit_threshold(scores).value < 20


@pytest.mark.parametrize("percentile", [0, 100, -5, float("nan")])
def test_a_percentile_out_of_range_is_refused(percentile: float) -> None:
    with pytest.raises(AsdError, match="must lie between 0 and 100"):
        fit_threshold(np.ones(3), percentile=percentile)


@pytest.mark.parametrize(("n", "share", "expected"), [(9, 90, 9), (19, 90, 18), (99, 95, 95)])
def test_the_conformal_threshold_by_hand(n: int, share: float, expected: int) -> None:
    # Scores 1..n: the ceil(share (n + 1))-th smallest is that number itself.
    assert fit_threshold(np.arange(1.0, n + 1), "conformal", share).value == expected


def test_too_few_scores_for_a_conformal_threshold() -> None:
    assert fit_threshold(np.arange(8.0), "conformal", 90).value == np.inf


def test_the_empirical_quantile() -> None:
    assert fit_threshold(np.arange(11.0), "quantile", 90).value == 9


def test_p_values_by_hand_and_their_agreement_with_the_conformal_threshold() -> None:
    train = np.array([3.0, 1.0, 2.0, 2.0])
    np.testing.assert_allclose(p_values(train, np.array([0.5, 2.0, 2.5, 4.0])), [1, 0.8, 0.4, 0.2])
    rng = np.random.default_rng(0)
    train, scores = rng.gamma(2, size=99), rng.gamma(3, size=500)
    threshold = fit_threshold(train, "conformal", 90)
    np.testing.assert_array_equal(threshold.decide(scores), p_values(train, scores) <= 0.1)
    assert p_values(np.empty(0), scores).tolist() == [1.0] * 500


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(AsdError, match="unknown threshold 'beta'; known are gamma, quantile"):
        fit_threshold(np.ones(3), "beta")


# The gamma distribution is only an assumption: its misfit is allowed 2 %, the others' nothing but
# the interpolation between 200 scores.
@pytest.mark.parametrize(("method", "slack"), [("gamma", 0.02), ("quantile", 0.005), ("conformal", 0.005)])
@pytest.mark.parametrize("name", ["min-distance", "mahalanobis", "ldn", "fusion"])
def test_the_false_alarm_rate_on_unseen_normals_is_the_one_asked_for(
    name: str, method: str, slack: float
) -> None:
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(40):
        scorer = make(find(name), {})
        scorer.fit(make_table(rng.normal(size=(200, 8))))
        threshold = fit_threshold(scorer.train_scores(), method)
        unseen = rng.normal(size=(200, 8)).astype(np.float32)
        alarms.append(threshold.decide(scorer.score(unseen)).mean())
    error = np.std(alarms, ddof=1) / 40**0.5
    assert np.mean(alarms) == pytest.approx(0.1, abs=3 * error + slack)

"""The threshold: a gamma fit on leave-one-out training scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cache.errors import AsdError
from index.options import make
from index.scorer import find
from index.threshold import fit_gamma
from tests.conftest import make_table


def test_the_percentile_of_known_gamma_scores_comes_back() -> None:
    scores = stats.gamma.rvs(3.0, scale=2.0, size=20_000, random_state=0)
    threshold = fit_gamma(scores, 90)
    assert threshold.shape == pytest.approx(3.0, rel=0.05)
    assert threshold.value == pytest.approx(stats.gamma.ppf(0.9, 3.0, scale=2.0), rel=0.02)
    assert threshold.decide(scores).mean() == pytest.approx(0.1, abs=0.01)


def test_scores_with_negative_values_are_moved_to_start_at_zero() -> None:
    scores = stats.gamma.rvs(3.0, scale=2.0, size=5000, random_state=0)
    moved = fit_gamma(scores - 10, 90)
    assert moved.value == pytest.approx(fit_gamma(scores, 90).value - 10, abs=0.2)


@pytest.mark.parametrize("value", [0.0, 2.0, -1.0])
def test_scores_that_do_not_vary(value: float) -> None:
    threshold = fit_gamma(np.full(5, value))
    assert threshold.value == value
    assert threshold.decide(np.array([value, value + 0.1])).tolist() == [0, 1]


def test_without_scores_nothing_is_called_anomalous() -> None:
    assert fit_gamma(np.empty(0)).decide(np.array([1e9])).tolist() == [0]


def test_zeros_of_duplicate_clips_do_not_break_the_fit() -> None:
    scores = np.concatenate([np.zeros(3), stats.gamma.rvs(3.0, size=100, random_state=0)])
    assert 1 < fit_gamma(scores).value < 20


@pytest.mark.parametrize("percentile", [0, 100, -5, float("nan")])
def test_a_percentile_out_of_range_is_refused(percentile: float) -> None:
    with pytest.raises(AsdError, match="must lie between 0 and 100"):
        fit_gamma(np.ones(3), percentile)


def test_the_false_alarm_rate_on_unseen_normals_is_the_one_asked_for() -> None:
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(40):
        scorer = make(find("min-distance"), {})
        scorer.fit(make_table(rng.normal(size=(200, 8))))
        threshold = fit_gamma(scorer.train_scores(), 90)
        unseen = rng.normal(size=(200, 8)).astype(np.float32)
        alarms.append(threshold.decide(scorer.score(unseen)).mean())
    # 40 runs: mean within three standard errors of 10 %, plus 1 % for the gamma's own misfit.
    error = np.std(alarms, ddof=1) / 40**0.5
    assert np.mean(alarms) == pytest.approx(0.1, abs=3 * error + 0.01)

"""Areas of resamples against scikit-learn; intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cache.table import Section
from eval.metrics.intervals import ResamplingPlan, Scores, left_out_parts, official, weighted_parts
from eval.metrics.rules import RULES
from eval.metrics.sections import SectionTruth, evaluate_section
from eval.metrics.uncertainty import bootstrap, compare, jackknife, several, uncertainty

FAN, PUMP = Section("fan", 0), Section("pump", 0)
RULE = RULES[2023]


def scored(rng: np.random.Generator, shift: float, each: int = 50, name: str = "c") -> Scores:
    """A section of `each` clips a domain and condition, anomalies `shift` deviations higher."""
    kinds = np.repeat(np.arange(4), each)  # target, then anomaly
    values = rng.normal(0, 1, 4 * each) + shift * (kinds % 2)
    clips = tuple(f"{name}{i:04d}" for i in range(4 * each))
    return Scores(values, SectionTruth(kinds % 2 == 1, kinds >= 2, clips))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3)), min_size=8, max_size=40),
    st.sampled_from([2020, 2021, 2023]),
)
def test_weighted_areas_are_scikit_learns_of_repeated_clips(
    rows: list[tuple[int, int, int]], year: int
) -> None:
    scores, kinds, weights = (np.array(column) for column in zip(*rows, strict=True))
    truth = SectionTruth(kinds % 2 == 1, kinds >= 2)
    found = weighted_parts(scores.astype(float), truth, RULES[year], weights[None].astype(float))
    for name, value in zip(RULES[year].parts, found[0], strict=True):
        kind, _, domain = name.partition("_")
        wanted = np.ones(len(scores), dtype=bool)
        if domain:
            own = truth.target == (domain == "target")
            wanted = own if year == 2021 else own | truth.anomaly
        labels = np.repeat(truth.anomaly[wanted], weights[wanted])
        if len(set(labels.tolist())) < 2:
            assert np.isnan(value)
            continue
        values = np.repeat(scores[wanted], weights[wanted])
        expected = roc_auc_score(labels, values, max_fpr=0.1 if kind == "pauc" else None)
        assert value == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=150)
@given(
    # Scores with many ties; domain and condition; from one clip to 45, so that a tenth of the normal clips
    # falls between two of them, and one normal clip or one anomaly comes up.
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=45),
    st.sampled_from([2020, 2021, 2023]),
)
def test_figures_without_a_clip_are_those_of_the_other_clips(rows: list[tuple[int, int]], year: int) -> None:
    scores, kinds = (np.array(column) for column in zip(*rows, strict=True))
    truth = SectionTruth(kinds % 2 == 1, kinds >= 2)
    found = left_out_parts(scores.astype(float), truth, RULES[year])
    each = weighted_parts(scores.astype(float), truth, RULES[year], 1 - np.eye(len(scores)))
    np.testing.assert_allclose(found, each, rtol=0, atol=1e-12)


def test_figures_without_a_clip_need_no_weight_a_pair_of_clips() -> None:
    one = scored(np.random.default_rng(2), 1.0, each=10_000)  # 40,000 clips: 12 GiB of weights
    found = left_out_parts(one.scores, one.truth, RULE)
    some = np.arange(0, 40_000, 5_000)
    weights = np.ones((len(some), 40_000))
    weights[np.arange(len(some)), some] = 0
    each = weighted_parts(one.scores, one.truth, RULE, weights)
    np.testing.assert_allclose(found[some], each, rtol=0, atol=1e-12)


def test_huge_scores_do_not_overflow() -> None:
    rng = np.random.default_rng(0)
    one = scored(rng, 1.0)
    huge = Scores(one.scores * 1e307, one.truth)
    assert official({FAN: huge}, RULE) == official({FAN: one}, RULE)
    assert jackknife({FAN: huge}, RULE, 0.95) == jackknife({FAN: one}, RULE, 0.95)


def test_the_point_is_the_official_score() -> None:
    rng = np.random.default_rng(1)
    sections = {FAN: scored(rng, 1.0), PUMP: scored(rng, 0.5)}
    results = {s: evaluate_section(one.scores, None, one.truth, RULE) for s, one in sections.items()}
    parts = [r.figures[name] for r in results.values() for name in RULE.parts]
    assert official(sections, RULE) == pytest.approx(6 / sum(1 / p for p in parts))


def population(shift: float) -> float:
    """Official score of endless clips: the ROC of two normal distributions is Phi(z(x) + d)."""
    area = norm.cdf(shift / np.sqrt(2))
    x = (np.arange(200_000) + 0.5) / 200_000 * 0.1
    partial = (1 + (np.mean(norm.cdf(norm.ppf(x) + shift)) * 0.1 - 0.005) / 0.095) / 2
    return float(3 / (2 / area + 1 / partial))


def test_intervals_hold_the_true_score_as_often_as_they_say() -> None:
    # 300 data sets whose true official score is known. If the intervals hold it 95 times in 100,
    # a share below 0.90 or above 0.99 of 300 comes less than once in a thousand times.
    rng, true = np.random.default_rng(2023), population(1.2)
    plan, inside = ResamplingPlan(resamples=300), np.zeros(2)
    for _ in range(300):
        found = uncertainty({FAN: scored(rng, 1.2)}, RULE, plan)
        assert found is not None
        spans = (found.bootstrap, found.jackknife)
        inside += [span.low <= true <= span.high for span in spans]
    assert (inside / 300 >= 0.90).all(), inside / 300
    assert (inside / 300 <= 0.99).all(), inside / 300


def test_the_jackknife_is_its_definition() -> None:
    # Clip by clip with scikit-learn; four strata of six clips.
    one = scored(np.random.default_rng(5), 1.0, each=6)
    found = jackknife({FAN: one}, RULES[2020], 0.95)
    anomaly, kinds = one.truth.anomaly, 2 * one.truth.target + one.truth.anomaly
    left = []
    for i in range(len(one.scores)):
        keep = np.arange(len(one.scores)) != i
        pair = [roc_auc_score(anomaly[keep], one.scores[keep], max_fpr=p) for p in (None, 0.1)]
        left.append(np.mean(pair))
    values = np.array(left)
    variance = sum(5 / 6 * np.sum((values[kinds == k] - values[kinds == k].mean()) ** 2)
                   for k in range(4))  # fmt: skip
    assert found is not None
    point = official({FAN: one}, RULES[2020])
    assert found.high - point == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)


def test_no_interval_from_one_clip_of_a_kind() -> None:
    one = scored(np.random.default_rng(0), 1.0, each=1)
    assert uncertainty({FAN: one}, RULE, ResamplingPlan(resamples=50)) is None


def test_no_interval_without_an_official_score() -> None:
    one = scored(np.random.default_rng(0), 1.0)
    unknown = Scores(one.scores, SectionTruth(one.truth.anomaly, None, one.truth.clips))
    assert uncertainty({FAN: one, PUMP: unknown}, RULE, ResamplingPlan()) is None
    assert uncertainty({}, RULE, ResamplingPlan()) is None


def test_resamples_are_the_same_for_every_order_of_clips() -> None:
    one = scored(np.random.default_rng(3), 1.0)
    order = np.random.default_rng(4).permutation(len(one.scores))
    truth = one.truth
    clips = tuple(truth.clips[i] for i in order)
    other = Scores(one.scores[order], SectionTruth(truth.anomaly[order], truth.target[order], clips))
    plan = ResamplingPlan(resamples=50)
    draws = [bootstrap({FAN: x}, RULE, plan) for x in (one, other)]
    np.testing.assert_array_equal(*draws)
    assert len(set(draws[0].tolist())) > 25
    assert bootstrap({FAN: one}, RULE, ResamplingPlan(50, seed=1))[0] != draws[0][0]


def noisy(one: Scores, rng: np.random.Generator, amount: float) -> Scores:
    return Scores(one.scores + rng.normal(0, amount, len(one.scores)), one.truth)


def test_a_known_difference_is_found_and_its_sign() -> None:
    rng = np.random.default_rng(6)
    good = {FAN: scored(rng, 1.5), PUMP: scored(rng, 1.5)}
    bad = {section: noisy(one, rng, 1.5) for section, one in good.items()}
    found = compare([good], [bad], RULE, ResamplingPlan())
    assert found is not None
    assert found.differs
    assert found.difference == pytest.approx(official(good, RULE) - official(bad, RULE))
    assert 0 < found.interval.low < found.difference < found.interval.high
    back = compare([bad], [good], RULE, ResamplingPlan())
    assert back is not None
    assert back.interval.low == pytest.approx(-found.interval.high)


def test_a_null_difference_is_found_in_one_case_of_twenty_at_most_thrice() -> None:
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(40):
        base = scored(rng, 1.0)
        two = [[{FAN: noisy(base, rng, 0.5)}] for _ in range(2)]
        found = compare(*two, RULE, ResamplingPlan(resamples=300))
        assert found is not None
        wrong += found.differs
    assert wrong <= 6  # binomial(40, 0.05) is above 6 less than once in a hundred


def test_pairing_makes_the_interval_narrower() -> None:
    rng = np.random.default_rng(8)
    base = scored(rng, 1.0)
    near = noisy(base, rng, 0.1)
    clips = tuple(clip.replace("c", "d") for clip in base.truth.clips)
    renamed = Scores(near.scores, SectionTruth(base.truth.anomaly, base.truth.target, clips))
    paired = compare([{FAN: base}], [{FAN: near}], RULE, ResamplingPlan())
    assert paired is not None
    own = uncertainty({FAN: base}, RULE, ResamplingPlan())
    assert own is not None
    assert paired.interval.high - paired.interval.low < (own.bootstrap.high - own.bootstrap.low) / 2
    assert compare([{FAN: base}], [{FAN: renamed}], RULE, ResamplingPlan()) is None


def test_only_shared_sections_are_compared() -> None:
    rng = np.random.default_rng(9)
    one, other = scored(rng, 1.0), scored(rng, 0.5)
    found = compare([{FAN: one, PUMP: other}], [{FAN: one}], RULE, ResamplingPlan(resamples=50))
    assert found is not None
    assert (found.sections, found.difference, found.differs) == (1, 0.0, False)


def test_several_runs_count_as_their_mean() -> None:
    rng = np.random.default_rng(10)
    base = scored(rng, 1.0)
    runs = [{FAN: noisy(base, rng, 1.0)} for _ in range(3)]
    found = compare(runs, [{FAN: base}], RULE, ResamplingPlan(resamples=100))
    assert found is not None
    mean = np.mean([official(run, RULE) for run in runs])
    assert found.difference == pytest.approx(mean - official({FAN: base}, RULE))


def test_comparisons_hold_together() -> None:
    assert several(ResamplingPlan(level=0.95), 5).level == pytest.approx(0.99)
    assert (
        several(ResamplingPlan(level=0.95), 1).level == several(ResamplingPlan(level=0.95), 0).level == 0.95
    )

"""The task's figures against pair counts, scikit-learn and cases worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from cache.base.errors import AsdError
from cache.table import Section
from eval.metrics.official import Detection, auc, detection, harmonic_mean, pauc, pauc_printed
from eval.metrics.sections import (
    FIGURES,
    SectionResult,
    SectionTruth,
    evaluate_section,
    official_score,
    summarise,
)

UNTIMED = settings(deadline=None, max_examples=60)
# Few distinct values, so that ties are the rule.
TIED = st.lists(st.integers(-3, 3).map(lambda n: n / 4), min_size=1, max_size=25)
WIDE = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=25)
SCORES = st.one_of(TIED, WIDE)


def pairs_in_order(normal: list[float], anomaly: list[float]) -> float:
    points = [0.5 if a == n else float(a > n) for n, a in product(normal, anomaly)]
    return sum(points) / len(points)


def mcclish(normal: list[float], anomaly: list[float], p: float) -> float:
    """Area below the ROC polygon up to p, from its corners, standardised."""
    corners = [(0.0, 0.0)]
    for cut in sorted({*normal, *anomaly}, reverse=True):
        false = sum(n >= cut for n in normal) / len(normal)
        corners.append((false, sum(a >= cut for a in anomaly) / len(anomaly)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(corners):
        end = min(x1, p)
        if end > x0:
            area += (end - x0) * (y0 + (y0 + (y1 - y0) * (end - x0) / (x1 - x0))) / 2
    return 0.5 * (1 + (area - p * p / 2) / (p - p * p / 2))


def printed(normal: list[float], anomaly: list[float], top: int) -> float:
    hardest = sorted(normal, reverse=True)[:top]
    return sum(a > n for n, a in product(hardest, anomaly)) / (top * len(anomaly))


def labelled(normal: list[float], anomaly: list[float]) -> tuple[list[int], list[float]]:
    return [0] * len(normal) + [1] * len(anomaly), [*normal, *anomaly]


@UNTIMED
@given(SCORES, SCORES)
def test_auc_counts_pairs_and_ties_half(normal: list[float], anomaly: list[float]) -> None:
    assert auc(normal, anomaly) == pytest.approx(pairs_in_order(normal, anomaly), abs=1e-12)


@UNTIMED
@given(TIED, TIED, st.sampled_from([0.05, 0.1, 0.3, 1.0]))
def test_areas_are_scikit_learns(normal: list[float], anomaly: list[float], p: float) -> None:
    truth, scores = labelled(normal, anomaly)
    assert auc(normal, anomaly) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    expected = roc_auc_score(truth, scores, max_fpr=p)
    assert pauc(normal, anomaly, max_fpr=p) == pytest.approx(expected, abs=1e-12)


@UNTIMED
@given(SCORES, SCORES, st.sampled_from([0.1, 0.25, 0.7, 1.0]))
def test_pauc_is_the_area_below_the_polygon(normal: list[float], anomaly: list[float], p: float) -> None:
    found = pauc(normal, anomaly, p)
    assert found == pytest.approx(mcclish(normal, anomaly, p), abs=1e-9)
    assert 0.5 - p / (4 - 2 * p) - 1e-12 <= found <= 1 + 1e-12


@UNTIMED
@given(SCORES, SCORES, st.integers(1, 25))
def test_pauc_printed_counts_the_hardest_normals(normal: list[float], anomaly: list[float], top: int) -> None:
    top = min(top, len(normal))
    p = top / len(normal)
    assert pauc_printed(normal, anomaly, p) == pytest.approx(printed(normal, anomaly, top))


def test_auc_by_hand() -> None:
    # Pairs (normal, anomaly): 1<2, 1<3, 1<3, 2=2 (half), 2<3, 2<3, 3>2, 3=3, 3=3 (half each):
    # (3 + 2.5 + 1) / 9.
    assert auc([1, 2, 3], [2, 3, 3]) == pytest.approx(6.5 / 9)
    assert auc([0.1, 0.2], [0.3]) == 1.0
    assert auc([0.3], [0.1, 0.2]) == 0.0
    assert auc([5, 5], [5, 5, 5]) == 0.5


def test_pauc_by_hand() -> None:
    # Descending: anomaly 9, normal 8, anomaly 7, normals 6 5 4. The ROC goes up to 1/2 at 0,
    # right to 1/4, up to 1. For p = 1/2: A = 1/4 * 1/2 + 1/4 * 1 = 3/8; least area p^2/2 = 1/8,
    # most p = 1/2: (1 + (3/8 - 1/8) / (1/2 - 1/8)) / 2 = (1 + 2/3) / 2 = 5/6.
    assert pauc([8, 6, 5, 4], [9, 7], max_fpr=0.5) == pytest.approx(5 / 6)
    # p = 0.1 lies inside the first step: A = 0.1 * 1/2, (1 + (0.05 - 0.005) / 0.095) / 2.
    assert pauc([8, 6, 5, 4], [9, 7]) == pytest.approx((1 + 9 / 19) / 2)
    # A tie is a slope: one normal and the only anomaly at 8 rise from (0, 0) to (1/2, 1), which
    # for p = 1/2 leaves A = 1/4 and (1 + (1/4 - 1/8) / (3/8)) / 2 = 2/3.
    assert pauc([8, 1], [8], max_fpr=0.5) == pytest.approx(2 / 3)


def test_pauc_ends_by_hand() -> None:
    assert pauc([1, 2, 3], [4, 5]) == 1.0
    assert pauc([5, 5], [5]) == pytest.approx(0.5)
    # Every anomaly below every normal: A = 0, so (1 - 0.005 / 0.095) / 2 = 9/19.
    assert pauc([4, 5], [1]) == pytest.approx(9 / 19)


def test_pauc_printed_by_hand() -> None:
    # floor(0.1 * 20) = 2 hardest normals, 19 and 18; anomalies 17, 18.5, 19, 30. Above 19: 30;
    # above 18: 18.5, 19, 30; the tie with 19 counts nothing: 4 / (2 * 4).
    normal, anomaly = list(range(20)), [17, 18.5, 19, 30]
    assert pauc_printed(normal, anomaly) == 0.5
    assert pauc_printed([*normal, -1], anomaly) == 0.5  # floor(2.1) is still 2
    assert pauc_printed(normal, anomaly) != pytest.approx(pauc(normal, anomaly), abs=0.01)


def test_pauc_printed_takes_the_floor_of_the_number_meant() -> None:
    assert math.floor(0.29 * 100) == 28  # as doubles
    normal = np.arange(100)
    # 29 hardest normals: 99 ... 71; one anomaly above 71 alone.
    assert pauc_printed(normal, [71.5], p=0.29) == pytest.approx(1 / 29)


def test_pauc_printed_without_a_hardest_normal() -> None:
    with pytest.raises(AsdError, match=r"floor\(0.1 x 9\) = 0 .* at least 10 normal clips"):
        pauc_printed(range(9), [1])


@UNTIMED
@given(TIED, TIED)
def test_areas_depend_on_order_alone(normal: list[float], anomaly: list[float]) -> None:
    huge = [(np.array(x) - 0.1) * 1.7e308 for x in (normal, anomaly)]
    assert auc(*huge) == auc(normal, anomaly)
    assert pauc(*huge) == pauc(normal, anomaly)


@pytest.mark.parametrize("area", [auc, pauc, pauc_printed])
@pytest.mark.parametrize(
    ("normal", "anomaly", "message"),
    [
        ([], [1.0], r"normal scores of shape \(0,\)"),
        ([1.0], [], r"anomaly scores of shape \(0,\)"),
        ([[1.0]], [1.0], r"normal scores of shape \(1, 1\)"),
        ([1.0, math.nan, math.inf], [1.0], "normal score nan at place 1 and 1 more"),
        ([1.0], [-math.inf], "anomaly score -inf at place 0 and 0 more"),
    ],
)
def test_areas_refuse(area, normal: list, anomaly: list, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        area(normal, anomaly)


@pytest.mark.parametrize("p", [0.0, -0.1, 1.1, math.nan])
def test_areas_refuse_a_rate(p: float) -> None:
    for area in (pauc, pauc_printed):
        with pytest.raises(AsdError, match=f"false positive rate {p}"):
            area(range(20), [1], p)


def test_harmonic_mean_by_hand() -> None:
    assert harmonic_mean([0.5]) == 0.5
    assert harmonic_mean(iter([1, 0.5, 0.25])) == pytest.approx(3 / 7)  # 3 / (1 + 2 + 4)
    assert harmonic_mean([0.0, 0.9]) == 0.0


@UNTIMED
@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=9))
def test_harmonic_mean_lies_among_its_values(values: list[float]) -> None:
    found = harmonic_mean(values)
    assert found <= max(values) * (1 + 1e-12)
    if min(values) > 1e-300:
        assert found >= min(values) * (1 - 1e-12)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf], [0.5, -0.1], [0.0, -1.0]])
def test_harmonic_mean_refuses(values: list[float]) -> None:
    with pytest.raises(AsdError, match="harmonic mean of"):
        harmonic_mean(values)


@UNTIMED
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1)), min_size=1, max_size=20))
def test_detection_is_scikit_learns(rows: list[tuple[bool, int]]) -> None:
    truth, called = map(list, zip(*rows, strict=True))
    expected = precision_recall_fscore_support(
        np.array(truth, dtype=int), called, average="binary", zero_division=0.0
    )[:3]
    found = detection(truth, called)
    assert (found.precision, found.recall, found.f1) == pytest.approx(expected)


def test_detection_by_hand() -> None:
    # Two of three anomalies found, one false alarm: 2/3, 2/3, 2/3; one of two calls right: 1/2.
    assert detection([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]) == Detection(2 / 3, 2 / 3, 4 / 6)
    assert detection([True, False], [1, 1]) == Detection(0.5, 1.0, 2 / 3)
    assert detection([True, False], [0, 0]) == Detection(0.0, 0.0, 0.0)
    assert detection([False], [0]) == Detection(0.0, 0.0, 0.0)


@pytest.mark.parametrize("decisions", [[1], [1, 2], [0.5, 1], [math.nan, 1]])
def test_detection_refuses(decisions: list) -> None:
    with pytest.raises(AsdError, match="one 0 or 1 a clip"):
        detection([True, False], decisions)


def truth_of(text: str) -> SectionTruth:
    """``sn ta`` is a normal source clip and an anomaly of the target domain; ``?`` is unknown."""
    words = text.split()
    target = None if "?" in text else np.array([word[0] == "t" for word in words])
    return SectionTruth(np.array([word[1] == "a" for word in words]), target)


def test_a_section_by_hand() -> None:
    truth = truth_of("sn sn sa tn tn ta")
    found = evaluate_section([1, 4, 3, 2, 6, 5], [0, 1, 0, 0, 1, 1], truth)
    # Anomalies of both domains are 3 and 5. Source normals 1, 4: 1<3, 1<5, 4>3, 4<5.
    assert found.auc_source == pytest.approx(3 / 4)
    # Target normals 2, 6: 2<3, 2<5, 6>3, 6>5.
    assert found.auc_target == pytest.approx(2 / 4)
    assert found.auc == pytest.approx(5 / 8)
    # The highest of all is a normal clip, so the ROC is 0 up to 1/4: the least there is.
    assert found.pauc == pytest.approx(9 / 19)
    assert found.pauc_printed is None  # floor(0.1 * 4) = 0
    assert found.detection_source == Detection(0.0, 0.0, 0.0)
    assert found.detection_target == Detection(1 / 2, 1.0, 2 / 3)
    assert found.detection == Detection(1 / 3, 1 / 2, 2 / 5)
    one = {"normal": 2, "anomaly": 1}
    assert found.counts == {"source": one, "target": one}


@UNTIMED
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 9)), min_size=1, max_size=40))
def test_a_section_is_its_definitions(rows: list[tuple[bool, bool, int]]) -> None:
    anomaly, target, scores = (np.array(column) for column in zip(*rows, strict=True))
    found = evaluate_section(scores, (scores > 5).astype(int), SectionTruth(anomaly, target))
    for domain, area in ((False, found.auc_source), (True, found.auc_target)):
        rows_of = anomaly | (target == domain)
        known = anomaly.any() and not anomaly[rows_of].all()
        assert (area is not None) == known
        if known:
            expected = roc_auc_score(anomaly[rows_of], scores[rows_of])
            assert area == pytest.approx(expected, abs=1e-12)
    both = anomaly.any() and not anomaly.all()
    assert (found.pauc is not None) == (found.auc is not None) == both
    assert (found.pauc_printed is not None) == (both and np.sum(~anomaly) >= 10)
    if both:
        assert found.pauc == pytest.approx(roc_auc_score(anomaly, scores, max_fpr=0.1))
    assert sum(n for domain in found.counts.values() for n in domain.values()) == len(rows)
    assert all(x is None or math.isfinite(x) for x in found.figures.values())


def test_a_section_without_domains() -> None:
    found = evaluate_section([1, 2, 3], [0, 0, 1], truth_of("?n ?n ?a"))
    assert (found.auc, found.pauc, found.detection) == (1.0, 1.0, Detection(1.0, 1.0, 1.0))
    assert (found.auc_source, found.auc_target) == (None, None)
    assert (found.detection_source, found.detection_target) == (None, None)
    assert found.counts == {"unknown": {"normal": 2, "anomaly": 1}}


def test_a_section_without_target_normals() -> None:
    found = evaluate_section([1, 2, 3], [0, 0, 1], truth_of("sn sa ta"))
    assert (found.auc_source, found.auc_target, found.pauc) == (1.0, None, 1.0)
    assert found.detection_target == Detection(1.0, 1.0, 1.0)


def test_a_section_without_anomalies() -> None:
    found = evaluate_section([1, 2], [0, 1], truth_of("sn tn"))
    assert set(found.figures.values()) == {None}
    assert found.counts["source"] == {"normal": 1, "anomaly": 0}


def test_a_section_prints_eq_3_from_ten_normals_on() -> None:
    truth = SectionTruth(np.arange(11) == 10, np.arange(11) % 2 == 0)
    found = evaluate_section(np.arange(11), np.zeros(11, dtype=int), truth)
    assert found.pauc_printed == 1.0


@pytest.mark.parametrize(
    ("scores", "decisions", "truth", "message"),
    [
        ([1, 2], [0, 1, 0], "sn sa", "scores, decisions and labels of shapes"),
        ([1, 2, 3], [0, 1, 0], "sn sa", "scores, decisions and labels of shapes"),
        ([1, math.nan], [0, 1], "sn sa", "test score nan at place 1"),
        ([1, 2], [0, 7], "sn sa", "one 0 or 1 a clip"),
        ([1, 2], [0, 7], "sn tn", "one 0 or 1 a clip"),
        ([], [], "", "one or more"),
    ],
)
def test_a_section_refuses(scores: list, decisions: list, truth: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        evaluate_section(scores, decisions, truth_of(truth))


def result(source: float | None, target: float | None, partial: float | None) -> SectionResult:
    return SectionResult(source, target, partial, None, None, Detection(0.5, 1.0, 2 / 3), None, None, {})


def named(*results: SectionResult) -> dict[Section, SectionResult]:
    return {Section("fan", i): one for i, one in enumerate(results)}


def test_the_official_score_by_hand() -> None:
    results = named(result(1.0, 0.5, 0.5), result(0.25, 1.0, 0.5))
    # 6 / (1 + 2 + 2 + 4 + 1 + 2)
    assert official_score(results) == pytest.approx(0.5)
    assert official_score(named(result(0.0, 1.0, 1.0))) == 0.0


@pytest.mark.parametrize(
    "results",
    [
        [],
        [result(None, 0.5, 0.5)],
        [result(0.5, 0.5, 0.5), result(0.5, None, 0.5)],
        [result(0.5, 0.5, None)],
    ],
)
def test_no_official_score_from_less_than_everything(results: list[SectionResult]) -> None:
    assert official_score(named(*results)) is None
    assert summarise(named(*results)).official is None


def test_a_summary_by_hand() -> None:
    found = summarise(named(result(1.0, 0.5, 0.5), result(0.25, None, 0.5)))
    assert found.harmonic["auc_source"] == pytest.approx(2 / 5)  # 2 / (1 + 4)
    assert found.arithmetic["auc_source"] == pytest.approx(0.625)
    assert found.harmonic["auc_target"] is found.arithmetic["auc_target"] is None
    assert found.harmonic["f1_source"] == pytest.approx(2 / 3)
    assert found.harmonic["f1_target"] is None
    assert tuple(found.harmonic) == tuple(found.arithmetic) == FIGURES
    assert set(summarise({}).harmonic.values()) == {None}


def test_figures_are_named_after_what_they_hold() -> None:
    parts = [Detection(*(n / 10 for n in three)) for three in ((1, 2, 3), (4, 5, 6), (7, 8, 9))]
    found = SectionResult(0.91, 0.92, 0.93, 0.94, 0.95, *parts, {}, 0.96, 0.97).figures
    assert found == {
        "pauc_source": 0.96,
        "pauc_target": 0.97,
        "auc_source": 0.91,
        "auc_target": 0.92,
        "pauc": 0.93,
        "auc": 0.94,
        "pauc_printed": 0.95,
        "precision_source": 0.1,
        "recall_source": 0.2,
        "f1_source": 0.3,
        "precision_target": 0.4,
        "recall_target": 0.5,
        "f1_target": 0.6,
        "precision": 0.7,
        "recall": 0.8,
        "f1": 0.9,
    }

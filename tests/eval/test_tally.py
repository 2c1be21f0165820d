"""Figures and intervals of many sections, added up section by section."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from cache.table import Section
from eval.metrics import intervals
from eval.metrics.intervals import ResamplingPlan, Scores, official
from eval.metrics.rules import RULES, Rule
from eval.metrics.sections import SectionTruth, evaluate_section
from eval.metrics.uncertainty import Tally, bootstrap, jackknife, uncertainty
from eval.results.tables import SystemResult, format_table


def truth() -> SectionTruth:
    kinds = np.arange(12) % 4
    clips = tuple(f"{i:02d}" for i in range(12))
    return SectionTruth(kinds % 2 == 1, kinds >= 2, clips)


def drawn_sections(count: int) -> dict[Section, Scores]:
    rng = np.random.default_rng(count)
    names = [Section(("fan", "pump", "saw")[i % 3], i) for i in range(count)]
    return {
        name: Scores(rng.normal(size=12) + truth().anomaly * rng.uniform(0, 2), truth())
        for name in sorted(names)
    }


def test_many_sections_print_as_their_lowest() -> None:
    sections = {s: evaluate_section(one.scores, None, one.truth) for s, one in drawn_sections(70).items()}
    text = format_table(SystemResult("ours", sections, {}))
    assert "the 20 lowest of 70 sections" in text
    height = {s: sum(r.figures[n] for n in RULES[2023].parts) for s, r in sections.items()}
    lowest = sorted(height, key=lambda s: height[s])[:20]
    for section, found in sections.items():
        cells = [f"{100 * found.figures[name]:.2f}" for name in ("auc_source", "auc_target")]
        line = "  ".join([f"{section.machine_type:14}", f"{section.number:02d}"])
        assert (line.split() in [row.split()[:2] for row in text.splitlines()]) == (section in lowest), cells
    few = dict(list(sections.items())[:60])
    assert "lowest" not in format_table(SystemResult("ours", few, {}))


@pytest.mark.parametrize("rule", [RULES[2020], RULES[2023]])
def test_intervals_of_many_sections_are_their_definition(rule: Rule) -> None:
    # Clip by clip, all sections stacked each time.
    sections, plan = drawn_sections(5), ResamplingPlan(resamples=40)
    variance = 0.0
    for name, one in sections.items():
        kinds = 2 * one.truth.target + one.truth.anomaly
        values = np.empty(12)
        for i in range(12):
            keep = np.arange(12) != i
            rest = SectionTruth(one.truth.anomaly[keep], one.truth.target[keep])
            values[i] = official({**sections, name: Scores(one.scores[keep], rest)}, rule)
        for kind in range(4):
            own = values[kinds == kind]
            variance += (len(own) - 1) / len(own) * np.sum((own - own.mean()) ** 2)
    found = jackknife(sections, rule, 0.95)
    assert found is not None
    reach = 1.959964 * np.sqrt(variance)
    assert found.high == pytest.approx(min(1, official(sections, rule) + reach), rel=1e-6)
    whole = uncertainty(sections, rule, plan)
    assert whole is not None
    low, high = np.quantile(bootstrap(sections, rule, plan), [0.025, 0.975])
    assert (whole.bootstrap.low, whole.bootstrap.high) == (low, high)
    assert whole.jackknife == found
    assert set(whole.parts) == set(sections)


def test_a_section_of_no_use_gives_a_score_of_zero_and_an_interval() -> None:
    rule, sections = RULES[2023], drawn_sections(3)
    worst = next(iter(sections))
    sections[worst] = Scores(-1.0 * truth().anomaly, truth())
    assert official(sections, rule) == 0
    found = jackknife(sections, rule, 0.95)
    assert found is not None
    assert (found.low, found.high) == (0, 0)


def test_one_section_without_domains_leaves_no_interval() -> None:
    sections = drawn_sections(3)
    tally = Tally(RULES[2023], ResamplingPlan(resamples=10))
    for name, one in sections.items():
        tally.add(name, one)
    assert tally.uncertainty() is not None
    tally.add(Section("zoo", 0), Scores(np.arange(12.0), SectionTruth(truth().anomaly)))
    assert tally.uncertainty() is None


def many_scores(count: int) -> Scores:
    rng = np.random.default_rng(count)
    clips = tuple(f"{i:05d}" for i in rng.permutation(count))
    scores = np.round(rng.normal(size=count), 2)  # with ties
    return Scores(scores, SectionTruth(rng.random(count) < 0.5, rng.random(count) < 0.4, clips))


@pytest.mark.parametrize("rule", [RULES[2020], RULES[2023]])
def test_intervals_in_parts_are_those_at_once(rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    one, found = {Section("fan", 0): many_scores(150)}, []
    for at_once in (10**9, 2000, 1):
        monkeypatch.setattr(intervals, "_AT_ONCE", at_once)
        found.append(uncertainty(one, rule, ResamplingPlan(resamples=300)))
    assert found[0] is not None
    assert found[0] == found[1] == found[2]


def test_memory_of_intervals_does_not_grow_with_the_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_AT_ONCE", 1 << 16)
    peaks = []
    for count in (400, 1600):
        one = many_scores(count)
        tracemalloc.start()
        uncertainty({Section("fan", 0): one}, RULES[2023], ResamplingPlan(resamples=400))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    rows = 300 * (1600 - 400)  # bytes of a clip's own names, numbers and order
    assert peaks[1] < 1.1 * peaks[0] + rows, peaks

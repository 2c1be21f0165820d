"""Alarms over time: evidence against simulation and order statistics, events clip by clip."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from cache.base.errors import AsdError
from eval.monitor.alarm import Alarm, AlarmRule
from eval.monitor.evidence import Evidence, exceedance_levels


def _run(evidence: Evidence, scores: np.ndarray, limit: float) -> int | None:
    """Clips until the evidence reaches the limit."""
    for number, score in enumerate(scores, 1):
        if evidence.add(float(score)) >= limit:
            return number
    return None


@pytest.mark.parametrize("count", [20, 100, 1000])
def test_bounds_hold_for_the_true_shares_as_often_as_promised(count: int) -> None:
    rng, held = np.random.default_rng(count), 0
    for _ in range(400):
        levels = exceedance_levels(rng.uniform(size=count))
        held += all(1 - level.score <= level.share for level in levels)  # uniform: the share is known
    assert binom.cdf(held, 400, 0.95) > 1e-4
    assert [level.score for level in levels] == sorted(level.score for level in levels)


def test_fewer_groups_than_clips_promise_less() -> None:
    scores = np.random.default_rng(0).normal(size=200)
    by_clip, by_group = exceedance_levels(scores), exceedance_levels(scores, groups=10)
    assert all(few.share > many.share for few, many in zip(by_group, by_clip, strict=True))
    assert by_group[-1].share == pytest.approx(exceedance_levels(scores[:10])[-1].share, rel=0.2)


@pytest.mark.parametrize("count", [30, 300])
def test_normal_clips_run_for_as_long_as_promised(count: int) -> None:
    """The mean run is at least the limit; truncated runs make the estimate smaller, never larger."""
    rng, limit = np.random.default_rng(count), 300.0
    runs = []
    for _ in range(60):
        evidence = Evidence(exceedance_levels(rng.normal(size=count)))
        runs.append(_run(evidence, rng.normal(size=1500), limit) or 1500)
    assert np.mean(runs) >= limit


@pytest.mark.parametrize("alike", [0.0, 0.9])  # correlation of the windows of one recording
def test_recordings_of_several_windows_run_for_as_long_as_promised(alike: float) -> None:
    rng, limit, runs, windows = np.random.default_rng(7), 200.0, [], 4

    def recordings(count: int) -> np.ndarray:  # (count, windows), each window's score of deviation 1
        own = rng.normal(size=(count, windows)) * (1 - alike) ** 0.5
        return np.asarray(own + rng.normal(size=(count, 1)) * alike**0.5)

    for _ in range(40):
        levels = exceedance_levels(recordings(60).ravel(), groups=60)
        evidence, found = Evidence(levels), 1000
        for clip, scores in enumerate(recordings(1000), 1):
            if evidence.add(float(scores.max()), windows) >= limit:
                found = clip
                break
        runs.append(found)
    assert np.mean(runs) >= limit
    assert Evidence(levels).clips_to(limit) < Evidence(levels).clips_to(limit, windows) < 20


def test_a_fault_is_found_and_a_stronger_one_sooner() -> None:
    rng, delays = np.random.default_rng(1), []
    reference = rng.normal(size=200)
    for shift in (1.0, 2.0, 5.0):
        evidence = Evidence(exceedance_levels(reference))
        for score in rng.normal(size=300):
            evidence.add(float(score))
        delays.append(_run(evidence, rng.normal(shift, size=3000), 43_200) or 3000)
    assert delays[0] < 300
    assert delays == sorted(delays, reverse=True)
    assert Evidence(exceedance_levels(reference)).clips_to(43_200) <= delays[-1] <= 8


def test_evidence_by_hand() -> None:
    evidence = Evidence(exceedance_levels(np.arange(1.0, 101.0)))
    levels = exceedance_levels(np.arange(1.0, 101.0))
    capital = {(level.score, stake): 0.0 for level in levels for stake in (0.1, 0.3, 0.6, 0.9)}
    for score in (99.5, 3.0, 200.0, 60.0):
        for (at, stake), held in capital.items():
            share = next(level.share for level in levels if level.score == at)
            capital[at, stake] = (held + 1) * (1 - stake + (stake / share if score >= at else 0))
        assert evidence.add(score) == pytest.approx(np.mean(list(capital.values())))


def test_a_state_goes_through_json_and_no_other_bank_takes_it() -> None:
    scores = np.random.default_rng(2).normal(size=50)
    one, other = (Evidence(exceedance_levels(scores)) for _ in range(2))
    for score in (1.0, 2.0, 0.3):
        one.add(score)
    other.restore(json.loads(json.dumps(one.state())))
    assert other.add(1.7) == one.add(1.7)
    with pytest.raises(AsdError, match="another bank"):
        other.restore([1.0])


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_evidence_needs_finite_normal_scores(scores: list[float]) -> None:
    with pytest.raises(AsdError, match="normal scores"):
        exceedance_levels(np.array(scores))


def test_two_normal_clips_are_no_evidence() -> None:
    with pytest.raises(AsdError, match="too few"):
        Evidence([level for level in exceedance_levels(np.array([1.0])) if level.share > 0.999])
    with pytest.raises(AsdError, match="not judged"):
        Evidence(exceedance_levels(np.arange(30.0))).add(float("nan"))


def _events(rule: AlarmRule, decisions: str, seconds: float = 60.0) -> list[tuple[int, str, int]]:
    alarm, found = Alarm(rule), []
    for index, decision in enumerate(decisions):
        if event := alarm.add(index * seconds, float(decision == "x"), decision == "x"):
            found.append((index, event.kind, event.number))
    return found


def test_k_of_n_with_hysteresis() -> None:
    rule = AlarmRule(votes=3, window=5, clear=3, cool_down=0.0)
    assert _events(rule, "x..x...x..") == []
    assert _events(rule, "..x.xx") == [(5, "raised", 1)]
    # It stays raised through two normal clips; three in a row end it, unless the votes still hold.
    kinds = [event[1] for event in _events(rule, "xxx..x...")]
    assert kinds == ["raised", "repeated", "repeated", "repeated", "cleared"]


def test_a_cool_down_keeps_repeats_back() -> None:
    rule = AlarmRule(votes=1, window=1, clear=1, cool_down=300.0)
    assert _events(rule, "xxxxxxxxxxx") == [
        (0, "raised", 1),
        (5, "repeated", 1),
        (10, "repeated", 1),
    ]
    # Another alarm within the cool-down is told when it is over, if it lasts; else neither it nor its end.
    assert _events(rule, "x.x...") == [(0, "raised", 1), (1, "cleared", 1)]
    assert _events(rule, "x.xxxxx") == [(0, "raised", 1), (1, "cleared", 1), (5, "raised", 2)]


def test_an_alarm_by_evidence_goes_on_from_its_state() -> None:
    rng = np.random.default_rng(3)
    levels = exceedance_levels(rng.normal(size=100))
    rule = AlarmRule(votes=0, limit=1000.0, cool_down=0.0)
    scores = np.concatenate([rng.normal(size=50), rng.normal(4, size=20)])
    whole, interrupted = Alarm(rule, Evidence(levels)), Alarm(rule, Evidence(levels))
    told = [whole.add(float(i), float(score), False) for i, score in enumerate(scores)]
    again = []
    for i, score in enumerate(scores):
        again.append(interrupted.add(float(i), float(score), False))
        kept = json.loads(json.dumps(interrupted.state()))
        interrupted = Alarm(rule, Evidence(levels))
        interrupted.restore(kept)
    assert told == again
    events = [event for event in told if event]
    assert 50 <= events[0].time <= 60
    assert "once in 1,000 clips" in events[0].reason


def test_rules_that_mean_nothing_are_refused() -> None:
    for changes in ({"votes": 6}, {"votes": 0}, {"window": 0}, {"clear": 0}, {"cool_down": -1.0}):
        with pytest.raises(AsdError, match="expected|neither"):
            AlarmRule(**changes)  # type: ignore[arg-type]
    with pytest.raises(AsdError, match="normal scores"):
        Alarm(AlarmRule(limit=100.0))
    with pytest.raises(AsdError, match="not the state"):
        Alarm(AlarmRule()).restore({"votes": []})

"""How thresholds are learnt: groups left out together, folds, rates, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import pairwise_distances

from cache.base.errors import AsdError
from cache.heard import window_id
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.run import main as evaluate
from index.bank import Bank
from index.calibration import calibrate, folds_of
from index.domains import TrainingSet
from index.groups import Groups, alike, group_clips
from index.run import main as build
from index.scorer import find
from index.threshold import fit_threshold, group_weights, p_values, share_of
from tests.conftest import make_recipe, make_table

ErrorOf = Callable[..., str]
FAN = Section("fan", 0)


def siblings(groups: int, each: int, width: int = 0, target: int = 0, seed: int = 0) -> EmbeddingTable:
    """Groups as far from each other as any, whose clips lie close together; the last are target."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(5 * np.eye(groups, width or groups), each, axis=0)
    values = centres + rng.normal(0, 0.1, centres.shape)
    return make_table(values, ["source"] * (len(values) - target) + ["target"] * target)


def named(table: EmbeddingTable, names: list[str]) -> EmbeddingTable:
    keys = tuple(replace(key, clip_id=name) for key, name in zip(table.keys, names, strict=True))
    return replace(table, keys=keys)


@pytest.mark.parametrize("name", ["min-distance", "mahalanobis", "ldn", "varmin", "fusion", "pooled"])
def test_scores_of_groups_are_those_of_scorers_that_never_heard_them(name: str) -> None:
    table = siblings(14, 3, target=6)
    groups = Groups(np.repeat(np.arange(14), 3), "")
    found = calibrate(find(name), table, groups, "file")
    fold = folds_of(groups.numbers, np.array([key.domain == "target" for key in table.keys]))
    assert found.count == 14
    assert set(fold) == set(range(10))
    assert found.groups.tolist() == groups.numbers.tolist()
    for number in range(10):
        scorer = find(name)()
        scorer.fit(table.select(np.flatnonzero(fold != number)))
        expected = scorer.score(table.embeddings[fold == number])
        np.testing.assert_array_equal(found.scores[fold == number], expected)


def test_clips_of_their_own_and_a_single_group_take_the_scorers_own_scores() -> None:
    table = siblings(6, 3)
    for numbers in (np.arange(18), np.zeros(18, dtype=np.intp)):
        assert calibrate(find("min-distance"), table, Groups(numbers, ""), "file").scores.size == 0


def test_a_transductive_scorer_is_not_asked_for_one_clip() -> None:
    table = siblings(4, 2)
    numbers = np.array([0, 0, 0, 1, 2, 2, 3, 3])  # a fold of clip 3 alone
    assert calibrate(find("domain-z-test"), table, Groups(numbers, ""), "file").scores.size == 0
    pairs = Groups(np.repeat(np.arange(4), 2), "")
    assert calibrate(find("domain-z-test"), table, pairs, "file").scores.size == 8


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_groups_whole_and_spread_the_target(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.unique(rng.integers(0, 25, 120), return_inverse=True)[1]
    target = np.zeros(120, dtype=bool)
    few = rng.choice(120, 9, replace=False)
    groups[few], target[few] = groups.max() + 1 + np.arange(9), True
    groups = np.unique(groups, return_inverse=True)[1]
    fold = folds_of(groups, target)
    for group in range(groups.max() + 1):
        assert len(set(fold[groups == group])) == 1
    assert np.bincount(fold[target], minlength=10).max() == 1
    sizes = np.bincount(fold)
    assert len(sizes) == 10
    assert sizes.max() - sizes.min() <= np.bincount(groups).max()


def test_clusters_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    table = make_table(
        np.concatenate([siblings(9, 5, 12, seed=3).embeddings * [1, 1, 5, 1, 1, 1, 1, 1, 2, 1, 1, 1],
                        rng.normal(3, 1, (7, 12))]), ["source"] * 45 + ["target"] * 7
    )  # fmt: skip
    found = alike(table)
    values = table.embeddings.astype(np.float64)
    standard = (values - values.mean(axis=0)) / values.std(axis=0)
    for rows in (np.arange(45), np.arange(45, 52)):
        apart = pairwise_distances(standard[rows])
        pairs = apart[np.triu_indices(len(rows), 1)]
        median, upper = np.median(pairs), np.quantile(pairs, 0.84)
        height = min(max(0.7 * median, median - 1.5 * (upper - median)), 0.99 * median)
        expected = AgglomerativeClustering(
            None, metric="precomputed", linkage="average", distance_threshold=height
        ).fit_predict(apart)
        together = expected[:, None] == expected
        np.testing.assert_array_equal(found[rows][:, None] == found[rows], together)
    assert group_clips(table, "auto").count == len(set(found.tolist()))


def test_auto_finds_siblings_and_leaves_most_unrelated_clips_alone() -> None:
    groups = group_clips(siblings(12, 4), "auto")
    assert groups.numbers.tolist() == np.repeat(np.arange(12), 4).tolist()
    assert group_clips(make_table(np.eye(9)), "auto").count == 9  # all as far from each other
    unrelated = make_table(np.random.default_rng(0).normal(size=(60, 200)))
    assert group_clips(unrelated, "auto").count > 30


def test_very_many_clips_join_the_nearest_that_was_clustered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = siblings(8, 10)
    whole = alike(table)
    monkeypatch.setattr("index.groups._CLUSTERED", 24)
    np.testing.assert_array_equal(alike(table)[:, None] == alike(table), whole[:, None] == whole)


def test_groups_by_folder_day_and_attribute() -> None:
    table = siblings(3, 2)
    names = [
        "fan/a/20260131_101500.wav", "fan/a/2026-01-31 11.wav", "fan/b/20260201T0000.wav",
        "fan/b/x/m 2026_02_01.wav", "fan/b/20260202/1.wav", "fan/b/20260202/2.wav",
    ]  # fmt: skip
    keys = tuple(
        replace(key, clip_id=name, attributes={"speed": str(i % 3)})
        for i, (key, name) in enumerate(zip(table.keys, names, strict=True))
    )
    table = replace(table, keys=keys)
    order = [names.index(clip) for clip in table.clip_ids]  # a table is sorted by its names

    def groups(grouping: str) -> list[int]:
        numbers = group_clips(table, grouping).numbers
        by_name = {row: int(number) for row, number in zip(order, numbers, strict=True)}
        first: dict[int, int] = {}
        return [first.setdefault(by_name[i], i) for i in range(6)]

    assert groups("folder") == [0, 0, 2, 3, 4, 4]
    assert groups("day") == [0, 0, 2, 2, 4, 4]
    assert groups("attribute:speed") == groups("column:speed") == [0, 1, 2, 0, 1, 2]
    assert groups("none") == groups("file") == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["99991231", "20261301", "120260131", "20260131123", "1234.wav"])
def test_numbers_that_are_no_dates(name: str) -> None:
    table = named(siblings(2, 1), [f"fan/{name}", "fan/20260131"])
    with pytest.raises(AsdError, match=r"no date in the name of fan/.*expected one as 20260131"):
        group_clips(table, "day")


@pytest.mark.parametrize(
    ("grouping", "message"),
    [
        ("week", "--group week: expected one of auto, none, file, folder, day"),
        ("attribute:", "--group attribute:: expected one of"),
        ("attribute:load", "6 of 6 training clips of fan/section_00 have no load.*known are speed"),
    ],
)
def test_a_grouping_that_cannot_be(grouping: str, message: str) -> None:
    table = siblings(3, 2)
    keys = tuple(replace(key, attributes={"speed": "1"}) for key in table.keys)
    with pytest.raises(AsdError, match=message):
        group_clips(replace(table, keys=keys), grouping)


def test_windows_and_copies_join_whatever_the_grouping() -> None:
    table = siblings(6, 1)
    values = table.embeddings.copy()
    values[5] = values[0]
    names = [window_id("a", (0, 1)), window_id("a", (1, 2)), "b", "c", "d", "e"]
    table = named(replace(table, embeddings=values), names)
    for grouping in ("none", "auto"):
        assert group_clips(table, grouping).numbers.tolist() == [0, 0, 1, 2, 3, 0]


def test_a_domain_of_one_group_is_left_out_one_by_one() -> None:
    table = siblings(6, 2, target=4)
    names = [f"{'x' if i < 4 else 'y' if i < 8 else 'z'}/{i:02d}" for i in range(12)]
    groups = group_clips(named(table, names), "folder")
    assert groups.numbers.tolist() == [0] * 4 + [1] * 4 + [2, 3, 4, 5]
    assert groups.told.endswith("the target clips are all of one group and left out one by one")


def test_p_values_of_groups_by_brute_force_and_their_resolution() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([3, 0, 7, 9], [1, 5, 2, 4])
    train, scores = rng.normal(size=12).round(1), rng.normal(size=40).round(1)
    shares = [[(train[groups == g] >= s).mean() for g in set(groups.tolist())] for s in scores]
    found = p_values(train, scores, groups)
    np.testing.assert_allclose(found, (1 + np.sum(shares, axis=1)) / 5)
    assert p_values(train, np.array([99.0]), groups).tolist() == [0.2]
    for share in (0.3, 0.5, 0.75):
        limit = fit_threshold(train, "conformal", 100 * (1 - share), groups)
        np.testing.assert_array_equal(limit.decide(scores), found <= share + 1e-12)
    assert fit_threshold(train, "conformal", 81, groups).value == np.inf


@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_a_group_counts_once_however_many_clips_it_has(offset: float) -> None:
    # Groups of 1, 2 and 4: weights 4, 2 and 1 are as many copies of each clip.
    scores = np.array([1.0, 1.5, 2.0, 1.2, 1.9, 2.4, 0.7]) + offset
    groups = np.array([0, 1, 1, 2, 2, 2, 2])
    copied = np.repeat(scores, (4 * group_weights(groups)).astype(int))
    for method in ("gamma", "quantile"):
        limit = fit_threshold(scores, method, 90, groups).value
        if method == "quantile":
            assert limit == np.quantile(copied, 0.9, method="inverted_cdf")
        elif offset == 0:
            assert limit == pytest.approx(stats.gamma.ppf(0.9, *stats.gamma.fit(copied, floc=0)))
        else:
            assert limit == pytest.approx(fit_threshold(copied).value)
    assert fit_threshold(scores, groups=np.arange(7)) == fit_threshold(scores)


def test_gamma_of_clips_of_their_own_is_scipys_fit() -> None:
    scores = stats.gamma.rvs(3.0, scale=2.0, size=200, random_state=0)
    shape, _, scale = stats.gamma.fit(scores, floc=0)
    found = fit_threshold(scores)
    assert found.parameters["shape"] == pytest.approx(shape, rel=1e-6)
    assert found.value == pytest.approx(stats.gamma.ppf(0.9, shape, scale=scale), rel=1e-6)


@pytest.mark.parametrize("effect", [0.0, 0.5, 2.0])
def test_the_promise_holds_for_clips_of_new_groups(effect: float) -> None:
    rng = np.random.default_rng(0)
    alarms, alone = [], []
    groups = np.repeat(np.arange(30), 4)
    for _ in range(400):
        train = rng.normal(size=120) + effect * rng.normal(size=30)[groups]
        unseen = rng.normal(size=20) + effect * rng.normal(size=20)
        alarms.append((p_values(train, unseen, groups) <= 0.1).mean())
        alone.append((p_values(train[:30], unseen) <= 0.1).mean())
    # Conformal: at most a tenth, and less by at most 1 / 31.
    error = np.std(alarms) / 20
    assert 0.1 - 1 / 31 - 3 * error < np.mean(alarms) < 0.1 + 3 * error


@pytest.mark.parametrize(
    ("rate", "interval", "share"),
    [
        ("1/100", 60, 0.01), ("3/50", 60, 0.06), ("1/day", 60, 1 / 1440), ("2/hour", 10, 1 / 180),
        ("1/month", 60, 60 / (365.2425 / 12 * 86400)), ("1/year", 3600, 3600 / (365.2425 * 86400)),
    ],
)  # fmt: skip
def test_rates_of_clips_and_of_time(rate: str, interval: float, share: float) -> None:
    assert share_of(rate, interval) == pytest.approx(share)


@pytest.mark.parametrize("rate", ["", "1", "1/0", "2/1", "-1/9", "1/fortnight", "nan/9", "1/nan", "x/9"])
def test_what_is_no_rate(rate: str) -> None:
    with pytest.raises(AsdError, match=r"--false-alarms .*expected fewer alarms than clips"):
        share_of(rate, 60)


def bank_of(root: Path, table: EmbeddingTable, *options: str) -> dict[str, object]:
    store = Store(root / "cache")
    store.write(table, make_recipe())
    scorer = ["--scorer", "min-distance", "--bank", str(root / "bank")]
    assert build(["--cache-dir", str(store.root), *scorer, *options]) == 0
    record = json.loads((root / "bank" / str(FAN) / "record.json").read_text())
    return dict(record)


def test_a_bank_says_how_it_was_calibrated_and_scores_so_when_read(tmp_path: Path) -> None:
    table = siblings(12, 4)
    record = bank_of(tmp_path, table)
    assert record["calibration"] == {
        "grouping": "auto",
        "assumed": "clips of similar sound taken for recorded together",
        "groups": 12,
        "least_p": 1 / 13,
        "promised": pytest.approx(0.1),
    }
    fitted = Bank(tmp_path / "bank").read(FAN, make_recipe())
    expected = calibrate(find("min-distance"), table, group_clips(table, "auto"), "auto")
    np.testing.assert_array_equal(fitted.train_scores(), expected.scores)
    np.testing.assert_array_equal(fitted.groups(), expected.groups)
    limit = fit_threshold(expected.scores, "gamma", 90.0, expected.groups)
    assert fitted.threshold.value == limit.value
    assert "1 in 10 normal clips is flagged if new recordings vary as the 12 groups" in fitted.promise()


@pytest.mark.parametrize(
    "name",
    [
        "beam",
        "domain-z-test",
        "genrep",
        "kmeans",
        "knn-smote",
        "ldn",
        "mahalanobis",
        "memmixup",
        "min-distance",
        "varmin",
    ],
)
def test_scorers_of_folds_score_no_training_clips(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads these scores; leaving clips out one by one is most of what a fit costs."""
    owner, left_out = cast(Any, find("min-distance" if name == "beam" else name)), []
    plain = owner.leave_one_out

    def noted(scorer: object, training: TrainingSet, domain: str) -> object:
        left_out.append(domain)
        return plain(scorer, training, domain)

    monkeypatch.setattr(owner, "leave_one_out", noted)
    record = bank_of(tmp_path, siblings(12, 4, target=8), "--scorer", name)
    assert cast(dict[str, object], record["calibration"])["groups"] == 12
    assert left_out == ["source", "target"]  # of the scorer that the bank holds, once


def test_another_grouping_or_a_bank_of_before_is_built_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = siblings(12, 4)
    grouped = bank_of(tmp_path, table)["threshold"]
    alone = bank_of(tmp_path, table, "--group", "none")["threshold"]
    assert grouped["value"] > 2 * alone["value"]  # type: ignore[index]
    capsys.readouterr()
    bank_of(tmp_path, table, "--group", "none")
    assert "1 of them were there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rate", "interval", "said"),
    [
        ("1/13", "60", ""),
        (
            "1/14",
            "60",
            "1/14 is 1 in 14 clips, but the 12 groups of training clips of fan/section_00",
        ),
        ("1/month", "60", "1/month is 1 in 43829 clips"),
        ("1/month", "600000", ""),
    ],
)
def test_a_rate_that_the_bank_cannot_support_is_refused(
    tmp_path: Path, error_of: ErrorOf, rate: str, interval: str, said: str
) -> None:
    if not said:
        record = bank_of(tmp_path, siblings(12, 4), "--false-alarms", rate, "--clip-interval", interval)
        share = share_of(rate, float(interval))
        assert record["calibration"]["promised"] == pytest.approx(share)  # type: ignore[index]
        return
    Store(tmp_path).write(siblings(12, 4), make_recipe())
    told = error_of(build, "--cache-dir", tmp_path, "--false-alarms", rate, "--clip-interval", interval)
    assert said in told
    assert "show nothing rarer than 1 in 13: record more" in told


def test_a_rate_and_a_percentile_exclude_each_other(tmp_path: Path, error_of: ErrorOf) -> None:
    Store(tmp_path).write(siblings(12, 4), make_recipe())
    told = error_of(build, "--cache-dir", tmp_path, "--false-alarms", "1/5", "--percentile", "95")
    assert "--percentile 95 and --false-alarms 1/5 say the same thing" in told


def scored(root: Path, table: EmbeddingTable, test: np.ndarray, *options: str) -> Path:
    bank_of(root, table, *options)
    queries = make_table(test, split="test")
    keys = tuple(replace(key, condition=None, domain=None) for key in queries.keys)
    Store(root / "cache").write(replace(queries, keys=keys), make_recipe())
    where = ["--cache-dir", str(root / "cache"), "--bank", str(root / "bank")]
    assert evaluate([*where, "--out", str(root / "out")]) == 0
    return root / "out"


def test_results_and_page_say_on_what_condition_the_rate_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = siblings(12, 4)
    out = scored(tmp_path, table, table.embeddings[:20])
    system = json.loads((out / "system.json").read_text())
    assert system["facts"]["calibration"] == (
        "about 1 in 10 normal clips is flagged if new recordings vary as the groups of training "
        "clips did: 12 groups a section (--group auto)"
    )
    assert system["calibration"]["fan/section_00"]["groups"] == 12
    page = (out / "report.html").read_text()
    assert "About 1 in 10 normal clips is flagged if new recordings vary as the 12 groups" in page
    assert "recording set-up" not in page + capsys.readouterr().err


def test_far_more_alarms_than_promised_are_told_with_both_causes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = siblings(12, 4)
    out = scored(tmp_path, table, 90 + table.embeddings[:20])
    said = "20 of 20 clips are flagged where 2 would be if all were normal: the machine or the recording"
    assert f"fan/section_00: {said}" in capsys.readouterr().err
    page = (out / "report.html").read_text()
    assert "flagged if all were normal. The machine or the recording set-up is not as it was for the" in page
    assert "95 %" not in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--percentile", "99"],
            "The threshold is extrapolated: 12 groups of training clips show nothing",
        ),
        (
            ["--group", "folder"],
            "The threshold is a guess: 48 different training clips, all of one group",
        ),
    ],
)
def test_a_threshold_that_is_more_or_less_a_guess_says_so(
    tmp_path: Path, options: list[str], said: str
) -> None:
    if "folder" in options:  # one domain of one group: clip by clip, and no more than a guess
        table = named(siblings(12, 4), [window_id("fan/long.wav", (i, i + 1)) for i in range(48)])
    else:
        table = siblings(12, 4)
    out = scored(tmp_path, table, table.embeddings[:20], *options)
    assert said in (out / "report.html").read_text()


def test_an_experiment_takes_a_threshold_beside_its_name(
    root: Path, tmp_path: Path, error_of: ErrorOf
) -> None:
    out = tmp_path / "out"
    where = ["--data", str(root), "--cache-dir", str(tmp_path / "cache"), "--no-report"]
    named = ["--percentile", "80", "--group", "attribute:speed", "--out", str(out)]
    assert evaluate(["logmel", *where, *named]) == 0
    (record,) = (out / "bank").glob("*/*/record.json")
    told = json.loads(record.read_text())
    assert told["threshold"]["percentile"] == 80
    assert (told["calibration"]["grouping"], told["calibration"]["groups"]) == (
        "attribute:speed",
        2,
    )
    said = error_of(evaluate, "--false-alarms", "1/9", "--cache-dir", tmp_path)
    assert "scorer.false_alarms=1/9 is of an experiment, and none is named" in said

"""Scorers: a contract for all of them, and each against its formula."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cache.base.errors import AsdError
from cache.base.options import make, options_of
from cache.table import EmbeddingTable
from index.scorer import Neighbours, Scorer, explained, find, names
from tests.conftest import make_table

METRICS = ["euclidean", "cosine"]


def section(source: int = 60, target: int = 6, width: int = 16, seed: int = 0) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(2, 1, (source, width)), rng.normal(3, 2, (target, width))])
    return make_table(values, ["source"] * source + ["target"] * target)


def queries(count: int = 200, width: int = 16) -> np.ndarray:
    return np.random.default_rng(9).normal(2.5, 2, (count, width)).astype(np.float32)


def fitted(name: str, table: EmbeddingTable, **options: str | int | bool) -> Scorer:
    scorer = make(find(name), options)
    scorer.fit(table)
    return scorer


def reference_distances(
    table: EmbeddingTable, points: np.ndarray, metric: str, *, standardise: bool
) -> dict[str, np.ndarray]:
    """Every query to every training clip of a domain, written from the definition."""
    train = table.embeddings.astype(np.float64)
    points = points.astype(np.float64)
    if standardise:
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        train, points = (train - mean) / deviation, (points - mean) / deviation
    rows = {d: table.domain_rows(d) for d in ("source", "target")}
    return {d: cdist(points, train[r], metric) for d, r in rows.items() if r.size}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_min_distance_is_its_formula(metric: str, standardise: bool, k: int) -> None:
    table, points = section(), queries()
    scorer = fitted("min-distance", table, metric=metric, standardise=standardise, k=k)
    full = reference_distances(table, points, metric, standardise=standardise)
    expected = np.min([np.sort(d, axis=1)[:, :k].mean(axis=1) for d in full.values()], axis=0)
    np.testing.assert_allclose(scorer.score(points), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("metric", METRICS)
def test_domain_scale_is_its_formula(metric: str) -> None:
    table, points = section(), queries()
    scorer = fitted("domain-scale", table, metric=metric)
    full = reference_distances(table, points, metric, standardise=True)
    expected = []
    for domain, distances in full.items():
        rows = table.domain_rows(domain)
        inner = reference_distances(table, table.embeddings[rows], metric, standardise=True)[domain]
        np.fill_diagonal(inner, np.inf)
        expected.append(distances.min(axis=1) / np.median(inner.min(axis=1)))
    np.testing.assert_allclose(scorer.score(points), np.min(expected, axis=0), rtol=1e-5)


def test_min_distance_by_hand() -> None:
    table = make_table([[0, 0], [4, 0], [0, 10]], ["source", "source", "target"])
    scorer = fitted("min-distance", table, standardise=False)
    points = np.float32([[1, 0], [0, 7], [4, 3]])
    np.testing.assert_allclose(scorer.score(points), [1, 3, 3])
    why = scorer.explain(points)
    assert why.decided.tolist() == ["source", "target", "source"]
    assert why.source_clip.tolist() == [
        "fan/train/0000.wav",
        "fan/train/0000.wav",
        "fan/train/0001.wav",
    ]
    np.testing.assert_allclose(why.target_distance, [101**0.5, 3, 65**0.5])
    # Without itself: (0,0)-(4,0) 4, and the target clip's nearest is the source clip at 10.
    np.testing.assert_allclose(scorer.train_scores(), [4, 4, 10])


def test_domain_scale_by_hand() -> None:
    values = [[0], [1], [3], [100], [110], [130]]
    table = make_table(values, ["source"] * 3 + ["target"] * 3)
    scorer = fitted("domain-scale", table, standardise=False)
    # Leave-one-out: source 1 1 2, median 1; target 10 10 20, median 10.
    np.testing.assert_allclose(scorer.score(np.float32([[5], [140], [20]])), [2, 1, 8])


@pytest.mark.parametrize("name", names())
class TestEveryScorer:
    def test_scores_are_finite_and_higher_far_away(self, name: str) -> None:
        scorer = fitted(name, section())
        together = scorer.score(np.concatenate([queries(50) / 4 + 2, -9 * queries(50) - 30]))
        near, far = together[:50], together[50:]
        assert near.dtype == np.float64
        assert np.isfinite(near).all()
        assert far.min() > near.max()

    def test_a_score_does_not_depend_on_the_other_queries(self, name: str) -> None:
        scorer, points = fitted(name, section(990, 10, 768)), queries(200, 768)
        if scorer.transductive:
            pytest.skip("transductive: it uses the test set's own statistics and says so")
        together = scorer.score(points)
        for size in (1, 2, 64):
            parts = [scorer.score(points[i : i + size]) for i in range(0, 200, size)]
            np.testing.assert_array_equal(np.concatenate(parts), together)
        np.testing.assert_array_equal(scorer.score(np.asfortranarray(points)), together)

    def test_nor_does_it_over_many_blocks(self, name: str) -> None:
        """Eight bands, or spectra of two spacings: sums over parts add in one order."""
        for blocks in (
            {f"beats/band{i}": (4 * i, 4 * i + 4) for i in range(16)},
            {"logspec.linear": (0, 32), "logspec.erb": (32, 64)},
        ):
            table = replace(section(60, 10, 64), blocks=blocks)
            scorer, points = fitted(name, table), queries(30, 64)
            if not scorer.transductive:
                alone = [scorer.score(points[i : i + 1]) for i in range(30)]
                np.testing.assert_array_equal(np.concatenate(alone), scorer.score(points))

    def test_an_explanation_comes_with_the_score(self, name: str) -> None:
        scorer = fitted(name, section())
        np.testing.assert_array_equal(scorer.explain(queries()).score, scorer.score(queries()))

    def test_no_score_moves_with_the_condition_labels(self, name: str) -> None:
        table = section()
        keys = tuple(replace(key, condition="anomaly") for key in table.keys)
        shuffled = replace(table, keys=keys)
        np.testing.assert_array_equal(
            fitted(name, table).score(queries()), fitted(name, shuffled).score(queries())
        )

    def test_its_state_scores_the_same(self, name: str) -> None:
        scorer, points = fitted(name, section()), queries()
        again = make(find(name), options_of(scorer))
        again.restore(scorer.state())
        np.testing.assert_array_equal(again.score(points), scorer.score(points))
        np.testing.assert_array_equal(again.train_scores(), scorer.train_scores())
        assert again.explain(points).decided.tolist() == scorer.explain(points).decided.tolist()

    @pytest.mark.parametrize(("source", "target"), [(60, 0), (60, 1), (0, 6), (2, 1), (1, 1), (1, 0)])
    def test_sections_with_few_clips_of_a_domain(self, name: str, source: int, target: int) -> None:
        scorer = fitted(name, section(source, target))
        assert np.isfinite(scorer.score(queries())).all()
        assert np.isfinite(scorer.train_scores()).all()
        assert len(scorer.train_scores()) == (0 if source + target == 1 else source + target)

    def test_duplicate_clips(self, name: str) -> None:
        values = np.repeat(section(8, 3).embeddings, 4, axis=0)
        table = make_table(values, ["source"] * 32 + ["target"] * 12)
        scorer = fitted(name, table)
        assert np.isfinite(scorer.score(queries())).all()
        assert np.isfinite(scorer.score(values)).all()
        assert np.isfinite(scorer.train_scores()).all()

    def test_a_query_that_is_not_finite_or_of_another_width(self, name: str) -> None:
        scorer = fitted(name, section())
        with pytest.raises(AsdError, match="NaN"):
            scorer.score(np.full((2, 16), np.nan, "f4"))
        with pytest.raises(AsdError, match="values"):
            scorer.score(np.zeros((2, 5), "f4"))


def test_k_larger_than_the_reference_averages_all_there_are() -> None:
    table, points = section(5, 2), queries(4)
    full = reference_distances(table, points, "euclidean", standardise=True)
    expected = np.min([d.mean(axis=1) for d in full.values()], axis=0)
    np.testing.assert_allclose(fitted("min-distance", table, k=50).score(points), expected, rtol=1e-5)


def test_clips_of_unknown_domain_count_as_source() -> None:
    values = section(6, 2).embeddings
    unknown = fitted("domain-scale", make_table(values, [None] * 6 + ["target"] * 2))
    source = fitted("domain-scale", make_table(values, ["source"] * 6 + ["target"] * 2))
    np.testing.assert_array_equal(unknown.score(queries()), source.score(queries()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, r"--k 0 must lie in \[1, inf\]"),
        ({"ratio": 1}, "no option 'ratio'; it has standardise, .* metric, k"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(AsdError, match=message):
        make(find("min-distance"), options)


def test_a_scorer_whose_explanations_lack_the_score_is_scored() -> None:
    scorer, points = fitted("min-distance", section()), queries()
    told = scorer.explain(points)
    without = Neighbours(*(getattr(told, each.name) for each in fields(told) if each.name != "score"))
    stranger = SimpleNamespace(explain=lambda _: without, score=scorer.score)
    found = explained(cast(Scorer, stranger), points)
    np.testing.assert_array_equal(found.score, scorer.score(points))
    assert found.part is told.part

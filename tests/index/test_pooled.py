"""The scorer ``pooled`` against scikit-learn, SciPy and brute-force refits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from cache.table import EmbeddingTable
from index.covariance import fit_covariance, row_products, whitening
from index.scorers.pooled import Pooled, fold_numbers
from tests.conftest import make_table


def section(source: int = 40, target: int = 8, width: int = 12, seed: int = 0) -> EmbeddingTable:
    """Correlated embeddings, the target moved."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width)) / np.sqrt(width)
    values = rng.normal(size=(source + target, width)) @ mixing + 3
    values[source:] += rng.normal(size=width)
    return make_table(values, ["source"] * source + ["target"] * target)


def fitted(table: EmbeddingTable, groups: np.ndarray | None = None, folds: int = 5) -> Pooled:
    scorer = Pooled(folds=folds)
    scorer.fit(table, groups)
    return scorer


def brute_terms(train: np.ndarray, target: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(2, Q) distances by the definition: training clips, which are target, and queries."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    train, points = (train - mean) / deviation, (points - mean) / deviation
    parts = [part for part in (train[~target], train[target]) if len(part)]
    inside = np.concatenate([part - part.mean(axis=0) for part in parts])
    precision = LedoitWolf(assume_centered=True).fit(inside).get_precision()
    to_mean = [cdist(points, p.mean(axis=0)[None], "mahalanobis", VI=precision)[:, 0] for p in parts]
    to_nearest = []
    for part in parts:
        within = cdist(part, part, "mahalanobis", VI=precision)
        np.fill_diagonal(within, np.inf)
        nearest = cdist(points, part, "mahalanobis", VI=precision).min(axis=1)
        to_nearest.append(nearest / np.median(within.min(axis=1)))
    return np.array([np.min(to_mean, axis=0), np.min(to_nearest, axis=0)])


def brute_left_out(table: EmbeddingTable, fold: np.ndarray) -> np.ndarray:
    values = table.embeddings.astype(np.float64)
    target = np.isin(np.arange(len(table)), table.domain_rows("target"))
    terms = np.empty((2, len(table)))
    for number in set(fold.tolist()):
        held = fold == number
        terms[:, held] = brute_terms(values[~held], target[~held], values[held])
    return terms


@pytest.mark.parametrize(("source", "target", "width"), [(40, 8, 12), (40, 0, 12), (18, 6, 60)])
def test_pooled_is_its_formula_and_its_training_scores_are_those_of_refits(
    source: int, target: int, width: int
) -> None:
    table = section(source, target, width)
    points = np.random.default_rng(1).normal(3, 2, (30, width)).astype(np.float32)
    scorer = fitted(table)
    left_out = brute_left_out(table, np.arange(len(table)) % 5)
    mean, deviation = left_out.mean(axis=1)[:, None], left_out.std(axis=1)[:, None]
    np.testing.assert_allclose(
        scorer.train_scores(), ((left_out - mean) / deviation).mean(axis=0), rtol=2e-4, atol=2e-4
    )
    is_target = np.arange(len(table)) >= source
    terms = brute_terms(table.embeddings.astype(np.float64), is_target, points.astype(np.float64))
    np.testing.assert_allclose(
        scorer.score(points), ((terms - mean) / deviation).mean(axis=0), rtol=2e-4, atol=2e-4
    )


def test_clips_recorded_together_are_left_out_together() -> None:
    table = section(40, 8)
    groups = np.array([f"day {i // 7}" for i in range(48)])
    left_out = brute_left_out(table, np.arange(48) // 7 % 3)
    z = (left_out - left_out.mean(axis=1)[:, None]) / left_out.std(axis=1)[:, None]
    found = fitted(table, groups, folds=3).train_scores()
    np.testing.assert_allclose(found, z.mean(axis=0), rtol=2e-4, atol=2e-4)


def test_folds_deal_each_domain_out_and_keep_groups_whole() -> None:
    target_first = np.array([2, 3, 4, 5, 0, 1])  # rows 0 and 1 are target clips
    assert fold_numbers(target_first, None, 2).tolist() == [0, 1, 0, 1, 0, 1]
    groups = np.array(["a", "b", "a", "b", "c", "c"])
    assert fold_numbers(np.arange(6), groups, 5).tolist() == [0, 1, 0, 1, 2, 2]
    assert fold_numbers(np.arange(3), np.array(["a"] * 3), 5).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [20, 50, 100])
@pytest.mark.parametrize("width", [128, 6144])
def test_unseen_normals_score_like_training_clips_however_few_there_are(count: int, width: int) -> None:
    rng = np.random.default_rng(count)
    factors = rng.normal(size=(8, width))

    def normals(n: int) -> np.ndarray:
        return (rng.normal(size=(n, 8)) @ factors + rng.normal(size=(n, width))).astype(np.float32)

    domains = ["source"] * (count - 5) + ["target"] * 5
    scorer = fitted(make_table(normals(count), domains))
    unseen = scorer.score(normals(100))
    middle, known = np.median(scorer.train_scores()), scorer.train_scores()
    # Left out of a whitening that has seen them, training clips lie tens of deviations below.
    assert abs(np.median(unseen) - middle) < 2 * known.std() + 0.5
    assert (scorer.score(normals(20) + np.float32(2)) > unseen.max()).mean() > 0.9


def test_a_thousand_clips_are_whitened_and_a_correlation_broken_is_seen() -> None:
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(1000, 1)) + 0.1 * rng.normal(size=(1000, 24))
    scorer = fitted(make_table(normals, ["source"] * 990 + ["target"] * 10))
    odd = 0.1 * rng.normal(size=(20, 24))
    odd[:, ::2] += 0.5  # inside the range of every value: what is odd is the values together
    odd[:, 1::2] -= 0.5
    assert (scorer.score(odd.astype(np.float32)) > scorer.train_scores().max()).all()


@pytest.mark.parametrize(("count", "width"), [(40, 6), (6, 40)])
def test_whitened_distances_are_mahalanobis_distances(count: int, width: int) -> None:
    rng = np.random.default_rng(0)
    clips, queries = rng.normal(size=(count, width)), rng.normal(size=(9, width)) * 3
    means = rng.normal(size=(2, width))
    fit = fit_covariance(clips, 0.2)
    shrunk = 0.8 * np.cov(clips.T, bias=True) + 0.2 * fit.level * np.eye(width)
    own = whitening(fit, means)
    references = np.concatenate([means, clips - clips.mean(axis=0) + means[1]])
    np.testing.assert_allclose(
        cdist(own.apply(queries), own.apply(references)),
        cdist(queries, references, "mahalanobis", VI=np.linalg.inv(shrunk)),
        rtol=1e-6,
    )


@pytest.mark.parametrize(("width", "rows"), [(33, 7), (128, 64), (3584, 990), (6144, 100)])
def test_a_rows_products_are_the_same_bits_wherever_it_stands(width: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    vectors, matrix = rng.normal(size=(150, width)), rng.normal(size=(rows, width))
    together = row_products(vectors, matrix)
    np.testing.assert_allclose(together, vectors @ matrix.T, rtol=1e-9, atol=1e-9)
    for first in (1, 5, 63, 101):
        np.testing.assert_array_equal(row_products(vectors[first:], matrix), together[first:])
    alone = [row_products(vectors[i : i + 1], matrix)[0] for i in range(0, 150, 30)]
    np.testing.assert_array_equal(alone, together[::30])


def test_explanations_name_the_clip_nearest_after_whitening() -> None:
    table = section(40, 8)
    points = np.random.default_rng(1).normal(3, 2, (30, 12)).astype(np.float32)
    scorer = fitted(table)
    why = scorer.explain(points)
    values = table.embeddings / table.embeddings.std(axis=0, dtype=np.float64)
    parts = values[:40], values[40:]
    inside = np.concatenate([part - part.mean(axis=0) for part in parts])
    precision = LedoitWolf(assume_centered=True).fit(inside).get_precision()
    scaled = points / table.embeddings.std(axis=0, dtype=np.float64)
    to_source, to_target = (cdist(scaled, p, "mahalanobis", VI=precision) for p in parts)
    np.testing.assert_allclose(why.source_distance, to_source.min(axis=1), rtol=1e-4)
    assert why.source_clip.tolist() == [table.clip_ids[i] for i in to_source.argmin(axis=1)]
    assert why.target_clip.tolist() == [table.clip_ids[40 + i] for i in to_target.argmin(axis=1)]
    np.testing.assert_array_equal(why.score, scorer.score(points))


def test_clips_that_are_copies_of_one_leave_nothing_undefined() -> None:
    table = make_table(np.full((6, 4), 2.5), ["source"] * 4 + ["target"] * 2)
    scorer = fitted(table)
    assert scorer.train_scores().tolist() == [0.0] * 6
    scores = scorer.score(np.float32([[2.5] * 4, [3.5] * 4, [5] * 4]))
    assert scores[0] == 0 < scores[1] < scores[2]

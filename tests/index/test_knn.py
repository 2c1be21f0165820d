"""Nearest neighbours and spaces, against scikit-learn and brute force."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from cache.base.errors import AsdError
from index.knn import NearestNeighbours
from index.space import Metric, SpaceOptions
from tests.conftest import make_table


def vectors(count: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize(("count", "width", "k"), [(1, 3, 1), (10, 4, 10), (990, 768, 3)])
def test_neighbours_are_scikit_learns(count: int, width: int, k: int) -> None:
    reference, queries = vectors(count, width), vectors(200, width, 1)
    found = NearestNeighbours(reference).search(queries, k)
    peer = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(reference.astype(np.float64))
    distances, rows = peer.kneighbors(queries.astype(np.float64))
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)
    np.testing.assert_array_equal(found.rows, rows)


def test_a_query_alone_gets_the_same_bits_as_among_many() -> None:
    index, queries = NearestNeighbours(vectors(990, 3584)), vectors(200, 3584, 1)
    together = index.search(queries, 2)
    for size in (1, 2, 64):
        parts = [index.search(queries[i : i + size], 2) for i in range(0, 200, size)]
        np.testing.assert_array_equal(np.concatenate([part.distances for part in parts]), together.distances)
        np.testing.assert_array_equal(np.concatenate([p.rows for p in parts]), together.rows)


def test_neighbours_closer_together_than_float32_can_tell_are_ordered_right() -> None:
    # 500 references in a ball a million times smaller than its distance from the origin.
    rng = np.random.default_rng(0)
    centre = np.full(64, 100.0)
    reference = (centre + rng.normal(0, 1e-3, (500, 64))).astype(np.float32)
    queries = (centre + rng.normal(0, 1e-3, (20, 64))).astype(np.float32)
    found = NearestNeighbours(reference).search(queries, 3)
    exact = np.sort(cdist(queries.astype(np.float64), reference.astype(np.float64)), axis=1)
    np.testing.assert_allclose(found.distances, exact[:, :3], rtol=1e-9)


def test_leave_one_out_never_finds_itself_but_finds_its_duplicate() -> None:
    reference = vectors(50, 5)
    reference[7] = reference[3]
    found = NearestNeighbours(reference).search(reference, 2, np.arange(50)[:, None])
    assert not (found.rows == np.arange(50)[:, None]).any()
    assert (found.rows[3, 0], found.distances[3, 0]) == (7, 0.0)
    full = cdist(reference.astype(np.float64), reference.astype(np.float64))
    np.fill_diagonal(full, np.inf)
    np.testing.assert_allclose(found.distances, np.sort(full, axis=1)[:, :2], rtol=1e-9)


def test_equal_distances_are_ordered_by_row() -> None:
    found = NearestNeighbours(np.ones((40, 2), "f4")).search(np.zeros((1, 2), "f4"), 40)
    assert found.rows[0].tolist() == list(range(40))


def test_the_index_is_a_faiss_file() -> None:
    reference = vectors(30, 6)
    data = NearestNeighbours(reference).to_bytes()
    plain = faiss.deserialize_index(np.frombuffer(data, np.uint8))
    np.testing.assert_array_equal(plain.reconstruct_n(0, 30), reference)
    back = NearestNeighbours.from_bytes(data)
    np.testing.assert_array_equal(back.vectors, reference)


@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_what_is_no_index_is_refused(data: bytes) -> None:
    with pytest.raises(AsdError, match="not a FAISS index"):
        NearestNeighbours.from_bytes(data)


def test_an_index_of_another_kind_is_refused() -> None:
    data = faiss.serialize_index(faiss.IndexFlatIP(4)).tobytes()
    with pytest.raises(AsdError, match="where a flat Euclidean index is expected"):
        NearestNeighbours.from_bytes(data)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(AsdError, match="nothing to be near to"):
        NearestNeighbours(np.zeros((0, 4), "f4"))
    index = NearestNeighbours(vectors(5, 4))
    with pytest.raises(AsdError, match="6 neighbours asked of a reference of 5; lower k"):
        index.search(vectors(1, 4), 6)
    with pytest.raises(AsdError, match="against a reference of 4 values"):
        index.search(vectors(1, 3), 1)
    with pytest.raises(AsdError, match="query 1 and 0 more hold NaN"):
        index.search(np.float32([[0] * 4, [np.nan] * 4]), 1)
    assert index.search(np.zeros((0, 4), "f4"), 2).distances.shape == (0, 2)


def test_spaces_are_scikit_learns() -> None:
    reference, queries = 5 + 3 * vectors(60, 7), 5 + 3 * vectors(9, 7, 1)
    reference[:, 3] = queries[:, 3] = 0.1
    ours = SpaceOptions().fit_space(make_table(reference))
    peer = StandardScaler().fit(reference.astype(np.float64))
    np.testing.assert_allclose(ours.apply(queries), peer.transform(queries), atol=1e-6)
    metrics: tuple[Metric, ...] = ("euclidean", "cosine")
    for metric in metrics:
        space = SpaceOptions(standardise=False).fit_space(make_table(reference), metric)
        between = cdist(space.apply(queries).astype(float), space.apply(reference).astype(float))
        np.testing.assert_allclose(space.distance(between), cdist(queries, reference, metric), atol=1e-6)


def test_the_zero_vector_has_a_cosine_distance() -> None:
    space = SpaceOptions(standardise=False).fit_space(make_table(vectors(5, 3)), "cosine")
    assert space.apply(np.zeros((1, 3), "f4")).tolist() == [[0, 0, 0]]


def clustered(count: int, width: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 10, (50, width))
    return (centres[np.arange(count) % 50] + rng.normal(size=(count, width))).astype(np.float32)


def test_an_inverted_file_reaches_the_recall_it_says() -> None:
    reference = clustered(8000)
    index = NearestNeighbours(reference, "inverted", 0.99)
    assert not index.is_exact
    assert index.recall >= 0.99
    queries = reference[::40] + np.random.default_rng(1).normal(0, 0.3, (200, 16)).astype("f4")
    found, exact = index.search(queries, 1), NearestNeighbours(reference).search(queries, 1)
    same = found.rows == exact.rows
    assert same.mean() >= 0.97
    np.testing.assert_allclose(found.distances[same], exact.distances[same], rtol=1e-12)
    assert (found.distances >= exact.distances - 1e-12).all()
    back = NearestNeighbours.from_bytes(index.to_bytes(), index.recall)
    np.testing.assert_array_equal(back.search(queries, 3).distances, index.search(queries, 3).distances)
    np.testing.assert_array_equal(back.vectors, reference)


def test_an_inverted_file_leaves_out_what_it_must_and_finds_enough() -> None:
    reference = clustered(4000)
    index = NearestNeighbours(reference, "inverted", 0.9)
    found = index.search(reference[:100], 60, np.arange(100)[:, None])
    assert not (found.rows == np.arange(100)[:, None]).any()
    assert np.isfinite(found.distances).all()


def test_an_inverted_file_below_the_recall_is_refused() -> None:
    noise = np.random.default_rng(0).normal(size=(4000, 64)).astype(np.float32)
    with pytest.raises(AsdError, match="recall@1 of 0.* only, below 1.0; use --search exact"):
        NearestNeighbours(noise, "inverted", 1.0)


def test_exact_is_the_choice_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert NearestNeighbours(clustered(4000), "auto").is_exact
    monkeypatch.setattr("index.knn.EXACT_UP_TO", 3999)
    assert not NearestNeighbours(clustered(4000), "auto", 0.9).is_exact

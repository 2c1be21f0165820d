"""Each scorer against its formula, written here a second time from brute force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage

from cache.base.errors import AsdError
from cache.base.options import make
from cache.table import EmbeddingTable
from index.covariance import fit_covariance
from index.knn import NearestNeighbours
from index.scorer import Scorer, find, parse_member
from index.space import SpaceOptions
from tests.conftest import make_table

METRICS = ["euclidean", "cosine"]


def section(source: int = 40, target: int = 6, width: int = 12) -> EmbeddingTable:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(2, 1, (source, width)), rng.normal(3, 2, (target, width))])
    return make_table(values, ["source"] * source + ["target"] * target)


QUERIES = np.random.default_rng(9).normal(2.5, 2, (50, 12)).astype(np.float32)


def fitted(name: str, table: EmbeddingTable, **options: str | float | bool) -> Scorer:
    scorer = make(find(name), options)
    scorer.fit(table)
    return scorer


def standardised(table: EmbeddingTable, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    train = table.embeddings.astype(np.float64)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / deviation, (points - mean) / deviation


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def split(table: EmbeddingTable) -> tuple[np.ndarray, np.ndarray]:
    return table.domain_rows("source"), table.domain_rows("target")


def without_self(train: np.ndarray, metric: str = "euclidean") -> np.ndarray:
    distances = cdist(train, train, metric)
    np.fill_diagonal(distances, np.inf)
    return distances


def test_domain_z_train() -> None:
    table = section()
    (s, t), (train, points) = split(table), standardised(table, QUERIES)
    inner = without_self(train)
    own = [inner[np.ix_(rows, rows)].min(axis=1) for rows in (s, t)]
    full = cdist(points, train)
    expected = np.min(
        [(full[:, r].min(axis=1) - o.mean()) / own[1].std() for r, o in zip((s, t), own, strict=True)],
        axis=0,
    )
    scorer = fitted("domain-z-train", table)
    np.testing.assert_allclose(scorer.score(QUERIES), expected, rtol=1e-5)
    loo = np.column_stack([inner[:, r].min(axis=1) for r in (s, t)])
    z = (loo - [o.mean() for o in own]) / own[1].std()
    np.testing.assert_allclose(scorer.train_scores(), z.min(axis=1), rtol=1e-5, atol=1e-6)


def test_domain_z_test_uses_the_clips_scored_together_and_refuses_one() -> None:
    table = section()
    (s, t), (train, points) = split(table), standardised(table, QUERIES)
    d = np.column_stack([cdist(points, train[r]).min(axis=1) for r in (s, t)])
    scorer = fitted("domain-z-test", table)
    expected = ((d - d.mean(axis=0)) / d.std(axis=0)).min(axis=1)
    np.testing.assert_allclose(scorer.score(QUERIES), expected, rtol=1e-4, atol=1e-6)
    assert scorer.transductive
    for name in ("domain-z-test", "genrep"):
        with pytest.raises(AsdError, match="1 clips to score, but this scorer is transductive"):
            fitted(name, table).score(QUERIES[:1])


def mixtures(train: np.ndarray, s: np.ndarray, t: np.ndarray, count: int) -> np.ndarray:
    near = np.argsort(cdist(train[t], train[s]), axis=1)[:, :count]
    mixed = [0.9 * train[j] + 0.1 * train[s[i]] for j, row in zip(t, near, strict=True) for i in row]
    return np.concatenate([train[t], mixed])


@pytest.mark.parametrize("count", [5, 990])
def test_memmixup(count: int) -> None:
    table = section()
    (s, t), (train, points) = split(table), standardised(table, QUERIES)
    scorer = fitted("memmixup", table, mixes=count)
    memory = mixtures(train, s, t, count)
    expected = np.minimum(cdist(points, train[s]).min(axis=1), cdist(points, memory).min(axis=1))
    np.testing.assert_allclose(scorer.score(QUERIES), expected, rtol=1e-5)
    if count == 990:  # leaving a clip out leaves out what was mixed with it
        for row, score in zip(range(len(train)), scorer.train_scores(), strict=True):
            rest = [np.setdiff1d(rows, [row]) for rows in (s, t)]
            memory = np.concatenate([train[rest[0]], mixtures(train, *rest, count)])
            assert score == pytest.approx(cdist(train[[row]], memory).min(), rel=1e-5)


def test_genrep_is_memmixup_z_scored_over_the_test_clips() -> None:
    table = section()
    (s, t), (train, points) = split(table), standardised(table, QUERIES)
    memories = (train[s], mixtures(train, s, t, 990))
    d = np.column_stack([cdist(points, memory).min(axis=1) for memory in memories])
    expected = ((d - d.mean(axis=0)) / d.std(axis=0)).min(axis=1)
    np.testing.assert_allclose(fitted("genrep", table).score(QUERIES), expected, atol=1e-4)


def test_knn_smote_is_imbalanced_learns_on_unit_vectors() -> None:
    table = section()
    s, t = split(table)
    train = unit(table.embeddings.astype(np.float64)).astype(np.float32).astype(np.float64)

    def scores(rows: np.ndarray, points: np.ndarray) -> np.ndarray:
        labels = np.repeat([0, 1], [len(s), len(rows)])
        smote = SMOTE(sampling_strategy=0.2, k_neighbors=2, random_state=0)
        every, found = smote.fit_resample(train[np.concatenate([s, rows])], labels)
        assert (found == 1).sum() == 8  # 0.2 x 40
        return np.minimum(
            cdist(points, train[s], "cosine").min(axis=1),
            cdist(points, unit(every[found == 1]), "cosine").min(axis=1),
        )

    scorer = fitted("knn-smote", table)
    np.testing.assert_allclose(scorer.score(QUERIES), scores(t, QUERIES), atol=1e-6)
    left_out = [scores(np.setdiff1d(t, [row]), train[[row]])[0] for row in t]
    np.testing.assert_allclose(scorer.train_scores()[len(s) :], left_out, atol=1e-6)


def test_smote_draws_nothing_where_it_cannot_or_need_not() -> None:
    for table in (section(40, 2), section(10, 6)):
        plain = fitted("min-distance", table, metric="cosine", standardise=False)
        np.testing.assert_array_equal(fitted("knn-smote", table).score(QUERIES), plain.score(QUERIES))


def test_kmeans_is_scikit_learns() -> None:
    table = section()
    s, t = split(table)
    train = unit(table.embeddings.astype(np.float64)).astype(np.float32).astype(np.float64)
    centres = KMeans(16, n_init=1, random_state=0).fit(train[s]).cluster_centers_
    expected = np.minimum(
        cdist(QUERIES, centres, "cosine").min(axis=1),
        cdist(QUERIES, train[t], "cosine").min(axis=1),
    )
    np.testing.assert_allclose(fitted("kmeans", table).score(QUERIES), expected, atol=1e-6)


def density(train: np.ndarray, k: int, metric: str) -> np.ndarray:
    return np.sort(without_self(train, metric), axis=1)[:, : min(k, len(train) - 1)].mean(axis=1)


def space(table: EmbeddingTable, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The exact vectors distances are taken of: float32, as in the product."""
    fit = SpaceOptions().fit_space(table, metric)  # type: ignore[arg-type]
    return fit.apply(table.embeddings).astype(float), fit.apply(QUERIES).astype(float)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 4, 99])
def test_ldn_and_its_leave_one_out_by_refitting(metric: str, k: int) -> None:
    table = section()
    train, points = space(table, metric)
    scorer = fitted("ldn", table, metric=metric, density_k=k)
    expected = (cdist(points, train, metric) / density(train, k, metric)).min(axis=1)
    np.testing.assert_allclose(scorer.score(QUERIES), expected, rtol=1e-5)
    for row, score in enumerate(scorer.train_scores()):
        rest = np.delete(train, row, axis=0)
        left_out = (cdist(train[[row]], rest, metric) / density(rest, k, metric)).min()
        assert score == pytest.approx(left_out, rel=1e-5)


def alpha_of(train: np.ndarray, k: int, metric: str, scale: Callable[..., np.ndarray]) -> float:
    inner, densities = without_self(train, metric), scale(density(train, k, metric))
    u, v = scale(inner.min(axis=1)), densities[inner.argmin(axis=1)]
    return float(np.cov(u, v)[0, 1] / np.var(v, ddof=1))


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 4, 99])
def test_varmin_and_its_leave_one_out(metric: str, k: int, log: bool) -> None:
    table, scale = section(), np.log if log else np.asarray
    train, points = space(table, metric)
    alpha = alpha_of(train, k, metric, scale)
    assert alpha > 0
    costs = scale(cdist(points, train, metric)) - alpha * scale(density(train, k, metric))
    scorer = fitted("varmin", table, metric=metric, density_k=k, log=log)
    np.testing.assert_allclose(scorer.score(QUERIES), costs.min(axis=1), rtol=1e-4, atol=1e-5)
    for row, score in enumerate(scorer.train_scores()):
        rest = np.delete(train, row, axis=0)
        costs = scale(cdist(train[[row]], rest, metric)) - alpha * scale(density(rest, k, metric))
        assert score == pytest.approx(costs.min(), rel=1e-4, abs=1e-5)


def test_varmin_takes_a_negative_alpha_as_it_is() -> None:
    # Clips whose nearest neighbour is near sit beside sparse ones: alpha = -4.8 with K = 2.
    train = np.array([[0.0], [6], [8], [14], [21], [22]])
    alpha, points = alpha_of(train, 2, "euclidean", np.asarray), QUERIES[:, :1]
    assert alpha == pytest.approx(-4.8)
    scorer = fitted("varmin", make_table(train), standardise=False, density_k=2, log=False)
    expected = cdist(points, train) + 4.8 * density(train, 2, "euclidean")
    np.testing.assert_allclose(scorer.score(points), expected.min(axis=1), rtol=1e-4)


def test_varmin_without_anything_to_explain() -> None:
    grid = np.arange(8.0)[:, None]  # every density is 1
    scorer = fitted("varmin", make_table(grid), standardise=False, log=False)
    np.testing.assert_allclose(scorer.score(np.float32([[-3], [3.25]])), [3, 0.25], rtol=1e-5)
    alone = fitted("varmin", make_table([[1.0]]), standardise=False)
    assert alone.train_scores().size == 0
    assert np.isfinite(alone.score(np.float32([[1], [2]]))).all()


def test_ldn_by_hand_with_duplicates() -> None:
    # Densities of 0, 0, 3, 7 with K = 1: 0, 0, 3, 4; zero becomes the smallest above it, 3.
    table = make_table([[0], [0], [3], [7]])
    scorer = fitted("ldn", table, standardise=False)
    np.testing.assert_allclose(scorer.score(np.float32([[-6], [5], [11], [0]])), [2, 0.5, 1, 0], atol=1e-7)
    assert np.isfinite(fitted("varmin", table, standardise=False).score(np.float32([[0]]))).all()


@pytest.mark.parametrize("width", [4, 12, 100])
def test_mahalanobis_is_scikit_learns(width: int) -> None:
    table = section(40, 6, width)
    points = np.random.default_rng(3).normal(2, 2, (30, width)).astype(np.float32)
    train, standard = standardised(table, points)
    expected = [LedoitWolf().fit(train[rows]).mahalanobis(standard) ** 0.5 for rows in split(table)]
    scorer = fitted("mahalanobis", table)
    np.testing.assert_allclose(scorer.score(points), np.min(expected, axis=0), rtol=1e-4)
    for rows in split(table):
        fit = fit_covariance(train[rows].astype(np.float32), None)
        assert fit.shrinkage == pytest.approx(ledoit_wolf_shrinkage(train[rows]), rel=1e-4)


@pytest.mark.parametrize(("count", "width"), [(40, 6), (6, 40), (2, 5)])
def test_mahalanobis_left_out_in_closed_form_is_that_of_refitting(count: int, width: int) -> None:
    vectors = np.random.default_rng(0).normal(1, 2, (count, width)).astype(np.float32)
    fit = fit_covariance(vectors, 0.3)
    for row, squared in enumerate(fit.squared_left_out(vectors)):
        rest = np.delete(vectors, row, axis=0).astype(np.float64)
        shrunk = 0.7 * np.cov(rest.T, bias=True) + 0.3 * fit.level * np.eye(width)
        offset = vectors[row] - rest.mean(axis=0)
        assert squared == pytest.approx(offset @ np.linalg.solve(shrunk, offset), rel=1e-6)


@pytest.mark.parametrize("text", ["0", "2", "much"])
def test_a_shrinkage_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(AsdError, match="expected auto or a number in"):
        fitted("mahalanobis", section(), shrinkage=text)


def banded() -> EmbeddingTable:
    table = section()
    return replace(table, blocks={f"beats/band{i}": (3 * i, 3 * i + 3) for i in range(4)})


@pytest.mark.parametrize("inside", ["min-distance", "ldn:density_k=2"])
def test_beam_averages_the_bands(inside: str) -> None:
    table = banded()
    alone = []
    for name, (start, stop) in table.blocks.items():
        scorer = parse_member(inside)
        scorer.fit(table.columns([name]))
        alone.append(scorer.score(QUERIES[:, start:stop]))
    beam = fitted("beam", table, inside=inside)
    np.testing.assert_allclose(beam.score(QUERIES), np.mean(alone, axis=0), rtol=1e-12)


def test_beam_names_the_band_that_is_abnormal() -> None:
    table = banded()
    queries = table.embeddings[:3].copy()
    queries[:, 6:9] += 40
    assert fitted("beam", table).explain(queries).part.tolist() == ["beats/band2"] * 3


@pytest.mark.parametrize("merging", ["mean", "min"])
def test_fusion_standardises_by_training_scores(merging: str) -> None:
    table, texts = section(), ["min-distance", "mahalanobis", "ldn:density_k=3"]
    z = []
    for text in texts:
        member = parse_member(text)
        member.fit(table)
        train = member.train_scores()
        z.append((member.score(QUERIES) - train.mean()) / train.std())
    scorer = fitted("fusion", table, over=",".join(texts), merging=merging)
    expected = np.mean(z, axis=0) if merging == "mean" else np.min(z, axis=0)
    np.testing.assert_allclose(scorer.score(QUERIES), expected, rtol=1e-9)
    which = np.argmax(z, axis=0) if merging == "mean" else np.argmin(z, axis=0)
    assert scorer.explain(QUERIES).part.tolist() == [texts[i] for i in which]


def test_fusion_by_backbone_fits_each_its_own_columns() -> None:
    table = replace(section(), blocks={"beats/band0": (0, 4), "beats/band1": (4, 8), "panns": (8, 12)})
    scorer = fitted("fusion", table, over="min-distance", by="backbone")
    z = []
    for blocks, columns in (
        (["beats/band0", "beats/band1"], slice(0, 8)),
        (["panns"], slice(8, 12)),
    ):
        member = parse_member("min-distance")
        member.fit(table.columns(blocks))
        train = member.train_scores()
        z.append((member.score(QUERIES[:, columns]) - train.mean()) / train.std())
    np.testing.assert_allclose(scorer.score(QUERIES), np.mean(z, axis=0), rtol=1e-9)


def spectra_and_network() -> EmbeddingTable:
    blocks = {"logspec.linear": (0, 3), "logspec.erb": (3, 6), "net/band0": (6, 9),
              "net/band1": (9, 12)}  # fmt: skip
    return replace(section(), blocks=blocks)


def shared_mean(table: EmbeddingTable, parts: list[tuple[str, slice, float]]) -> np.ndarray:
    """Mean by shares of members' z-scores, each fitted to some columns."""
    total = np.zeros(len(QUERIES))
    for text, columns, share in parts:
        member = parse_member(text)
        keys = table.keys
        values = np.ascontiguousarray(table.embeddings[:, columns])
        member.fit(EmbeddingTable(table.section, "train", keys, values, {"x": (0, values.shape[1])}))
        train = member.train_scores()
        total += share * (member.score(QUERIES[:, columns]) - train.mean()) / train.std()
    return total / sum(share for *_, share in parts)


LINEAR, ERB, NET = slice(0, 3), slice(3, 6), slice(6, 12)
THREE = ("min-distance", "mahalanobis", "ldn")


@pytest.mark.parametrize("merged", [True, False])
def test_the_usual_members_are_what_suits_each_backbone(merged: bool) -> None:
    table = spectra_and_network()
    spectra = [
        part
        for columns in (LINEAR, ERB)
        for part in [("pooled", columns, 1 / 2), *((text, columns, 1 / 6) for text in THREE)]
    ]
    expected = shared_mean(table, [*spectra, *((text, NET, 1 / 3) for text in THREE)])
    scorer = fitted("fusion", table, by="all" if merged else "backbone")
    np.testing.assert_allclose(scorer.score(QUERIES), expected, rtol=1e-9)
    restored = make(find("fusion"), {})
    restored.restore(scorer.state())
    np.testing.assert_array_equal(restored.score(QUERIES), scorer.score(QUERIES))
    plain = fitted("fusion", table.columns(["logspec.linear", "logspec.erb"]))
    np.testing.assert_allclose(plain.score(QUERIES[:, :6]), shared_mean(table, spectra), rtol=1e-9)
    network = fitted("fusion", table.columns(["net/band0", "net/band1"]))
    alone = shared_mean(table, [(text, NET, 1.0) for text in THREE])
    np.testing.assert_allclose(network.score(QUERIES[:, NET]), alone, rtol=1e-9)


def test_members_have_backbones_options_and_shares_of_their_own() -> None:
    table = spectra_and_network()
    over = "pooled@logspec:folds=3:share=2, ldn@net:share=0.5:density_k=4,min-distance"
    pairs = [("pooled:folds=3", LINEAR, 1), ("pooled:folds=3", ERB, 1), ("ldn:density_k=4", NET, 0.5),
             *(("min-distance", columns, 1 / 3) for columns in (LINEAR, ERB, NET))]  # fmt: skip
    scorer = fitted("fusion", table, over=over, by="backbone")
    np.testing.assert_allclose(scorer.score(QUERIES), shared_mean(table, pairs), rtol=1e-9)
    at_once = [("pooled:folds=3", slice(0, 6), 2), ("ldn:density_k=4", NET, 0.5)]
    scorer = fitted("fusion", table, over=over.removesuffix(",min-distance"))
    np.testing.assert_allclose(scorer.score(QUERIES), shared_mean(table, at_once), rtol=1e-5)
    assert set(scorer.explain(QUERIES).part) == {"pooled:folds=3 logspec", "ldn:density_k=4 net"}


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (
            "ldn@beats",
            "a member for 'beats', and the backbones are logspec.linear, logspec.erb, net",
        ),
        ("ldn:share=0", "share=0; expected share=<number above 0>"),
        ("ldn:share=much", "expected share=<number above 0>"),
        ("ldn:colour=1:share=2", "no option 'colour'"),
    ],
)
def test_members_of_a_fusion_that_are_refused(over: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        fitted("fusion", spectra_and_network(), over=over)


def test_a_transductive_member_makes_its_composite_transductive() -> None:
    assert make(find("fusion"), {"over": "min-distance,genrep"}).transductive
    assert make(find("beam"), {"inside": "domain-z-test"}).transductive
    assert not make(find("fusion"), {}).transductive


def two_backbones() -> EmbeddingTable:
    rng = np.random.default_rng(0)
    values = np.hstack([rng.normal(0, 5, (60, 200)), rng.normal(0, 0.1, (60, 20))])
    return replace(make_table(values), blocks={"panns": (0, 200), "beats": (200, 220)})


def shares(table: EmbeddingTable, **options: str | bool) -> np.ndarray:
    vectors = SpaceOptions(**options).fit_space(table).apply(table.embeddings)  # type: ignore[arg-type]
    squares = np.square(vectors.astype(float)).sum(axis=0)
    parts = np.array([squares[start:stop].sum() for start, stop in table.blocks.values()])
    return parts / parts.sum()


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("blocks", ["equal", "unit"])
def test_backbones_of_any_width_and_level_get_equal_shares(blocks: str, standardise: bool) -> None:
    table = two_backbones()
    options = {"blocks": blocks, "standardise": standardise}
    np.testing.assert_allclose(shares(table, **options), [0.5, 0.5], rtol=1e-5)
    weighted = shares(table, **options, block_weights="beats=3")
    np.testing.assert_allclose(weighted, [0.25, 0.75], rtol=1e-5)


def test_joined_blocks_keep_their_size() -> None:
    np.testing.assert_allclose(shares(two_backbones(), blocks="joined"), [10 / 11, 1 / 11], rtol=1e-5)
    assert shares(two_backbones(), blocks="joined", standardise=False)[0] > 0.999


@pytest.mark.parametrize("text", ["ast=1", "beats", "beats=0", "beats=x", "beats=inf"])
def test_block_weights_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(AsdError, match="the blocks are panns, beats"):
        shares(two_backbones(), block_weights=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "unknown scorer 'nothing'"),
        ("ldn:colour=1", "no option 'colour'"),
        ("ldn:density_k=x", "density_k is 'x'; expected a number"),
        ("ldn:metric=manhattan", "expected euclidean or cosine"),
        ("ldn:standardise=maybe", "expected true or false"),
        ("ldn:density_k=0", "must lie in"),
    ],
)
def test_member_texts_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        parse_member(text)


def test_a_member_text() -> None:
    scorer = parse_member(" min-distance:k=2:metric=cosine:standardise=false ")
    assert vars(scorer)["k"] == 2
    assert (vars(scorer)["metric"], vars(scorer)["standardise"]) == ("cosine", False)


def brute(reference: np.ndarray, queries: np.ndarray, gains: np.ndarray, k: int) -> np.ndarray:
    return np.sort(cdist(queries.astype(float), reference.astype(float)) * gains, axis=1)[:, :k]


@pytest.mark.parametrize("count", [5, 2000])
def test_search_with_gains_is_brute_force_and_independent_of_the_batch(count: int) -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(count, 64)).astype(np.float32)
    queries = rng.normal(size=(40, 64)).astype(np.float32)
    gains = rng.lognormal(0, 1, count)
    index = NearestNeighbours(reference)
    found = index.search(queries, 3, gains=gains)
    np.testing.assert_allclose(
        found.distances * gains[found.rows], brute(reference, queries, gains, 3), rtol=1e-9
    )
    parts = [index.search(queries[i : i + 1], 3, gains=gains).distances for i in range(40)]
    np.testing.assert_array_equal(np.concatenate(parts), found.distances)


def nearest_names(table: EmbeddingTable, domain: str) -> list[str]:
    train, points = standardised(table, QUERIES)
    rows = table.domain_rows(domain)
    return [table.clip_ids[rows[i]] for i in cdist(points, train[rows]).argmin(axis=1)]


@pytest.mark.parametrize("name", ["min-distance", "domain-scale", "ldn", "mahalanobis", "varmin"])
def test_explanations_name_the_nearest_clip_of_each_domain(name: str) -> None:
    table = section()
    why = fitted(name, table).explain(QUERIES)
    assert why.source_clip.tolist() == nearest_names(table, "source")
    assert why.target_clip.tolist() == nearest_names(table, "target")
    assert set(why.decided) <= {"source", "target"}

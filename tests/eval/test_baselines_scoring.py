"""Scores and covariances of the task's baselines against plain NumPy and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance, ledoit_wolf_shrinkage

from cache.base.errors import AsdError
from eval.baselines.scoring import ResidualScorer, fit_covariance, mean_square
from index.covariance import Covariance

Clips = Callable[[], Iterator[np.ndarray]]


def made(seed: int, clips: int, vectors: int = 40, scale: float = 1.0) -> list[np.ndarray]:
    """Residuals of clips whose bands depend on each other and whose mean is not 0."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(0, 0.1, (128, 128)) + np.eye(128)
    return [(scale * rng.normal(0.2, 1, (vectors, 5, 128)) @ mixing).astype(np.float32) for _ in range(clips)]


def given(clips: list[np.ndarray]) -> Clips:
    return lambda: iter(clips)


def rows_of(clips: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(clips).reshape(-1, 128).astype(np.float64)


def score_of(form: str, clip: np.ndarray, covariances: dict[str, Covariance]) -> float:
    return ResidualScorer(form, covariances).score(clip)[0]


def matrix_of(fitted: Covariance) -> np.ndarray:
    return (fitted.axes.T * fitted.shrunk) @ fitted.axes


def test_mean_square_is_equation_5() -> None:
    (clip,) = made(1, 1, vectors=7)
    total = sum(float(np.linalg.norm(vector.reshape(640)) ** 2) for vector in clip)
    assert mean_square(clip) == pytest.approx(total / (640 * 7), rel=1e-6)


def test_covariance_is_numpys() -> None:
    clips = made(2, 3)
    np.testing.assert_allclose(
        matrix_of(fit_covariance(given(clips), 0.0)), np.cov(rows_of(clips).T), rtol=1e-7, atol=1e-9
    )


def test_frames_form_is_equations_6_to_8() -> None:
    source, target = made(3, 4), made(4, 2, scale=2.0)
    covariances = {
        "source": fit_covariance(given(source), 0.0),
        "target": fit_covariance(given(target), 0.0),
    }
    inverses = [np.linalg.inv(np.cov(rows_of(clips).T)) for clips in (source, target)]
    clip = made(5, 1, 12)[0]
    total = 0.0
    for vector in clip.astype(np.float64):
        total += min(sum(e @ inverse @ e for e in vector) for inverse in inverses)
    assert score_of("frames", clip, covariances) == pytest.approx(total / (640 * 12), rel=1e-6)


def test_the_smaller_distance_is_taken_vector_by_vector() -> None:
    """Two domains of different bands: every vector is near to one and far from the other."""
    low, high = np.ones(128), np.ones(128)
    low[64:], high[:64] = 0.01, 0.01
    rng = np.random.default_rng(0)
    domains = {
        name: [(rng.normal(size=(200, 5, 128)) * scale).astype(np.float32)]
        for name, scale in (("source", low), ("target", high))
    }
    covariances = {name: fit_covariance(given(clips), 0.0) for name, clips in domains.items()}
    mixed = np.concatenate([domains["source"][0][:9], domains["target"][0][:9]])
    assert score_of("frames", mixed, covariances) < 2  # each vector by its own domain: about 1
    for name, own in covariances.items():
        assert score_of("frames", mixed, {name: own}) > 100


def test_clip_form_is_the_distance_of_the_mean_residual() -> None:
    source, target = made(6, 4), made(7, 2, scale=2.0)
    fitted = {
        "source": fit_covariance(given(source), 0.0),
        "target": fit_covariance(given(target), 0.0),
    }
    (clip,) = made(8, 1)
    mean = clip.reshape(-1, 128).astype(np.float64).mean(axis=0)
    expected = [mean @ np.linalg.inv(np.cov(rows_of(clips).T)) @ mean for clips in (source, target)]
    assert score_of("clip", clip, fitted) == pytest.approx(min(expected), rel=1e-6)
    assert score_of("clip", clip, {"source": fitted["source"]}) == pytest.approx(expected[0], rel=1e-6)


def test_shrinkage_moves_towards_the_mean_variance() -> None:
    clips = made(9, 2)
    plain = np.cov(rows_of(clips).T)
    expected = 0.7 * plain + 0.3 * np.trace(plain) / 128 * np.eye(128)
    shrunk = fit_covariance(given(clips), 0.3)
    np.testing.assert_allclose(matrix_of(shrunk), expected, rtol=1e-7, atol=1e-9)
    row = np.random.default_rng(1).normal(size=(1, 128))
    assert shrunk.squared_length(row)[0] == pytest.approx(
        (row @ np.linalg.inv(expected) @ row.T).item(), rel=1e-8
    )


def test_found_shrinkage_is_ledoit_and_wolfs_where_a_clip_is_one_observation() -> None:
    rows = np.random.default_rng(3).normal(1, 1, (60, 128)) * np.linspace(0.5, 2, 128)
    clips = [row.astype(np.float32).reshape(1, 1, 128) for row in rows]
    expected = ledoit_wolf_shrinkage(rows.astype(np.float32).astype(np.float64))
    # scikit-learn's covariance has n below, ours n - 1: 1 part in 60.
    assert fit_covariance(given(clips), None).shrinkage == pytest.approx(expected, rel=0.05)


def test_few_clips_are_shrunk_more_than_many_and_one_clip_altogether() -> None:
    amounts = [fit_covariance(given(made(5, n)), None).shrinkage for n in (1, 3, 30)]
    assert amounts[0] == 1.0
    assert 1.0 > amounts[1] > 5 * amounts[2] > 0


def test_a_covariance_that_cannot_be_inverted_says_what_to_do() -> None:
    clips = made(1, 1, vectors=10)  # 50 observations of 128 bands
    with pytest.raises(AsdError, match=r"50 residuals of 128 bands .* --shrinkage auto"):
        fit_covariance(given(clips), 0.0)
    assert np.isfinite(score_of("clip", clips[0], {"source": fit_covariance(given(clips), None)}))


@pytest.mark.parametrize("form", ["frames", "clip"])
def test_selective_mahalanobis_is_scikit_learns(form: str) -> None:
    """Distances from 0 under the covariance of each domain, n - 1 below, the smaller one taken."""
    domains = {"source": made(10, 4), "target": made(11, 2, scale=2.0)}
    fitted = {name: fit_covariance(given(clips), 0.0) for name, clips in domains.items()}
    (clip,) = made(12, 1, 12)
    rows = clip.reshape(-1, 128).astype(np.float64)
    found = []
    for clips in domains.values():
        known = EmpiricalCovariance(store_precision=True).fit(rows_of(clips))
        known.location_ = np.zeros(128)
        share = 1 - 1 / len(rows_of(clips))  # scikit-learn has n below
        queries = rows if form == "frames" else rows.mean(axis=0, keepdims=True)
        distances = share * known.mahalanobis(queries)
        found.append(distances.reshape(12, 5).sum(axis=1) / 640 if form == "frames" else distances)
    score, domain = ResidualScorer(form, fitted).score(clip)
    assert score == pytest.approx(np.min(found, axis=0).mean(), rel=1e-6)
    assert domain == list(domains)[int(np.sum(found, axis=1).argmin())]


def test_the_error_alone_names_no_domain() -> None:
    (clip,) = made(1, 1)
    assert ResidualScorer("mse", {}).score(clip) == (mean_square(clip), "")

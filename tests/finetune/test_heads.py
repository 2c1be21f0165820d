"""Each head against its formula, written here a second time in NumPy's float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from cache.base.errors import AsdError
from cache.base.options import text_of
from finetune.data.augmentation import Mixture
from finetune.model import HEADS, head
from finetune.model.head import Head

B, D = 7, 12
SQRT2 = np.sqrt(2)


def batch(classes: int, seed: int = 0) -> tuple[torch.Tensor, Mixture]:
    """Embeddings, and labels of which the first three clips are not mixed."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, classes, B)
    second = np.where(np.arange(B) < 3, first, rng.integers(0, classes, B))
    weight = np.where(first == second, 1, rng.uniform(0, 1, B)).astype(np.float32)
    embeddings = torch.from_numpy(rng.normal(0, 3, (B, D)).astype(np.float32))
    return embeddings, Mixture(*map(torch.from_numpy, (first, second, weight)))


def built(text: str, classes: int) -> Head:
    torch.manual_seed(5)
    return head.parse(text).build(D, classes)


def array(values: torch.Tensor) -> np.ndarray:
    return values.detach().numpy().astype(np.float64)


def cosines(embeddings: torch.Tensor, centres: torch.Tensor) -> np.ndarray:
    x, w = array(embeddings), array(centres)
    return (x @ w.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=1)


def dense(mixture: Mixture, classes: int) -> np.ndarray:
    """Soft labels as a matrix (B, K)."""
    eye, weight = np.eye(classes), array(mixture.weight)[:, None]
    return weight * eye[mixture.first.numpy()] + (1 - weight) * eye[mixture.second.numpy()]


def cross_entropy(probabilities: np.ndarray, mixture: Mixture) -> float:
    labels = dense(mixture, probabilities.shape[1])
    return float(-(labels * np.log(probabilities)).sum(axis=1).mean())


def test_linear() -> None:
    embeddings, mixture = batch(4)
    made = built("linear", 4)
    weight, bias = (array(value) for value in made.parameters())
    expected = softmax(array(embeddings) @ weight.T + bias, axis=1)
    np.testing.assert_allclose(made.predict(embeddings), expected, rtol=1e-5)
    loss = made.loss(embeddings, mixture).item()
    assert loss == pytest.approx(cross_entropy(expected, mixture), rel=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_arcface(margin: float, scale: float) -> None:
    embeddings, mixture = batch(5)
    made = built(f"arcface:scale={scale}:margin={margin}", 5)
    cosine = cosines(embeddings, made.centres)
    total = 0.0
    for clip in range(B):
        weight = float(mixture.weight[clip])
        for own, share in ((mixture.first[clip], weight), (mixture.second[clip], 1 - weight)):
            logits = scale * cosine[clip]
            theta = np.arccos(cosine[clip, own]) + margin
            beyond = cosine[clip, own] - 1 + np.cos(margin)
            logits[own] = scale * (np.cos(theta) if theta < np.pi else beyond)
            total += share * (logsumexp(logits) - logits[own])
    assert made.loss(embeddings, mixture).item() == pytest.approx(total / B, rel=1e-4)
    np.testing.assert_allclose(made.predict(embeddings), softmax(scale * cosine, 1), rtol=1e-4)


def test_arcface_pulls_a_clip_at_every_angle_towards_its_class() -> None:
    made = built("arcface:scale=1:margin=0.5", 2)
    with torch.no_grad():
        made.centres.copy_(torch.eye(2, D))
    theta = torch.linspace(0, torch.pi, 721, dtype=torch.float64)
    logits = made.with_margin(theta.cos())
    assert logits.diff().max() < 0
    assert logits.diff().min() > -0.005  # no jump where one formula follows the other
    opposite = torch.zeros(1, D)
    opposite[0, 0] = -1
    opposite[0, 1] = 0.01
    opposite.requires_grad_()
    made.loss(opposite, Mixture.plain(torch.tensor([0]))).backward()
    assert torch.isfinite(opposite.grad).all()
    for exact in (torch.eye(2, D), -torch.eye(2, D)):
        exact.requires_grad_()
        made.loss(exact, Mixture.plain(torch.tensor([0, 1]))).backward()
        assert torch.isfinite(exact.grad).all()


def near(made: Head, own: torch.Tensor, centres: int = 1) -> torch.Tensor:
    """Embeddings at angles from 4 to 27 degrees or so to a centre of their class."""
    noise = np.random.default_rng(0).normal(0, 1, (len(own), D))
    noise *= np.linspace(0.02, 0.15, len(own))[:, None]
    return made.centres.detach()[centres * own] + torch.from_numpy(noise.astype(np.float32))


def median_angle(angles: np.ndarray) -> float:
    return min(np.pi / 4, float(np.median(angles)))


def test_adacos_with_a_fixed_scale() -> None:
    embeddings, mixture = batch(6)
    made = built("adacos:scale=fixed", 6)
    expected = softmax(SQRT2 * np.log(5) * cosines(embeddings, made.centres), axis=1)
    for _ in range(2):
        loss = made.loss(embeddings, mixture).item()
        assert loss == pytest.approx(cross_entropy(expected, mixture), rel=1e-5)
    np.testing.assert_allclose(made.predict(embeddings), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [B, 4])  # an odd and an even number of clips
def test_adacos_with_a_dynamic_scale(size: int) -> None:
    classes, scale = 40, SQRT2 * np.log(39)
    made = built("adacos", classes)
    for step in range(3):
        embeddings, mixture = batch(classes, step)
        plain = Mixture.plain(mixture.first[:size])
        embeddings = near(made, plain.first) if step else embeddings[:size]
        cosine = cosines(embeddings, made.centres)
        own = plain.first.numpy()
        sums = [sum(np.exp(scale * cosine[i, k]) for k in range(classes) if k != own[i]) for i in range(size)]
        theta = np.arccos(cosine[np.arange(size), own])
        scale = np.log(np.mean(sums)) / np.cos(median_angle(theta))
        expected = cross_entropy(softmax(scale * cosine, axis=1), plain)
        assert made.loss(embeddings, plain).item() == pytest.approx(expected, rel=1e-4)
        assert made.scale.item() == pytest.approx(scale, rel=1e-5)
    made.eval()
    made.loss(*batch(classes, 9))
    assert made.scale.item() == pytest.approx(scale, rel=1e-5)


def test_adacos_leaves_both_classes_of_a_mixture_out_of_the_others() -> None:
    classes, start = 40, SQRT2 * np.log(39)
    made = built("adacos", classes)
    embeddings, mixture = batch(classes)
    cosine, label = cosines(embeddings, made.centres), dense(mixture, classes)
    others = np.where(label > 0, 0, np.exp(start * cosine)).sum(axis=1).mean()
    theta = (label * np.arccos(cosine)).sum(axis=1)
    expected = np.log(others) / np.cos(median_angle(theta))
    made.loss(embeddings, mixture)
    assert made.scale.item() == pytest.approx(expected, rel=1e-5)


def summed(cosine: np.ndarray, scale: float, classes: int) -> np.ndarray:
    return softmax(scale * cosine, axis=1).reshape(len(cosine), classes, -1).sum(axis=2)


@pytest.mark.parametrize("centres", [1, 3, 16])
def test_subcluster_adacos_with_a_fixed_scale(centres: int) -> None:
    embeddings, mixture = batch(5)
    made = built(f"subcluster-adacos:scale=fixed:centres={centres}", 5)
    scale = SQRT2 * np.log(5 * centres - 1)
    expected = summed(cosines(embeddings, made.centres), scale, 5)
    loss = made.loss(embeddings, mixture).item()
    assert loss == pytest.approx(cross_entropy(expected, mixture), rel=1e-5)
    np.testing.assert_allclose(made.predict(embeddings), expected, rtol=1e-4)


def test_subcluster_adacos_with_a_dynamic_scale() -> None:
    classes, centres = 5, 4
    made = built(f"subcluster-adacos:centres={centres}", classes)
    scale = SQRT2 * np.log(classes * centres - 1)
    for step in range(3):
        embeddings, mixture = batch(classes, step)
        embeddings = near(made, mixture.first, centres) if step else embeddings
        cosine = cosines(embeddings, made.centres)
        total = np.exp(scale * cosine).sum(axis=1).mean()
        nearest = np.arccos(cosine.reshape(B, classes, centres).max(axis=2))
        theta = (dense(mixture, classes) * nearest).sum(axis=1)
        scale = np.log(total) / np.cos(median_angle(theta))
        expected = cross_entropy(summed(cosine, scale, classes), mixture)
        assert made.loss(embeddings, mixture).item() == pytest.approx(expected, rel=1e-4)
        assert made.scale.item() == pytest.approx(scale, rel=1e-5)


def test_fixed_centres_do_not_move_and_trainable_ones_do() -> None:
    for trainable in (True, False):
        made = built(f"subcluster-adacos:trainable={str(trainable).lower()}", 3)
        before = made.centres.detach().clone()
        embeddings, mixture = batch(3)
        embeddings.requires_grad_()
        made.loss(embeddings, mixture).backward()
        assert embeddings.grad is not None
        assert (made.centres.grad is not None) is trainable
        assert "centres" in made.state_dict()
        torch.testing.assert_close(made.centres.detach(), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", HEADS.names())
def test_training_separates_classes_and_the_state_brings_it_back(name: str) -> None:
    made = built(name, 3)
    rng = np.random.default_rng(0)
    classes = torch.arange(3).repeat(20)
    points = torch.from_numpy(rng.normal(0, 1, (3, D))[classes.numpy()]).float()
    points = (points + 0.3 * torch.randn(points.shape)).requires_grad_()
    optimiser = torch.optim.Adam([*made.parameters(), points], lr=0.05)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = made.loss(points, Mixture.plain(classes))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    probabilities = made.predict(points)
    assert (probabilities.argmax(1) == classes).all()
    assert not probabilities.requires_grad
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    other = head.parse(name).build(D, 3)
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other.predict(points), probabilities, rtol=0, atol=0)


@pytest.mark.parametrize("name", HEADS.names())
def test_one_class_is_refused_and_two_are_learnt(name: str) -> None:
    with pytest.raises(AsdError, match="1 class to learn: its loss would always be 0"):
        built(name, 1)
    made = built(name, 2)
    embeddings, mixture = batch(2)
    embeddings.requires_grad_()
    for _ in range(3):
        loss = made.loss(embeddings, mixture)
        loss.backward()
    assert loss.item() > 0
    assert embeddings.grad.abs().max() > 0


def test_a_scale_stays_within_what_a_softmax_can_use() -> None:
    made = built("subcluster-adacos", 3)
    with torch.no_grad():
        made.centres.copy_(torch.ones_like(made.centres))  # all centres have become one
    for _ in range(200):
        loss = made.loss(torch.ones(4, D), Mixture.plain(torch.tensor([0, 1, 2, 0])))
    assert made.scale.item() == 64
    assert loss.item() == pytest.approx(np.log(3), rel=1e-5)
    made = built("adacos", 2)
    with torch.no_grad():
        made.centres.copy_(torch.eye(2, D) - torch.eye(2, D).flip(0))  # opposite directions
    made.loss(made.centres.detach().clone(), Mixture.plain(torch.tensor([0, 1])))
    assert made.scale.item() == pytest.approx(SQRT2 * np.log(2))


@pytest.mark.parametrize("name", HEADS.names())
def test_parameters_follow_the_seed_and_autocast_changes_nothing(name: str) -> None:
    first, second = built(name, 4), built(name, 4)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    embeddings, mixture = batch(4)
    plain = first.loss(embeddings, mixture)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(second.loss(embeddings, mixture), plain)
        assert second.predict(embeddings).dtype == torch.float32


def test_a_plain_label_counts_once_whatever_its_weight() -> None:
    made = built("arcface", 4)
    embeddings, mixture = batch(4)
    expected = made.loss(embeddings, Mixture.plain(mixture.first))
    odd = Mixture(mixture.first, mixture.first, torch.full((B,), 0.3))
    assert made.loss(embeddings, odd).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("softmax", "unknown head 'softmax'; known are adacos, arcface, linear, subcluster-adacos"),
        ("arcface:angle=1", "no option 'angle'; it has scale, margin"),
        ("arcface:margin=2", r"margin 2.0 must lie in \[0.0, 1.5\]"),
        ("arcface:scale=nan", "scale nan must lie in"),
        ("adacos:scale=64", "scale is '64'; expected dynamic or fixed"),
        ("subcluster-adacos:centres=0", "centres 0 must lie in"),
        ("subcluster-adacos:trainable=no", "expected true or false"),
    ],
)
def test_wrong_options_are_told_with_what_is_known(text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        head.parse(text)


def test_options_come_back_as_text() -> None:
    made = head.parse("arcface:margin=0.25")
    text = text_of("arcface", made)
    assert text == "arcface:scale=64.0:margin=0.25"
    assert head.parse(text) == made

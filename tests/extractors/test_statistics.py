"""Statistics pooling against its formulas, written here a second time in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from cache.base.errors import AsdError
from extractors.embedding.statistics import KINDS, Kind, StatisticsPooling

B, TIME, BAND, C, D = 3, 9, 2, 5, 4


def frames() -> torch.Tensor:
    return torch.randn(B, TIME, BAND, C, generator=torch.Generator().manual_seed(1)) + 2


def built(kind: Kind) -> StatisticsPooling:
    torch.manual_seed(0)
    return StatisticsPooling(C, D, kind)


def pooled(module: StatisticsPooling, tokens: np.ndarray) -> np.ndarray:
    """One clip's (time, C) before the projection."""
    if module.kind == "mean":
        return tokens.mean(axis=0)
    weights = np.full(len(tokens), 1 / len(tokens))
    if module.kind == "attentive":
        parameters = {k: v.double().numpy() for k, v in module.attention.state_dict().items()}
        hidden = np.tanh(tokens @ parameters["hidden.weight"].T + parameters["hidden.bias"])
        scores = hidden @ parameters["score.weight"][0] + parameters["score.bias"]
        weights = softmax(scores)
    mean = weights @ tokens
    return np.concatenate([mean, np.sqrt(weights @ tokens**2 - mean**2)])


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_follows_the_formula(kind: Kind) -> None:
    module, values = built(kind), frames()
    weight, bias = (v.detach().double().numpy() for v in module.project.parameters())
    tokens = values.double().numpy().reshape(B, TIME * BAND, C)
    expected = [weight @ pooled(module, clip) + bias for clip in tokens]
    found = module(values)
    assert found.shape == (B, D)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(values), found, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [torch.ones(2, 6, 1, C), 1e3 + torch.ones(2, 1, 1, C)])
def test_constant_and_single_frames_have_a_finite_slope(kind: Kind, values: torch.Tensor) -> None:
    module, values = built(kind), values.clone().requires_grad_()
    module(values).square().sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_attention_learns_to_look_at_the_frame_that_tells() -> None:
    """Two classes that differ in one frame, marked by another channel, of twenty."""
    torch.manual_seed(0)
    module = StatisticsPooling(C, 1, "attentive")
    values = torch.randn(64, 20, 1, C)
    values[:, 7, 0, 0] = 6
    values[:, 7, 0, 1] = sign = torch.where(torch.arange(64) % 2 == 0, 1.0, -1.0)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        torch.nn.functional.soft_margin_loss(module(values)[:, 0], sign).backward()
        optimiser.step()
    scores = module.attention.score(torch.tanh(module.attention.hidden(values[:, :, 0])))
    assert scores.softmax(1)[:, 7, 0].mean() > 5 / 20  # five times its share


def test_wrong_kinds_and_sizes_are_told() -> None:
    with pytest.raises(AsdError, match="unknown statistics 'max'; known are mean, statistics, att"):
        StatisticsPooling(C, D, "max")  # type: ignore[arg-type]
    with pytest.raises(AsdError, match="5 channels to an embedding of 0: both must be positive"):
        StatisticsPooling(C, 0)

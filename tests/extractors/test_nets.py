"""Parts of networks that are computed in another way than PyTorch does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from extractors.nets.fourier import FourierConv1d


@pytest.mark.parametrize(
    ("channels", "taps", "groups", "bias"),
    [(8, 16, 4, True), (6, 5, 1, False), (4, 1, 2, True), (96, 128, 16, True)],
)
@pytest.mark.parametrize("samples", [130, 311, 16])
def test_spectra_give_the_convolution(
    channels: int, taps: int, groups: int, bias: bool, samples: int
) -> None:
    torch.manual_seed(0)
    padding = taps // 2
    ours = FourierConv1d(channels, channels, taps, padding=padding, groups=groups, bias=bias)
    plain = nn.Conv1d(channels, channels, taps, padding=padding, groups=groups, bias=bias)
    plain.load_state_dict(ours.state_dict())
    maps = torch.randn(3, channels, samples)
    with torch.inference_mode():
        expected, found = plain(maps), ours(maps)
        alone = ours(maps[1:2])
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1:2], alone, rtol=0, atol=1e-6)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ours(maps), found)


def test_it_can_be_trained_and_then_uses_its_new_weights() -> None:
    torch.manual_seed(0)
    ours = FourierConv1d(4, 4, 8, padding=4)
    maps = torch.randn(1, 4, 50)
    with torch.inference_mode():
        before = ours(maps)
    ours(maps).square().sum().backward()
    assert ours.weight.grad is not None
    with torch.no_grad():
        ours.weight -= 0.1 * ours.weight.grad
        after = ours(maps)
        expected = nn.functional.conv1d(maps, ours.weight, ours.bias, padding=4)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-4)
    assert not torch.allclose(after, before)

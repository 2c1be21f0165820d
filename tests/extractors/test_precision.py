"""Smaller number formats: what computes in them, what stays in float32, whatever the processor."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from extractors.embedding import precision
from extractors.embedding.precision import reduced, wrong_kinds

CPU = torch.device("cpu")
HALF = torch.bfloat16


@pytest.fixture
def _untried() -> Iterator[None]:
    wrong_kinds.cache_clear()
    yield
    wrong_kinds.cache_clear()


def lying(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A kernel that is wrong in a smaller format, as one of a processor may be."""
    right = nn.functional.linear(values, weight)
    return right.flip(-1) if torch.is_autocast_enabled("cpu") else right


@pytest.mark.parametrize("weight_norm", [False, True])
def test_grouped_1d_convolutions_stay_in_float32(weight_norm: bool) -> None:
    torch.manual_seed(0)
    grouped, plain = nn.Conv1d(16, 16, 16, groups=2), nn.Conv1d(16, 16, 16)
    if weight_norm:  # as the position embeddings of wav2vec2 have it
        grouped = nn.utils.parametrizations.weight_norm(grouped, dim=2)
    values = torch.randn(2, 16, 50)
    with torch.no_grad():
        expected = grouped(values)
        with reduced(CPU, HALF):
            found, smaller = grouped(values), plain(values)
            of_smaller = grouped(values.to(HALF))
    assert torch.equal(found, expected)
    assert smaller.dtype == HALF
    assert of_smaller.dtype == torch.float32


def test_float32_changes_nothing() -> None:
    with reduced(CPU, torch.float32):
        assert not torch.is_autocast_enabled("cpu")
        assert nn.Linear(3, 3)(torch.randn(2, 3)).dtype == torch.float32


@pytest.mark.usefixtures("_untried")
def test_a_kind_that_a_processor_computes_wrongly_is_found_and_kept_in_float32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def tried(channels: int) -> precision.Call:
        return lying, (torch.ones(5, channels).cumsum(0), torch.eye(channels).cumsum(1))

    monkeypatch.setitem(precision._TRIED, "linear layer", tried)
    layer, values = nn.Linear(4, 4), torch.randn(2, 4)
    with caplog.at_level(logging.WARNING), torch.no_grad(), reduced(CPU, HALF):
        found = layer(values)
        product = values @ layer.weight.T
    assert wrong_kinds(CPU, HALF) == ("linear layer",)
    with torch.no_grad():
        assert torch.equal(found, layer(values))
    assert product.dtype == HALF  # a kind that is right keeps the format
    assert "wrong numbers in torch.bfloat16 for: linear layer; these layers" in caplog.text


@pytest.mark.usefixtures("_untried")
def test_kinds_that_a_device_lacks_stay_in_float32_and_are_tried_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def lacking(values: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError('"conv" not implemented for "Half"')
        return values

    monkeypatch.setattr(precision, "_TRIED", {"2-d convolution": lambda c: (lacking, (torch.ones(c),))})
    for _ in range(3):
        assert wrong_kinds(CPU, HALF) == ("2-d convolution",)
    assert len(calls) == 2  # in float32 and in the format, of the first size
    convolution, values = nn.Conv2d(2, 2, 3), torch.randn(1, 2, 8, 8)
    with torch.no_grad(), reduced(CPU, HALF):
        assert convolution(values).dtype == torch.float32


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(32, 64), (3, 32)),
        (nn.Conv2d(8, 8, 3), (2, 8, 9, 9)),
        (nn.Conv1d(8, 8, 3), (2, 8, 20)),
        (nn.ConvTranspose1d(8, 8, 3), (2, 8, 20)),
    ],
)
def test_weights_are_cast_once_and_again_when_they_change(
    layer: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    casts: list[torch.Size] = []
    cast = torch.Tensor.to

    def counted(tensor: torch.Tensor, *args: object) -> torch.Tensor:
        casts.append(tensor.shape)
        return cast(tensor, *args)  # type: ignore[call-overload, no-any-return]

    wrong_kinds(CPU, HALF)  # it casts as well
    monkeypatch.setattr(torch.Tensor, "to", counted)
    values = torch.randn(shape)
    for _ in range(2):
        with torch.inference_mode(), torch.autocast("cpu", HALF):
            expected = layer(values)
        with torch.inference_mode():
            for _ in range(3):
                with reduced(CPU, HALF):
                    assert torch.equal(layer(values), expected)
        with torch.no_grad():
            layer.weight.mul_(2)  # type: ignore[operator, union-attr]
    assert casts == [layer.weight.shape] * 2  # type: ignore[union-attr]


def test_copies_of_weights_go_with_them_and_training_has_none() -> None:
    layer, values = nn.Linear(7, 5), torch.randn(2, 7)
    before = len(precision._COPIES)
    with reduced(CPU, HALF):
        layer(values).sum().backward()
    assert layer.weight.grad is not None
    assert len(precision._COPIES) == before
    with torch.no_grad(), reduced(CPU, HALF):
        layer(values)
    assert len(precision._COPIES) == before + 1
    del layer
    gc.collect()
    assert len(precision._COPIES) == before

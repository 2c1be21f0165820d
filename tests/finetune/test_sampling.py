"""How often an epoch shows each clip, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cache.base.errors import AsdError
from cache.table import Section
from extractors.clips.listing import Clip
from finetune.data.sampling import SAMPLERS


def clips(section: str, counts: dict[tuple[str | None, str], int], **more: str) -> list[Clip]:
    """Clips of a section by (domain, speed)."""
    made = []
    for (domain, speed), count in counts.items():
        for _ in range(count):
            name = f"{section}/train/{len(made)}.wav"
            attributes = {"speed": speed, **more}
            clip = Clip(name, Path(name), Section(section, 0), "train", domain, "normal", attributes)
            made.append(clip)
    return made


FAN = {("source", "1"): 10, ("source", "2"): 4, ("target", "3"): 3}
PUMP = {("source", "1"): 5, (None, "1"): 2}
BOTH = clips("fan", FAN) + clips("pump", PUMP)


def frequencies(text: str, data: Sequence[Clip], epoch: int = 0) -> Counter[tuple[str, ...]]:
    indices = SAMPLERS.parse(text)(data, epoch, 0)
    shown = [data[i] for i in indices]
    return Counter((c.section.machine_type, str(c.domain), c.attributes["speed"]) for c in shown)


def test_plain_shows_every_clip_once_in_a_new_order_each_epoch() -> None:
    orders = [SAMPLERS.parse("plain")(BOTH, epoch, 0) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(len(BOTH)))
    assert len({tuple(order) for order in orders}) == 3


def test_balanced_brings_every_condition_of_a_section_to_its_largest() -> None:
    assert frequencies("balanced", BOTH) == {
        ("fan", "source", "1"): 10,
        ("fan", "source", "2"): 10,
        ("fan", "target", "3"): 10,
        ("pump", "source", "1"): 5,
        ("pump", "None", "1"): 5,
    }
    for epoch in range(20):
        times = Counter(SAMPLERS.parse("balanced")(BOTH, epoch, 0).tolist())
        assert set(times) == set(range(len(BOTH)))
        assert {times[i] for i in range(10, 14)} == {2, 3}  # 10 = 4 clips x 2 + 2 once more
        assert {times[i] for i in range(14, 17)} == {3, 4}


def test_the_clips_shown_once_more_change_from_epoch_to_epoch() -> None:
    draw = SAMPLERS.parse("balanced")
    total = sum(np.bincount(draw(BOTH, epoch, 0), minlength=len(BOTH)) for epoch in range(300))
    np.testing.assert_allclose(total[10:14] / 300, 2.5, rtol=0.06)
    np.testing.assert_allclose(total[14:17] / 300, 10 / 3, rtol=0.06)


def test_a_synthetic_clip_belongs_to_the_condition_it_stands_for() -> None:
    real = clips("fan", {("source", "1"): 6, ("target", "2"): 1})
    made = clips("fan", {("target", "2"): 2}, synthetic="mixup")
    shown = SAMPLERS.parse("balanced")([*real, *made], 0, 0)
    assert len(shown) == 12
    assert Counter(shown.tolist())[6] == 2  # three target clips, each twice


@pytest.mark.parametrize(("share", "target"), [(0.5, 14), (0.75, 42), (0.25, 5), (0.1, 3)])
def test_target_clips_get_their_share_and_never_less_than_they_have(share: float, target: int) -> None:
    assert frequencies(f"target:share={share}", BOTH) == {
        ("fan", "source", "1"): 10,
        ("fan", "source", "2"): 4,
        ("fan", "target", "3"): target,
        ("pump", "source", "1"): 5,  # no target clips: as it is
        ("pump", "None", "1"): 2,
    }


def test_a_section_of_target_clips_only_stays_as_it_is() -> None:
    only = clips("fan", {("target", "1"): 4})
    for name in ("balanced", "target"):
        assert sorted(SAMPLERS.parse(name)(only, 0, 0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_an_epoch_follows_from_seed_and_number_alone(name: str) -> None:
    draw = SAMPLERS.parse(name)
    straight = [draw(BOTH, epoch, 3) for epoch in range(4)]
    np.random.seed(1)  # noqa: NPY002 -- the global state must not matter
    np.testing.assert_array_equal(SAMPLERS.parse(name)(BOTH, 2, 3), straight[2])
    assert not np.array_equal(draw(BOTH, 2, 4), straight[2])
    assert SAMPLERS.parse(name)(BOTH[:1], 0, 0).tolist() == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smote", "unknown sampling 'smote'; known are balanced, plain, target"),
        ("target:share=1", r"share 1.0 must lie in \[0.01, 0.99\]"),
        ("plain:share=0.5", "no option 'share'; it has none"),
    ],
)
def test_wrong_samplings_are_told_with_what_is_known(text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        SAMPLERS.parse(text)


def test_nothing_to_train_on_is_told() -> None:
    with pytest.raises(AsdError, match="no clips to train on"):
        SAMPLERS.parse("plain")([], 0, 0)

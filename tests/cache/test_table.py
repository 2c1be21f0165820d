"""Embedding tables: what they refuse, and that joins go by clip id."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cache.base.errors import AsdError
from cache.table import ClipKey, EmbeddingTable, Section, append_rows, join_columns
from tests.conftest import make_table


def test_rows_are_sorted_by_clip_id_with_their_vectors() -> None:
    keys = tuple(ClipKey(name, "0") for name in ("b", "c", "a"))
    table = EmbeddingTable(Section("fan", 0), "train", keys, np.float32([[2], [3], [1]]), {"x": (0, 1)})
    assert table.clip_ids == ("a", "b", "c")
    assert table.embeddings[:, 0].tolist() == [1, 2, 3]


def test_two_clips_with_one_id_are_refused() -> None:
    keys = (ClipKey("a", "0"), ClipKey("a", "1"))
    with pytest.raises(AsdError, match="two clips with one id 'a'"):
        EmbeddingTable(Section("fan", 0), "train", keys, np.zeros((2, 1), "f4"), {"x": (0, 1)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused_by_clip(value: float) -> None:
    with pytest.raises(AsdError, match="fan/train/0001.wav"):
        make_table([[0.0], [value]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": np.zeros((2, 2))}, "float64 for 2 clips"),
        ({"embeddings": np.zeros((3, 2), "f4")}, r"\(3, 2\) float32 for 2 clips"),
        ({"blocks": {"x": (0, 1)}}, "do not cover the 2 columns"),
        ({"blocks": {"x": (0, 1), "y": (0, 2)}}, "do not cover"),
        ({"split": "valid"}, "split 'valid' is not one of train, test"),
    ],
)
def test_a_table_says_what_is_wrong_with_it(changes: dict[str, object], message: str) -> None:
    with pytest.raises(AsdError, match=message):
        replace(make_table([[1, 2], [3, 4]]), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\\b"])
def test_a_machine_type_is_a_plain_folder_name(name: str) -> None:
    with pytest.raises(AsdError, match="plain folder name"):
        Section(name, 0)


def test_concatenation_goes_by_clip_id_not_by_row() -> None:
    left = make_table([[0], [1], [2]], name="a")
    rows = {key.clip_id: i for i, key in enumerate(left.keys)}
    # The same clips under other ids order: reversed rows, sorted again by the table itself.
    right = EmbeddingTable(
        left.section, "train", left.keys[::-1], np.float32([[20], [10], [0]]), {"b": (0, 1)}
    )
    joined = join_columns([left, right])
    assert joined.embeddings.tolist() == [[0, 0], [1, 10], [2, 20]]
    assert joined.blocks == {"a": (0, 1), "b": (1, 2)}
    assert [rows[clip_id] for clip_id in joined.clip_ids] == [0, 1, 2]


def test_concatenating_other_clips_is_refused_by_name() -> None:
    left, right = make_table([[0], [1]], name="a"), make_table([[0], [1], [2]], name="b")
    with pytest.raises(AsdError, match=r"'fan/train/0002.wav' \(2 and 3 rows\)"):
        join_columns([left, right])


def test_concatenating_the_same_name_with_other_audio_is_refused() -> None:
    left, right = make_table([[0]], name="a"), make_table([[0]], name="b")
    other = replace(right, keys=(replace(right.keys[0], content_sha256="f" * 64),))
    with pytest.raises(AsdError, match="do not hold the same clips"):
        join_columns([left, other])


def test_appending_another_width_is_refused() -> None:
    with pytest.raises(AsdError, match="section, split and blocks must be the same"):
        append_rows([make_table([[0.0]]), make_table([[0.0, 1.0]])])


def test_domain_rows() -> None:
    table = make_table([[0], [1], [2]], ["source", "target", None])
    assert table.domain_rows("target").tolist() == [1]
    assert table.domain_rows(None).tolist() == [2]

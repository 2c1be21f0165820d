"""Bank building as a function: only given sections and clips, and tables named by weights."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache.base.errors import AsdError
from cache.select import Selection, choose
from cache.store import Store
from cache.table import Section
from extractors.extract import extract
from extractors.request import ExtractRequest
from extractors.weights.published import with_hashes
from index.bank import Bank
from index.build import build
from index.request import BuildRequest

FAN = Section("fan", 0)


@pytest.fixture
def request_(root: Path, tmp_path: Path) -> BuildRequest:
    """A bank of the clips of a small data root."""
    done: list[tuple[int, int]] = []
    made = extract(
        ExtractRequest(data=(root,), cache_dir=tmp_path / "cache"),
        lambda *counts: done.append(counts),
    )
    assert done[0] == (0, len(made.listing.clips))
    assert done[-1] == (len(made.listing.clips),) * 2
    assert not made.faults
    return BuildRequest(cache_dir=tmp_path / "cache", bank=tmp_path / "bank", scorer="min-distance")


def test_only_the_clips_and_sections_asked_for(request_: BuildRequest) -> None:
    whole = build(request_)
    assert FAN in whole.sections
    store = Store(request_.cache_dir)
    table = store.read(whole.recipe, FAN, "train")
    kept = frozenset(table.clip_ids[:4])
    some = replace(request_, sections=(FAN,), clips=kept)
    assert build(some).kept == 0  # what is there was fitted to other clips
    again = build(some)
    assert (again.sections, again.kept) == ((FAN,), 1)
    fitted = Bank(again.root).read(FAN, again.recipe)
    assert sum(fitted.clips.values()) == 4
    queries = store.read(whole.recipe, FAN, "test").embeddings
    nearest = fitted.scorer.explain(queries)
    assert {*nearest.source_clip, *nearest.target_clip} - {""} <= kept
    every = replace(request_, clips=frozenset(table.clip_ids))
    assert [build(every).kept, build(request_).kept] == [0, len(whole.sections)]  # the same clips
    with pytest.raises(AsdError, match="none of its 8 training clips is in the data"):
        build(replace(some, clips=frozenset({"another"})))


def test_a_scorer_is_text_or_options_beside_it(request_: BuildRequest) -> None:
    text = build(replace(request_, scorer="min-distance:k=2:metric=cosine"))
    values = {"k": 2, "metric": "cosine"}
    beside = replace(request_, scorer_options=values, bank=request_.cache_dir / "other")
    store = Store(request_.cache_dir)
    queries = store.read(text.recipe, FAN, "test").embeddings
    scores = [
        Bank(root).read(FAN, text.recipe).scorer.score(queries) for root in (text.root, build(beside).root)
    ]
    assert np.array_equal(*scores)
    with pytest.raises(AsdError, match="no option 'depth'"):
        build(replace(request_, scorer_options={"depth": 2}))


def test_weights_are_named_by_file_name_or_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    published = "8d1b234032a9ccff353612dc6c20982346dc2968b205b79d97303eb5e77bfb34"
    for given, known in ((str(path), sha256), ("BEATs_iter3.pt", published), ("8d1b23", "8d1b23")):
        wanted = with_hashes(Selection(weights=(given,)))
        assert (wanted.weights, wanted.weights_hash) == ((), (known,))
    with pytest.raises(AsdError, match="--weights gone.pt: no such file and no known checkpoint"):
        with_hashes(Selection(weights=("gone.pt",)))


def test_a_pooling_is_chosen_in_either_spelling(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    extract(ExtractRequest(data=(root,), cache_dir=cache, pooling=("rdp+gem:p=3:gamma=16", "mean")))
    for text in ("rdp+gem", "rdp+gem:3,16", "rdp+gem:p=3:gamma=16"):
        assert choose(Store(cache), Selection(pooling=text)).pooling == "rdp+gem:3,16"


def test_a_bank_of_one_kind_is_not_built_into_one_of_another(request_: BuildRequest, root: Path) -> None:
    shutil.copytree(root / "fan", root / "saw")
    extract(ExtractRequest(data=(root,), cache_dir=request_.cache_dir))
    whole = build(request_)
    one = replace(request_, sections=(FAN,))
    assert build(one).kept == 1  # the same kind: the other sections stay
    with pytest.raises(AsdError, match="of min-distance on embeddings .* would stay beside ldn"):
        build(replace(one, scorer="ldn"))
    assert Bank(whole.root).made_of(FAN) == (whole.recipe.fingerprint, "min-distance")  # nothing was written
    build(replace(request_, scorer="ldn"))  # all of it
    build(replace(one, alone=True))
    assert Bank(whole.root).sections() == [FAN]

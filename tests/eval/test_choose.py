"""The choice of embeddings and scorers from normal clips alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cache.base.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.choice import Candidate, choose
from eval.request import ChoiceRequest
from eval.verbs import choose as main
from index.calibration import folds_of
from index.scorer import parse_member
from tests.conftest import make_recipe, make_table

FAN, PUMP = Section("fan", 0), Section("pump", 0)


def values(section: Section, kind: str) -> np.ndarray:
    """Embeddings of 30 source and 6 target clips: a machine's own plane, noise, or all alike."""
    rng = np.random.default_rng([len(section.machine_type), ord(section.machine_type[0])])
    plane = rng.normal(size=(2, 8))
    if kind == "noise":
        return rng.normal(size=(36, 8))
    if kind == "alike":
        return np.repeat(rng.normal(size=(36, 1)) > 0, 8, axis=1).astype(float)
    made = rng.normal(size=(36, 2)) @ plane + 0.05 * rng.normal(size=(36, 8))
    made[30:] += 3 * rng.normal(size=8)
    return made


def table(section: Section, kind: str) -> EmbeddingTable:
    made = make_table(values(section, kind), ["source"] * 30 + ["target"] * 6, section=section)
    keys = tuple(
        replace(key, attributes={"speed": str(i // 10)} if i < 30 else {}) for i, key in enumerate(made.keys)
    )
    return replace(made, keys=keys)


def stored(folder: Path, *kinds: str) -> dict[str, Recipe]:
    recipes = {kind: make_recipe(pooling=kind) for kind in kinds}
    for kind, recipe in recipes.items():
        for section in (FAN, PUMP):
            Store(folder).write(table(section, kind), recipe)
    return recipes


def request(folder: Path, *scorers: str, **options: object) -> ChoiceRequest:
    options = {"group": "none", **options}
    return ChoiceRequest(cache_dir=folder, scorer=scorers or ("min-distance",), **options)  # type: ignore[arg-type]


def test_embeddings_in_which_normal_clips_are_alike_win(tmp_path: Path) -> None:
    recipes = stored(tmp_path, "noise", "plane")
    choice = choose(request(tmp_path, "min-distance", "mahalanobis"))
    assert choice.kinds == ("resampled", "machine", "domain", "attribute")
    assert [(one.recipe, one.scorer) for one in choice.level] == [(recipes["plane"], "mahalanobis")]
    assert choice.candidates[1].behind
    noise = [one.veto for one in choice.candidates if one.recipe == recipes["noise"]]
    assert all("chance" in veto for veto in noise)


def test_the_same_embeddings_twice_show_no_difference(tmp_path: Path) -> None:
    for pooling in ("one", "two"):
        for section in (FAN, PUMP):
            Store(tmp_path).write(table(section, "plane"), make_recipe(pooling=pooling))
    choice = choose(request(tmp_path))
    assert len(choice.level) == 2
    assert choice.candidates[0].area == choice.candidates[1].area


def test_other_machines_and_the_other_domain_by_hand(tmp_path: Path) -> None:
    stored(tmp_path, "plane")
    one = choose(request(tmp_path)).candidates[0]
    own, other = table(FAN, "plane"), table(PUMP, "plane")
    target = np.arange(36) >= 30
    folds = folds_of(np.arange(36), target)
    machine, domain = [], []
    for fold in range(10):
        held = folds == fold
        scorer = parse_member("min-distance")
        scorer.fit(own.select(np.flatnonzero(~held)))
        low, high = scorer.score(own.embeddings[held]), scorer.score(other.embeddings)
        machine.append(roc_auc_score([0] * len(low) + [1] * len(high), [*low, *high]))
        scorer.fit(own.select(np.flatnonzero(~held & ~target)))
        low = scorer.score(own.embeddings[held & ~target])
        high = scorer.score(own.embeddings[target])
        domain.append(roc_auc_score([0] * len(low) + [1] * len(high), [*low, *high]))
    np.testing.assert_allclose(one.areas["machine"][:10], machine)
    np.testing.assert_allclose(one.areas["domain"][:10], domain)
    kinds = [values.mean() for values in one.known.values()]
    assert one.area == pytest.approx(np.mean(kinds))


def test_the_kind_asked_for_alone_is_made(tmp_path: Path) -> None:
    stored(tmp_path, "plane")
    choice = choose(request(tmp_path, outliers="domain"))
    assert choice.kinds == ("domain",)
    alone = choose(request(tmp_path, outliers="machine", machine=("fan",))).candidates[0]
    assert len(alone.areas["machine"]) == 10


def test_degenerate_candidates_are_vetoed_with_the_reason(tmp_path: Path) -> None:
    stored(tmp_path, "plane")
    choice = choose(request(tmp_path, "min-distance", "genrep", outliers="resampled"))
    assert [one.veto for one in choice.candidates] == [
        "", "transductive: scores depend on each other"
    ]  # fmt: skip
    (tmp_path / "b").mkdir()
    chance = np.random.default_rng(0).normal(size=(24, 4))
    constant = make_table(chance, section=FAN)
    Store(tmp_path / "b").write(constant, make_recipe())
    made = choose(request(tmp_path / "b", outliers="resampled", group="none"))
    assert made.level == ()
    assert "chance" in made.candidates[0].veto


def test_tables_of_other_clips_cannot_be_compared(tmp_path: Path) -> None:
    stored(tmp_path, "plane")
    few = table(FAN, "plane").select(range(20))
    Store(tmp_path).write(few, make_recipe(pooling="few"))
    with pytest.raises(AsdError, match="16 of them in one only; extract all tables"):
        choose(request(tmp_path))


def test_one_machine_without_target_or_attributes_has_one_kind_left(tmp_path: Path) -> None:
    plain = make_table(values(FAN, "plane")[:30], section=FAN)
    Store(tmp_path).write(plain, make_recipe())
    assert choose(request(tmp_path)).kinds == ("resampled",)
    with pytest.raises(AsdError, match="--outliers machine: there are none"):
        choose(request(tmp_path, outliers="machine"))


def test_the_command_says_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cache-dir", str(tmp_path)]) == 2
    stored(tmp_path, "plane", "noise")
    where = ["--cache-dir", str(tmp_path), "--group", "none"]
    assert main([*where, "--scorer", "min-distance", "genrep"]) == 0
    said = capsys.readouterr().out
    assert "choose min-distance on logmel layer=0 pooling=plane" in said
    assert "vetoed: transductive" in said
    assert "vetoed: pseudo-AUC 0.4" in said
    assert main([*where, "--scorer", "nothing"]) == 2


def test_the_area_is_the_mean_of_the_kinds_and_a_unit_may_lack_one() -> None:
    areas = {"machine": np.array([0.5, 1.0]), "domain": np.array([np.nan, 0.9])}
    one = Candidate(make_recipe(), "ldn", areas)
    assert one.area == pytest.approx((0.75 + 0.9) / 2)
    np.testing.assert_allclose(one.units, [0.5, 0.95])

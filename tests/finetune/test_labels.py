"""Classes: machine types, attributes, groups and clusters; rare ones merged by the rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from cache.base.errors import AsdError
from cache.table import Section
from extractors.clips.listing import Clip
from finetune.labels import rules as labels
from finetune.labels.classes import Labelling
from finetune.labels.rules import Labels
from finetune.loop.model_file import load_tunable
from tests.conftest import write_clip, write_root
from tests.helpers.tuning import CPU, settings_of, source_of, waveforms_of


def clip(machine: str, number: int = 0, attributes: Mapping[str, str] | None = None, name: str = "0") -> Clip:
    section = Section(machine, number)
    return Clip(name, Path(name), section, "train", "source", "normal", attributes or {})


def test_a_class_is_section_and_attributes() -> None:
    one = clip("fan", 1, {"speed": "1500", "load": "x_2"})
    assert labels.attribute_label(one, []) == "fan/section_01/load=x_2,speed=1500"
    assert labels.attribute_label(one, ["speed"]) == "fan/section_01/speed=1500"
    assert labels.attribute_label(clip("fan", 1), []) == "fan/section_01"
    assert labels.attribute_label(one, ["other"]) == "fan/section_01"


def test_a_synthetic_clip_is_of_the_class_it_stands_for() -> None:
    real, made = (
        clip("fan", 0, {"speed": "1"}),
        clip("fan", 0, {"speed": "1", "synthetic": "mixup"}),
    )
    assert labels.attribute_label(real, []) == labels.attribute_label(made, [])


def test_numbers_follow_the_names() -> None:
    found = Labels.of(["b", "a", "b"])
    assert (found.names, found.numbers.tolist()) == (("a", "b"), [1, 0, 1])


def test_rare_classes_of_a_section_become_one() -> None:
    clips = [clip("fan")] * 6 + [clip("pump")] * 3
    texts = ["fan/a"] * 3 + ["fan/b", "fan/b", "fan/c"] + ["pump/a", "pump/a", "pump/b"]
    merged, count = labels.merge_rare(texts, clips, 3)
    assert merged == ["fan/a"] * 3 + ["fan/section_00/rare"] * 3 + ["pump/section_00/rare"] * 3
    assert count == 4
    kept, none = labels.merge_rare(texts, clips, 2)  # each section has one rare class: it stays
    assert (kept, none) == (texts, 0)
    assert labels.merge_rare(texts, clips, 1) == (texts, 0)


def test_groups_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("machine_type,group\nfan,rotating\npump,rotating\nslider,linear\n")
    clips = [clip("fan"), clip("slider"), clip("pump")]
    found = labels.group_labels(clips, labels.read_groups(path))
    assert found == ["rotating", "linear", "rotating"]
    with pytest.raises(AsdError, match="no group for the machine type valve"):
        labels.group_labels([clip("valve")], labels.read_groups(path))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("machine,kind\nfan,a\n", "not a CSV file with machine_type,group"),
        ("machine_type,group\nfan,a\nfan,b\n", "'fan' stands in it more than once"),
        ("machine_type,group\nfan\n", "not a CSV file"),
    ],
)
def test_bad_group_files_are_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(AsdError, match=told):
        labels.read_groups(path)
    with pytest.raises(AsdError, match="none.csv"):
        labels.read_groups(tmp_path / "none.csv")


def test_machines_that_sound_alike_are_one_group() -> None:
    random = np.random.default_rng(0)
    clips = [clip(name) for name in ("a", "b", "c", "d") for _ in range(5)]
    centres = {"a": [0, 0], "b": [0.2, 0], "c": [9, 9], "d": [9, 8.8]}
    values = np.array([centres[c.section.machine_type] for c in clips], np.float32)
    found = labels.cluster_machines(values + random.normal(0, 0.05, values.shape), clips, 2)
    assert found["a"] == found["b"] != found["c"] == found["d"]
    assert labels.cluster_machines(values[:5], clips[:5], 1) == {"a": "group_0"}
    with pytest.raises(AsdError, match="--groups 5: expected 1 to 4"):
        labels.cluster_machines(values, clips, 5)


def test_clusters_are_pseudo_labels_within_a_section() -> None:
    random = np.random.default_rng(0)
    directions = np.array([[1, 0, 0], [0, 1, 0]])
    values, clips = [], []
    for section in range(2):
        for kind in range(2):
            for _ in range(6):
                values.append((1 + section) * directions[kind] + random.normal(0, 0.02, 3))
                clips.append(clip("fan", section))
    found = labels.pseudo_labels(np.array(values, np.float32), clips, 2, seed=0)
    for section in range(2):
        rows = found[12 * section : 12 * section + 12]
        assert len(set(rows[:6])) == len(set(rows[6:])) == 1
        assert rows[0] != rows[6]
        assert all(row.startswith(f"fan/section_0{section}/cluster=") for row in rows)
    few = labels.pseudo_labels(np.ones((3, 2), np.float32), clips[:3], 9, seed=0)
    assert set(few) == {"fan/section_00/cluster=0"}


def test_clusters_within_a_domain_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(3)
    centres = random.normal(0, 1, (4, 8))
    kinds = np.arange(40) % 4
    values = (centres[kinds] + random.normal(0, 0.05, (40, 8))).astype(np.float32)
    domains = ["target" if row < 12 else "source" if row % 2 else None for row in range(40)]
    section = Section("fan", 3)
    clips = [Clip(str(i), Path(str(i)), section, "train", d, "normal", {}) for i, d in enumerate(domains)]
    found = np.array(labels.pseudo_labels(values, clips, 4, seed=0, by="domain"))
    for place, rows in (("target", slice(0, 12)), ("source", slice(12, 40))):
        expected = KMeans(4, n_init=4, random_state=0).fit_predict(normalize(values[rows]))
        assert adjusted_rand_score(expected, found[rows]) == 1
        assert set(found[rows]) == {f"fan/section_03/{place}/cluster={number}" for number in range(4)}


@pytest.fixture
def two_machines(tmp_path: Path) -> Path:
    root = write_root(tmp_path / "data", "fan", source=4, target=2)
    for number in range(4):
        write_clip(root / "pump" / "train" / f"section_00_source_train_normal_{number:04d}.wav", number)
    return root


def test_only_machines_without_attributes_get_clusters(two_machines: Path, tmp_path: Path) -> None:
    settings = settings_of("logmel", source_of("logmel", tmp_path))
    waveforms = waveforms_of(two_machines, settings, tmp_path)
    backbone = load_tunable(settings, 0, CPU)
    found, notes = Labelling(pseudo=2).apply(waveforms, backbone)
    assert found.names == (
        "fan/section_00/speed=0",
        "fan/section_00/speed=1",
        "pump/section_00/cluster=0",
        "pump/section_00/cluster=1",
    )
    assert "4 clips without attributes are labelled by clusters" in notes
    machine, _ = Labelling("machine").apply(waveforms, backbone)
    assert machine.names == ("fan", "pump")
    grouped, told = Labelling("groups", groups="2").apply(waveforms, backbone)
    assert len(grouped.names) == 2
    assert told[0].startswith("groups: fan group_")


def test_one_class_and_unknown_attributes_are_told(two_machines: Path, tmp_path: Path) -> None:
    settings = settings_of("logmel", source_of("logmel", tmp_path))
    waveforms = waveforms_of(two_machines, settings, tmp_path)
    backbone = load_tunable(settings, 0, CPU)
    with pytest.raises(AsdError, match="no clip has the attribute 'load'; known are speed"):
        Labelling(attributes=("load",)).apply(waveforms, backbone)
    with pytest.raises(AsdError, match="--labels groups needs --groups FILE"):
        Labelling("groups").apply(waveforms, backbone)
    with pytest.raises(AsdError, match="all clips are of one class, group_0: nothing can be learnt"):
        Labelling("groups", groups="1").apply(waveforms, backbone)

"""The classes of a training: a rule, the clips it is applied to, and the embeddings it may need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.options import Options, documented, option
from cache.table import ANOMALY
from extractors.clips.listing import Clip
from extractors.embedding.embedder import Output
from extractors.pooling import find
from finetune.labels import rules as labels
from finetune.labels.rules import Labels

if TYPE_CHECKING:  # of torch, which the options below do not need
    from extractors.backbone import Tunable
    from finetune.data.waveforms import Waveforms

PSEUDO_ANOMALY = "pseudo-anomaly"
_PSEUDO_CLASSES = {"one": False, "machine": True}


def _by_machine(text: str) -> bool:
    if text not in _PSEUDO_CLASSES:
        raise AsdError(f"--pseudo-classes {text}: expected {' or '.join(_PSEUDO_CLASSES)}")
    return _PSEUDO_CLASSES[text]


@documented
@dataclass(frozen=True)
class Labelling(Options):
    """A rule for classes; `seed` is of clusters."""

    kind: str = option(
        labels.KINDS[0], "machine type x section x attributes, machine type, or groups of machine "
        "types", choices=labels.KINDS, flag="--labels",
    )  # fmt: skip
    attributes: tuple[str, ...] = option((), "only these (default: all)", metavar="NAME")
    pseudo: int = option(
        0, "clusters of frozen embeddings, for sections without attributes (default: none)",
        least=0, flag="--pseudo-labels", metavar="N",
    )  # fmt: skip
    pseudo_by: str = option(
        labels.CLUSTERED[0], "what these clusters are of: a section, or each domain of it",
        choices=labels.CLUSTERED,
    )  # fmt: skip
    groups: str = option(
        "", "CSV machine_type,group; or a number of clusters of frozen embeddings",
        metavar="FILE|N",
    )  # fmt: skip
    least: int = option(
        2, "combinations of fewer clips become one class of their section", least=1,
        flag="--min-clips", metavar="N",
    )  # fmt: skip
    by_machine: bool = option(
        False, "of pseudo-anomalies: one class for all of them, or one a machine type (default: "
        "one)", read=_by_machine, flag="--pseudo-classes", metavar="{one,machine}",
    )  # fmt: skip
    seed: int = 0

    def apply(self, waveforms: Waveforms, backbone: Tunable) -> tuple[Labels, list[str]]:
        """Label clips.

        Parameters
        ----------
        waveforms
            The clips.
        backbone
            Whose frozen embeddings are clustered, where that is asked for.

        Returns
        -------
        Labels
            Of all clips.
        list of str
            What was done that the options do not show.

        Raises
        ------
        AsdError
            If an attribute or a group is missing, or there is one class only.
        """
        clips = waveforms.clips
        normal = [row for row, clip in enumerate(clips) if clip.condition != ANOMALY]
        texts = [
            f"{clip.section.machine_type}/{PSEUDO_ANOMALY}" if self.by_machine else PSEUDO_ANOMALY
            for clip in clips
        ]
        named, notes = self._normal([clips[row] for row in normal], waveforms, normal, backbone)
        for row, text in zip(normal, named, strict=True):
            texts[row] = text
        found = Labels.of(texts)
        if len(found.names) < 2:
            raise AsdError(
                f"all clips are of one class, {found.names[0]}: nothing can be learnt from that; "
                "give data of another machine, --pseudo-labels N, or --pseudo-anomalies ROOT"
            )
        counts = Counter(texts)
        few, many = min(counts.values()), max(counts.values())
        notes.append(f"{len(found.names)} classes of {few} to {many} clips")
        return found, notes

    def _normal(
        self, clips: Sequence[Clip], waveforms: Waveforms, rows: Sequence[int], backbone: Tunable
    ) -> tuple[list[str], list[str]]:
        if self.kind == "machine":
            return [clip.section.machine_type for clip in clips], []
        if self.kind == "groups":
            if not self.groups:
                raise AsdError("--labels groups needs --groups FILE or --groups N")
            if not self.groups.isdigit():
                return labels.group_labels(clips, labels.read_groups(Path(self.groups))), []
            frozen = _frozen(waveforms, rows, backbone)
            found = labels.cluster_machines(frozen, clips, int(self.groups))
            told = ", ".join(f"{machine} {group}" for machine, group in found.items())
            return labels.group_labels(clips, found), [f"groups: {told}"]
        return self._by_attributes(clips, waveforms, rows, backbone)

    def _by_attributes(
        self, clips: Sequence[Clip], waveforms: Waveforms, rows: Sequence[int], backbone: Tunable
    ) -> tuple[list[str], list[str]]:
        labels.check_attributes(clips, self.attributes)
        texts = [labels.attribute_label(clip, self.attributes) for clip in clips]
        notes = []
        bare = [i for i, clip in enumerate(clips) if texts[i] == str(clip.section)]
        if self.pseudo > 1 and bare:
            frozen = _frozen(waveforms, [rows[i] for i in bare], backbone)
            unlabelled = [clips[i] for i in bare]
            made = labels.pseudo_labels(frozen, unlabelled, self.pseudo, self.seed, self.pseudo_by)
            for i, text in zip(bare, made, strict=True):
                texts[i] = text
            notes.append(f"{len(bare)} clips without attributes are labelled by clusters")
        merged_texts, merged = labels.merge_rare(texts, clips, self.least)
        if merged:
            notes.append(f"{merged} combinations of fewer than {self.least} clips are merged")
        return merged_texts, notes


def _frozen(waveforms: Waveforms, rows: Sequence[int], backbone: Tunable) -> NDArray[np.float32]:
    """Embed clips by the backbone as it was loaded, the mean over its frames."""
    from extractors.embedding.embedder import Forward  # noqa: PLC0415 -- torch comes with it

    spec = backbone.spec
    output = Output(spec, spec.layer, find("mean", {}), "merge")
    forward = Forward(backbone, [output], backbone.trainable.device)
    found = []
    for row in rows:
        samples = waveforms.held[row]  # repeated where it is too short for the backbone
        found.append(forward(np.resize(samples, max(spec.min_samples, len(samples)))[None]).values[0])
    return np.concatenate(found)

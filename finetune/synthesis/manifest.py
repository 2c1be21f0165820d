"""The manifest of a synthetic root: a row a clip, what it is and how it was made."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.table import Section
from extractors.clips.folders import PSEUDO
from extractors.clips.listing import Clip
from extractors.clips.names import write_table
from finetune.synthesis.plan import FilePlan
from finetune.synthesis.rendering import SoundRecord

MANIFEST = "manifest.csv"
_COLUMNS = (
    "path", "machine_type", "section", "split", "domain", "condition", "synthetic",
    "attributes", "sources", "method", "parameters", "seed",
)  # fmt: skip


def write_manifest(root: Path, records: Iterable[tuple[FilePlan, SoundRecord]]) -> Path:
    """Write the manifest of a root, whole or not at all, by path."""
    rows = sorted((_row(one, record) for one, record in records), key=lambda row: str(row["path"]))
    write_table(root / MANIFEST, _COLUMNS, rows)
    return root / MANIFEST


def list_pseudo_anomalies(root: Path) -> tuple[Clip, ...]:
    """List the pseudo-anomalies of a root that `finetune.synthesise --as anomalies` wrote.

    Parameters
    ----------
    root
        The folder that holds the manifest.

    Returns
    -------
    tuple of Clip
        By id; split ``train``, condition ``anomaly``, the method under the attribute ``synthetic``.

    Raises
    ------
    AsdError
        If there is no manifest, none in it, or a file that it names is gone.
    """
    path = root / MANIFEST
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if f"/{PSEUDO}/" in row["path"]]
        clips = tuple(sorted((_clip(root, row) for row in rows), key=lambda clip: clip.clip_id))
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise AsdError(
            f"{path} cannot be read ({error}); write it with `python -m finetune.synthesise --as "
            f"anomalies --to {root}`, which finishes what was stopped"
        ) from error
    gone = [clip.clip_id for clip in clips if not clip.path.is_file()]
    if gone or not clips:
        what = f"{gone[0]} is gone from {root}" if gone else f"no pseudo-anomalies in {root}"
        raise AsdError(f"{what}; run `python -m finetune.synthesise --as anomalies` again")
    return clips


def _row(one: FilePlan, record: SoundRecord) -> dict[str, object]:
    return {
        "path": one.path,
        "machine_type": one.section.machine_type,
        "section": f"{one.section.number:02d}",
        "split": one.name.split,
        "domain": one.name.domain,
        "condition": one.name.condition,
        "synthetic": one.method,
        "attributes": json.dumps(dict(one.attributes)),
        "sources": " | ".join(record.sources),
        "method": record.method,
        "parameters": json.dumps({**record.parameters, "lowered": record.lowered}),
        "seed": " ".join(map(str, record.seed)),
    }


def _clip(root: Path, row: Mapping[str, str]) -> Clip:
    section = Section(row["machine_type"], int(row["section"]))
    attributes = dict(parse_json(row["attributes"]))
    path = root / row["path"]
    return Clip(row["path"], path, section, "train", row["domain"], row["condition"], attributes)

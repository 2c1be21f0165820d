"""A synthetic root on disk: its recipe, its clips, its manifest and its attribute files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.options import option_names, text_of
from cache.base.progress import Progress, unseen
from cache.base.text import parse_json
from cache.files.atomic import write_atomic
from cache.files.text_tables import read_table
from cache.table import Section
from extractors.clips.folders import PSEUDO
from extractors.clips.listing import Clip
from extractors.clips.names import write_attributes, write_table
from finetune.synthesis.method import Method, MethodUnavailable
from finetune.synthesis.plan import FilePlan, Order
from finetune.synthesis.rendering import SoundRecord, read_record, render

MANIFEST = "manifest.csv"
_COLUMNS = (
    "path", "machine_type", "section", "split", "domain", "condition", "synthetic",
    "attributes", "sources", "method", "parameters", "seed",
)  # fmt: skip


def write_manifest(root: Path, records: Iterable[tuple[FilePlan, SoundRecord]]) -> Path:
    """Write the manifest of a root, whole or not at all, by path."""
    rows = [
        {
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
        for one, record in sorted(records, key=lambda pair: pair[0].path)
    ]
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
        clips = [
            Clip(
                row["path"], root / row["path"], Section(row["machine_type"], int(row["section"])), "train",
                row["domain"], row["condition"], dict(parse_json(row["attributes"])),
            )
            for row in read_table(path).rows.values() if f"/{PSEUDO}/" in row["path"]
        ]  # fmt: skip
    except (AsdError, KeyError, ValueError) as error:
        raise AsdError(
            f"{path} cannot be read ({error}); write it with `python -m finetune.synthesise --as "
            f"anomalies --to {root}`, which finishes what was stopped"
        ) from error
    gone = [clip.clip_id for clip in clips if not clip.path.is_file()]
    if gone or not clips:
        what = f"{gone[0]} is gone from {root}" if gone else f"no pseudo-anomalies in {root}"
        raise AsdError(f"{what}; run `python -m finetune.synthesise --as anomalies` again")
    return tuple(sorted(clips, key=lambda clip: clip.clip_id))


_RECIPE = "recipe.json"


@dataclass(frozen=True)
class FolderReport:
    """Clips of a plan that were written, and faults.

    Attributes
    ----------
    files
        Clips there now, by path.
    made
        How many of them were made just now.
    lowered
        How many were turned down so that 16 bits hold their peaks.
    faults
        Why clips could not be made, and how many.
    """

    files: Sequence[str]
    made: int
    lowered: int
    faults: Sequence[str]


def recipe(order: Order, clips: Sequence[Clip]) -> str:
    """Write down everything that decides a root's contents, as JSON.

    Parameters
    ----------
    order
        What is asked for.
    clips
        The training clips; their ids and sizes stand for them.
    """
    listed = "".join(f"{clip.clip_id}\t{clip.path.stat().st_size}\n" for clip in clips)
    methods = {}  # as written, to the fields that are no options
    for name, method in order.methods.items():
        options = option_names(type(method))
        rest = {field: value for field, value in vars(method).items() if field not in options}
        methods[text_of(name, method)] = rest
    record = {
        "as": order.kind,
        "from": order.domain if order.kind == "normals" else None,
        "held_out": order.held_out if order.kind == "proxy" else None,
        "per_section": order.per_section,
        "seed": order.seed,
        "methods": methods,
        "data": hashlib.sha256(listed.encode()).hexdigest(),
    }
    return json.dumps(record, indent=2) + "\n"


def claim(root: Path, text: str, data: Sequence[Path]) -> None:
    """Make a folder the root of a recipe, or find that it is so already.

    Parameters
    ----------
    root
        The folder; made where it does not exist.
    text
        The recipe.
    data
        Data roots, of which it must be none.

    Raises
    ------
    AsdError
        If it lies in a data root or around one, or holds anything but this recipe's clips.
    """
    here = root.resolve()
    for other in (path.resolve() for path in data):
        if here == other or here in other.parents or other in here.parents:
            raise AsdError(f"--to {root} lies in the data root {other}, or around it; name another")
    path = root / _RECIPE
    if path.exists():
        if path.read_text() != text:
            raise AsdError(f"{root} holds clips of another recipe, see {path}; name a new folder")
        return
    if root.exists() and (not root.is_dir() or any(p.name[0] != "." for p in root.iterdir())):
        raise AsdError(f"{root} holds files and no {_RECIPE}; name a new folder")
    write_atomic(path, text.encode())


def write_clips(
    root: Path, planned: Sequence[FilePlan], methods: Mapping[str, Method], told: Progress = unseen
) -> FolderReport:
    """Write what is missing of a plan, then the manifest and the attribute files.

    Parameters
    ----------
    root
        A claimed folder.
    planned
        Everything that belongs there.
    methods
        Name to method.
    told
        How many clips are done, of how many.

    Raises
    ------
    MethodUnavailable
        If a method can make nothing at all.
    """
    records: list[tuple[FilePlan, SoundRecord]] = []
    made, lowered, faults = 0, 0, Counter[str]()
    told(0, len(planned))
    for done, one in enumerate(planned, 1):
        told(done, len(planned))
        there = (root / one.path).exists()
        try:
            record = _clip_at(root / one.path, one, methods)
        except MethodUnavailable:
            raise
        except AsdError as error:
            faults[str(error)] += 1  # one bad recording spoils all that would be made of it
            continue
        made += not there
        lowered += record.lowered > 0
        records.append((one, record))
    written = [one for one, _ in records]
    write_manifest(root, records)
    for section in sorted({one.section for one in written}):
        file = f"attributes_{section.number:02d}.csv"
        own = {one.path: one.attributes for one in written if one.section == section}
        write_attributes(root / section.machine_type / file, dict(sorted(own.items())))
    reasons = [f"{reason} ({count} clips not made)" for reason, count in faults.items()]
    return FolderReport(sorted(one.path for one in written), made, lowered, reasons)


def _clip_at(path: Path, one: FilePlan, methods: Mapping[str, Method]) -> SoundRecord:
    """Make a clip, or read the record of one made before: a file of ours is whole, or not there."""
    copied = SoundRecord(one.method, tuple(clip.clip_id for clip in one.sources), {}, ())
    if path.exists():
        record = read_record(path) if one.seed else copied
        if record is None or not record.matches(one):
            raise AsdError(f"{path} is not what this recipe makes; delete it")
        return record
    if one.seed:
        data, record = render(one, methods[one.method])
    else:
        try:
            data, record = one.sources[0].path.read_bytes(), copied
        except OSError as error:
            raise AsdError(f"{one.sources[0].path}: {error.strerror}") from error
    write_atomic(path, data)
    return record

"""``clips_*.csv``: what a section's tables tell of the clips that its results name."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cache.base.errors import AsdError
from cache.heard import split_id
from cache.table import ClipKey, EmbeddingTable, Section
from eval.results.folder import ResultsFolder
from eval.results.names import file_name, result_names
from eval.results.truth import Truth

_KIND = "clips"
_COLUMNS = ["name", "clip_id", "condition", "domain", "synthetic", "content_sha256"]


@dataclass(frozen=True)
class Clips:
    """What is known of a section's clips.

    Attributes
    ----------
    labels
        Name in the results to what the test clip is; ``None`` where that is not known of all.
    hashes
        Id of a recording to the SHA-256 of the file that was scored, or learnt from.
    """

    labels: Mapping[str, Truth] | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)


def write_clips(
    results: ResultsFolder, section: Section, keys: Sequence[ClipKey], nearest: Mapping[str, ClipKey]
) -> Path:
    """Write what is known of a section's test clips, a row a file, and of training clips.

    Parameters
    ----------
    results
        The folder.
    section, keys
        Its test clips.
    nearest
        Id to key of the training clips that the results name, as far as they are known.
    """
    rows = {
        split_id(key.clip_id)[0]: _row(name, key)
        for name, key in zip(result_names([key.clip_id for key in keys]), keys, strict=True)
    }
    rows |= {
        file_id: _row("", key)
        for clip_id, key in sorted(nearest.items())
        if (file_id := split_id(clip_id)[0]) not in rows
    }
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows.values()])
    return results.write(file_name(_KIND, section), text.getvalue().encode())


def read_clips(directory: Path, section: Section) -> Clips | None:
    """Read what `write_clips` wrote; ``None`` where nothing did, as in other systems' folders.

    Raises
    ------
    AsdError
        If the file is not what was written.
    """
    path = directory / file_name(_KIND, section)
    try:
        text = ResultsFolder(directory).read(path.name).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        tests = [row for row in rows if row["name"]]
        hashes = {row["clip_id"]: row["content_sha256"] for row in rows}
        known = all(row["condition"] for row in tests)
        labels = {
            row["name"]: Truth(
                row["condition"] == "anomaly", row["domain"] or None, synthetic=bool(int(row["synthetic"]))
            )
            for row in tests
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, csv.Error, AsdError) as error:
        raise AsdError(f"{path} is damaged ({error}); score again, or delete it") from error
    return Clips(labels if known else None, hashes)


def labels_of(table: EmbeddingTable) -> dict[str, Truth] | None:
    """Read what a table's own columns tell of its test clips; ``None`` if not of all of them."""
    if any(key.condition is None for key in table.keys):
        return None
    return {
        name: Truth(key.condition == "anomaly", key.domain, synthetic=key.synthetic)
        for name, key in zip(result_names(table.clip_ids), table.keys, strict=True)
    }


def _row(name: str, key: ClipKey) -> list[str]:
    file_id, told = split_id(key.clip_id)[0], (key.condition or "", key.domain or "")
    return [name, file_id, *told, str(int(key.synthetic)), key.content_sha256]

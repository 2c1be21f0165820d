"""Command line of the extraction: data roots in, embedding tables out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cache.base.console import Console, entry_point
from cache.base.text import counted
from extractors.fetching.offline import apply_offline
from extractors.request import ExtractRequest

if TYPE_CHECKING:
    from extractors.extract import ExtractResult

_ABOUT = """Turn clips into embedding tables; run again, only what is missing is made.
Of several backbones, NAME=VALUE is meant for one, a plain value for all."""
_EXAMPLE = "--data dev_data eval_data --backbone logmel"


def _show(extracted: ExtractResult, root: Path, console: Console) -> None:
    listing = extracted.listing
    console.some("left out", extracted.faults)
    console.some("no longer in the data, removed", extracted.removed, "removed")
    console.some("not finished, run again", extracted.lost)
    console.notes(extracted.remarks)
    clips = counted(len(listing.clips), "clip")
    if files := len({clip.path for clip in listing.clips if clip.span}):
        clips += f", windows of {files} recordings among them"
    for recipes, report in zip(extracted.recipes, extracted.reports, strict=True):
        counts = {"new": report.new, "changed": report.changed, "unchanged": report.unchanged,
                  "left out": len(listing.faults) + len(report.faults)}  # fmt: skip
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        for recipe in recipes:
            where = root / recipe.fingerprint
            facts = {name.replace(" ", "_"): count for name, count in counts.items()}
            console.made(f"{clips}: {told} -> {where} ({recipe})", made=where, recipe=recipe,
                         clips=len(listing.clips), **facts)  # fmt: skip


@entry_point(ExtractRequest, "extractors.run", _ABOUT, _EXAMPLE)
def main(request: ExtractRequest, console: Console) -> int:
    """Extract embeddings; exit code 1 where clips were left out, or the doctor found a fault."""
    apply_offline(request)  # before the hub's client is loaded, which reads it once
    if request.doctor:
        from extractors.doctor import diagnose  # noqa: PLC0415

        return diagnose(request.device, request.cache_dir, console)
    from extractors.clips.listing import check_roots  # noqa: PLC0415

    check_roots(request.data)
    from extractors.extract import extract  # noqa: PLC0415 -- torch comes with it

    with console.progress("clip") as told:
        extracted = extract(request, told)
    _show(extracted, request.cache_dir, console)
    return 1 if extracted.faults or extracted.lost else 0


if __name__ == "__main__":
    sys.exit(main())

"""Commands of the data sets: fetch one, say what a folder of recordings holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from cache.base.console import Command, Console, call_one, parser_of
from cache.base.errors import guarded, tell_some
from cache.base.text import counted
from cache.heard import Signal
from extractors.audio.hearing import Hearing
from extractors.clips.dataset import datasets
from extractors.clips.listing import SUPPLEMENTS, list_clips
from extractors.data.bearings import notice
from extractors.data.fetch import FetchRequest, bring_all, look_up
from extractors.data.survey import SurveyRequest, survey
from extractors.fetching.offline import apply_offline

_CHECK = """Read every recording of data roots; say what is there by machine, section, split, domain,
condition and attribute; name what cannot be read, duplicates, recordings that train and
test share, and what is missing against the task's published data."""
_CHECKED = """exit code: 0 nothing to put right, 1 findings, 2 nothing could be checked
example: asd check dev_data eval_data"""
_FETCH = """Fetch a data set from Zenodo, check it and unpack it: one of the challenge to DIR/dev_data and
DIR/eval_data, any other to DIR/NAME. What is there is not fetched again; a run that was stopped
goes on. Sets whose terms forbid that get a notice."""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Survey data roots or fetch a data set; 0, 1 where there is something to look at, 2 for a mistake."""
    about = "Data sets: fetch public ones, see whether a folder is whole."
    terms = "\n".join(f"{each.name}: {each.terms}" for each in datasets().values())
    look = "say what data roots hold and what is wrong with it"
    commands = {
        "check": Command(look, SurveyRequest, _check, _CHECK, _CHECKED),
        "fetch": Command("bring a public data set here", FetchRequest, _fetch, _FETCH, terms),
    }
    return call_one(parser_of("extractors.data.run", about), commands, argv)


def _fetch(request: FetchRequest, console: Console) -> int:
    apply_offline(request)
    if (found := request.bearings) is not None:
        sys.stderr.write(notice(found))
        found.build()
        manifest, clips = found.lay_down(request.to / found.name, request.machines)
        console.made(f"{found.name}: {counted(clips, 'signal')} -> {manifest}", made=manifest, clips=clips)
        return 0
    delivery = look_up(request)
    sys.stderr.write(delivery.notice)
    faults = bring_all(delivery.missing)
    console.some("fault", faults)
    fetched, there = len(delivery.missing) - len(faults), len(delivery.archives) - len(delivery.missing)
    console.made(
        f"{request.dataset}, archives: {fetched} fetched and unpacked, {there} were there, "
        f"{len(faults)} failed -> {', '.join(delivery.roots)}",
        made=delivery.roots, fetched=fetched, there=there, failed=len(faults),
    )  # fmt: skip
    return 1 if faults else 0


def _check(request: SurveyRequest, console: Console) -> int:
    told = Hearing(signal=Signal(request.rate, request.column))
    found = survey(told.cut(list_clips(request.roots, SUPPLEMENTS)), request.year)
    console.made(
        str(found),
        groups=[asdict(group) for group in found.groups],
        attributes=found.attributes,
        known=[str(one) for one in found.known],
        findings=list(found.findings),
        notes=list(found.notes),
    )
    if not console.speech.json:
        console.notes(found.notes)
        tell_some("finding", found.findings)
        console.made(f"next: {found.next(request.roots)}")
    return 1 if found.findings else 0


if __name__ == "__main__":
    sys.exit(main())

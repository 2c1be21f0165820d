"""What data roots hold and what is wrong with it: a table for people, JSON for scripts."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from cache.base.arguments import add_arguments
from cache.base.console import Console, Speech
from cache.base.errors import tell_some
from cache.base.text import counted
from cache.files.places import place
from cache.heard import Signal
from extractors.audio.hearing import Hearing
from extractors.clips.known import KNOWN
from extractors.clips.listing import SUPPLEMENTS, list_clips
from extractors.data.survey import Group, Survey, survey

_HEADER = ("machine", "section", "split", "domain", "condition", "clips", "Hz", "channels", "s")
_EPILOG = """exit code: 0 nothing to put right, 1 findings, 2 nothing could be checked
example: python -m extractors.data check dev_data eval_data"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command ``check``."""
    parser = subparsers.add_parser(
        "check",
        help="say what data roots hold and what is wrong with it",
        description="Read every recording of data roots; say what is there by machine, section, "
        "split, domain,\ncondition and attribute; name what cannot be read, duplicates, recordings "
        "that train and\ntest share, and what is missing against the task's published data.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("roots", nargs="+", type=place, metavar="ROOT", help="data roots or manifests")
    add("--year", type=int, choices=sorted({int(one.year) for one in KNOWN}),
        help="compare with this year's data; every absent machine is a finding then "
        "(default: found out)")  # fmt: skip
    add("--rate", type=int, metavar="HZ", help="of files of numbers that do not tell it")
    add("--column", default="", metavar="NAME[,NAME...]", help="of files of numbers (default: all)")
    add_arguments(parser, Speech)
    parser.set_defaults(call=_check)


def _check(args: Namespace, console: Console) -> int:
    told = Hearing(signal=Signal(args.rate, args.column))
    found = survey(told.cut(list_clips(args.roots, SUPPLEMENTS)), args.year)
    console.made(_text(found).removesuffix("\n"), **_plain(found))
    if not console.speech.json:
        console.notes(found.notes)
        tell_some("finding", found.findings)
        console.made(f"next: {_next(found, args.roots)}")
    return 1 if found.findings else 0


def _next(found: Survey, roots: Sequence[object]) -> str:
    """Say what to do after a look."""
    folder = shlex.join(map(str, roots))
    splits = {group.split for group in found.groups}
    if "train" not in splits:
        return f"put recordings of the machine as it should sound into a folder normal/ in {folder}"
    if "test" not in splits:
        return f"put recordings to be judged into a folder new/ beside the normal ones in {folder}"
    first = "see to what was found, then " if found.findings else ""
    return f"{first}asd run default --data {folder} --out results"


def _plain(found: Survey) -> dict[str, object]:
    return {
        "groups": [asdict(group) for group in found.groups],
        "attributes": found.attributes,
        "known": [str(one) for one in found.known],
        "findings": list(found.findings),
        "notes": list(found.notes),
    }


def _text(found: Survey) -> str:
    parts = [_table([_HEADER, *map(_row, found.groups)])]
    if found.attributes:
        rows = [
            (section, name, f"{len(values)} values: {_values(values)}")
            for section, names in found.attributes.items()
            for name, values in names.items()
        ]
        parts.append(_table([("section", "attribute", ""), *rows]))
    clips = sum(group.clips for group in found.groups)
    machines = len({group.machine_type for group in found.groups})
    known = f"; compared with {', '.join(map(str, found.known))}" if found.known else ""
    parts.append(
        f"{counted(clips, 'clip')} of {counted(machines, 'machine')}, "
        f"{counted(len(found.findings), 'finding')}{known}\n"
    )
    return "\n".join(parts)


def _row(group: Group) -> tuple[str, ...]:
    low, high = (f"{seconds:.4g}" for seconds in group.seconds)
    return (
        group.machine_type,
        f"{group.section:02d}",
        *(text or "-" for text in (group.split, group.domain, group.condition)),
        str(group.clips),
        "/".join(map(str, group.sample_rates)),
        "/".join(map(str, group.channels)),
        low if low == high else f"{low} to {high}",
    )


def _values(counts: Mapping[str, int], shown: int = 6) -> str:
    usual = sorted(counts, key=lambda value: (-counts[value], value))
    listed = [f"{value or '(empty)'} x {counts[value]}" for value in usual[:shown]]
    return ", ".join(listed) + (", ..." if len(usual) > shown else "")


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"

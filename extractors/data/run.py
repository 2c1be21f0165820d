"""Commands of the data sets: fetch one, say what a folder of recordings holds."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import ArgumentTypeError, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from cache.base.arguments import Parser, add_arguments
from cache.base.console import Console, Speech, console_of, parser_of
from cache.base.errors import AsdError, guarded, tell_some
from cache.base.text import counted
from cache.files.places import here, place
from cache.heard import Signal
from extractors.audio.hearing import Hearing
from extractors.clips.dataset import KNOWN, datasets
from extractors.clips.listing import SUPPLEMENTS, list_clips
from extractors.data.bearings import PREFIX, ROOT_VARIABLE, BearingSet, notice
from extractors.data.fetch import ARCHIVES, FetchRequest, bring_all, look_up
from extractors.data.survey import Group, Survey, survey
from extractors.data.zenodo import DATASETS, PARTS
from extractors.fetching.offline import Offline, apply_offline

_HEADER = ("machine", "section", "split", "domain", "condition", "clips", "Hz", "channels", "s")
_EPILOG = """exit code: 0 nothing to put right, 1 findings, 2 nothing could be checked
example: asd check dev_data eval_data"""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command on data sets.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where there is something to look at; 2 for a mistake in the call.
    """
    about = "Data sets: fetch public ones, see whether a folder is whole."
    parser = parser_of("extractors.data.run", about)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(subparsers)
    _add_fetch(subparsers)
    args = parser.parse_args(argv)
    code: int = args.call(args, console_of(args))
    return code


def _add_check(subparsers: _SubParsersAction[Parser]) -> None:
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


def _add_fetch(subparsers: _SubParsersAction[Parser]) -> None:
    parser = subparsers.add_parser(
        "fetch",
        help="bring a public data set here",
        description="Fetch a data set from Zenodo, check it and unpack it: one of the challenge to "
        "DIR/dev_data and\nDIR/eval_data, any other to DIR/NAME. What is there is not fetched again; a run "
        "that was stopped\ngoes on. Sets whose terms forbid that get a notice.",
        epilog="\n".join(f"{each.name}: {each.terms}" for each in datasets().values()),
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", type=_dataset, metavar="NAME",
        help=f"{', '.join((*DATASETS, *datasets()))}, or {PREFIX}NAME of bearing-datasets")  # fmt: skip
    add("--to", type=here, required=True, metavar="DIR", help="where the data roots are made")
    add("--part", nargs="+", choices=PARTS, default=None,
        help="of the challenge: development, further training, evaluation data (default: all)")  # fmt: skip
    add(
        "--machine",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only these; of bearing-datasets, channels (default: all)",
    )
    add("--keep-archives", action="store_true",
        help=f"keep the archives in DIR/{ARCHIVES} (default: delete each once it is unpacked)")  # fmt: skip
    add_arguments(parser, Offline)
    parser.set_defaults(offline=False)
    add_arguments(parser, Speech)
    parser.set_defaults(call=_fetch)


def _dataset(text: str) -> str:
    """Take the name of a set."""
    known = (*DATASETS, *datasets())
    if text in known or (text.startswith(PREFIX) and text.removeprefix(PREFIX).isidentifier()):
        return text
    raise ArgumentTypeError(f"no data set {text!r}; there are {', '.join(known)}, {PREFIX}NAME")


def _fetch_bearings(args: Namespace, console: Console) -> int:
    if args.part:
        raise AsdError(f"--part {args.part[0]}: {args.dataset} has no parts; --machine chooses channels")
    root = os.environ.get(ROOT_VARIABLE) or args.to / ARCHIVES / "bearing-datasets"
    found = BearingSet(args.dataset.removeprefix(PREFIX), Path(root))
    sys.stderr.write(notice(found))
    found.build()
    manifest, clips = found.lay_down(args.to / found.name, args.machine)
    console.made(f"{found.name}: {counted(clips, 'signal')} -> {manifest}", made=manifest, clips=clips)
    return 0


def _fetch(args: Namespace, console: Console) -> int:
    apply_offline(args)
    if args.dataset.startswith(PREFIX):
        return _fetch_bearings(args, console)
    delivery = look_up(FetchRequest(args.dataset, args.to, args.part, args.machine, args.keep_archives))
    sys.stderr.write(delivery.notice)
    faults = bring_all(delivery.missing)
    console.some("fault", faults)
    fetched, there = len(delivery.missing) - len(faults), len(delivery.archives) - len(delivery.missing)
    console.made(
        f"{args.dataset}, archives: {fetched} fetched and unpacked, {there} were there, "
        f"{len(faults)} failed -> {', '.join(delivery.roots)}",
        made=delivery.roots, fetched=fetched, there=there, failed=len(faults),
    )  # fmt: skip
    return 1 if faults else 0


def _check(args: Namespace, console: Console) -> int:
    told = Hearing(signal=Signal(args.rate, args.column))
    found = survey(told.cut(list_clips(args.roots, SUPPLEMENTS)), args.year)
    console.made(
        _text(found).removesuffix("\n"),
        groups=[asdict(group) for group in found.groups],
        attributes=found.attributes,
        known=[str(one) for one in found.known],
        findings=list(found.findings),
        notes=list(found.notes),
    )
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


if __name__ == "__main__":
    sys.exit(main())

"""Public data sets by name: fetched, checked, unpacked into data roots."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, _SubParsersAction
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

from cache.base.arguments import add_arguments
from cache.base.console import Console, Speech
from cache.base.errors import AsdError
from cache.files.places import here
from extractors.clips.dataset import DataSet, datasets
from extractors.data.archive import Archive, bring
from extractors.data.unpack import ROOTS
from extractors.data.zenodo import DATASETS, PARTS, Record, is_elsewhere, page_of, read_record
from extractors.fetching.disk import megabytes, require_room
from extractors.fetching.download import Remote
from extractors.fetching.offline import Offline, apply_offline, is_offline

_ARCHIVES = "archives"
_SUFFIXES = (".zip", ".7z")
_JOBS = 3  # archives at once; more would not make Zenodo faster
_GROWTH = 2  # of bytes downloaded to bytes needed at most: the archive and what is in it
_LICENCE = """\
The audio is for non-commercial use, as far as the public statements about it agree. They differ:
the records below, the task's pages and the papers do not all name the same terms. Read them before
any other use.
"""


def add_parser(subparsers: _SubParsersAction[ArgumentParser]) -> None:
    """Add the command ``fetch``."""
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
    names = (*DATASETS, *datasets())
    add("dataset", choices=names, metavar="NAME", help=", ".join(names))
    add("--to", type=here, required=True, metavar="DIR", help="where the data roots are made")
    add("--part", nargs="+", choices=PARTS, default=None,
        help="of the challenge: development, further training, evaluation data (default: all)")  # fmt: skip
    add("--machine", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    add("--keep-archives", action="store_true",
        help=f"keep the archives in DIR/{_ARCHIVES} (default: delete each once it is unpacked)")  # fmt: skip
    add_arguments(parser, Offline)
    parser.set_defaults(offline=False)
    add_arguments(parser, Speech)
    parser.set_defaults(call=_fetch)


def _fetch(args: Namespace, console: Console) -> int:
    apply_offline(args)
    known = datasets().get(args.dataset)
    if known is not None and not known.fetched:
        raise AsdError(
            f"{known.title} is not fetched by a program. Terms: {known.terms}. It lies at "
            f"{page_of(known.record)}; once it is unpacked, give its folder as --data: {known.split}. "
            f"Cite {known.citation}"
        )
    numbers = _numbers(args, known)
    if is_offline():
        apart = ", each to a folder of its own name" if known and known.apart else ""
        pages = "; ".join(f"{page_of(n)} to {_root(args.to, known, p)}{apart}" for p, n in numbers.items())
        raise AsdError(f"offline nothing is fetched: bring and unpack the archives of {pages}")
    if known is None:
        _check_alone(args.to, args.dataset)
    records = {part: read_record(number) for part, number in numbers.items()}
    wanted = _chosen(_listed(records, args, known), args.machine)
    missing = [each for each in wanted if not each.is_done()]
    _tell(args.dataset, known, records, missing)
    size = sum(each.remote.size or 0 for each in missing)
    require_room(args.to, _GROWTH * size, f"{args.dataset}, archives and what is in them,")
    faults = _bring_all(missing)
    console.some("fault", faults)
    roots = sorted({str(each.root.parent if known and known.apart else each.root) for each in wanted})
    fetched, there = len(missing) - len(faults), len(wanted) - len(missing)
    console.made(
        f"{args.dataset}, archives: {fetched} fetched and unpacked, {there} were there, "
        f"{len(faults)} failed -> {', '.join(roots)}",
        made=roots, fetched=fetched, there=there, failed=len(faults),
    )  # fmt: skip
    return 1 if faults else 0


def _numbers(args: Namespace, known: DataSet | None) -> dict[str, int]:
    """Give records by part; a set beside the challenge's has one, of no part."""
    if known is None:
        wanted = args.part or PARTS
        return {part: n for part, n in zip(PARTS, DATASETS[args.dataset], strict=True) if part in wanted}
    if args.part:
        raise AsdError(f"--part {args.part[0]}: {args.dataset} has no parts; --machine chooses archives")
    return {"": known.record}


def _root(folder: Path, known: DataSet | None, part: str) -> Path:
    if known is not None:
        return folder / known.name
    return folder / (ROOTS[0] if part == "dev" else ROOTS[1])


def _check_alone(folder: Path, dataset: str) -> None:
    """Refuse to mix two years in one data root."""
    others = [path.name for path in (folder / _ARCHIVES).glob("*") if path.name in DATASETS]
    others = [name for name in others if name != dataset]
    if others:
        raise AsdError(f"{folder} holds {others[0]}; give {dataset} a folder of its own")


def _listed(records: Mapping[str, Record], args: Namespace, known: DataSet | None) -> list[Archive]:
    store = args.to / _ARCHIVES / args.dataset
    found = []
    for part, record in records.items():
        for remote in record.files:
            if not remote.name.lower().endswith(_SUFFIXES):
                sys.stderr.write(f"note: {record.page}: {remote.name} is no archive, not fetched\n")
                continue
            root = _root(args.to, known, part)
            if known is not None:
                remote = pinned(remote, known.md5)  # noqa: PLW2901
                root = root / remote.name.rpartition(".")[0] if known.apart else root
            found.append(Archive(remote, root, store, args.keep_archives))
    if not found:
        pages = ", ".join(record.page for record in records.values())
        raise AsdError(f"{pages}: no zip file is listed there; look whether it is still the record")
    return found


def pinned(remote: Remote, md5: Mapping[str, str]) -> Remote:
    """Hold what a record says of an archive against its published MD5.

    Parameters
    ----------
    remote
        As the record lists it.
    md5
        Archive to published MD5.

    Returns
    -------
    Remote
        With that MD5; on a server that the user named (``ASD_ZENODO``) with its own, and a note.

    Raises
    ------
    AsdError
        If Zenodo's own record lists another one.
    """
    expected = f"md5:{md5[remote.name]}" if remote.name in md5 else None
    if expected is None or remote.known_hash == expected:
        return remote
    if remote.known_hash is None:
        return replace(remote, known_hash=expected)
    if not is_elsewhere():
        raise AsdError(
            f"{remote.name}: the record lists {remote.known_hash}, {expected} was published; it was "
            "changed since: look at the record before you fetch it by hand"
        )
    sys.stderr.write(
        f"note: {remote.name}: not the published archive ({expected}) but the one of this server "
        f"({remote.known_hash})\n"
    )
    return remote


def _chosen(archives: Sequence[Archive], machines: Sequence[str]) -> list[Archive]:
    """Take archives by machine; ``fan`` is ``-6_dB_fan`` and ``6_dB_fan`` too."""
    fits = {name: [a for a in archives if f"_{a.machine}".endswith(f"_{name}")] for name in machines}
    unknown = [name for name, found in fits.items() if not found]
    if unknown:
        known = sorted({each.machine for each in archives})
        raise AsdError(f"--machine {unknown[0]}: there are {', '.join(known)}")
    return [each for each in archives if not machines or any(each in found for found in fits.values())]


def _tell(
    dataset: str, known: DataSet | None, records: Mapping[str, Record], missing: Sequence[Archive]
) -> None:
    """Say what is coming and under which terms, before the first byte of it does."""
    size = sum(each.remote.size or 0 for each in missing)
    sys.stderr.write(f"{dataset}: archives to be fetched: {len(missing)}, {megabytes(size)}\n")
    sys.stderr.write(_LICENCE if known is None else f"Licence: {known.terms}.\n")
    for part, record in records.items():
        before = f"{part}: " if part else ""
        sys.stderr.write(f"  {before}{record.page} states {record.licence or 'no licence'}\n")
    if known is not None:
        sys.stderr.write(f"Cite: {known.citation}.\nSplit: {known.split}.\n")


def _bring_all(missing: Sequence[Archive]) -> list[str]:
    """Bring archives side by side; one that fails does not stop the others."""
    halt = Event()
    with ThreadPoolExecutor(_JOBS) as pool:
        coming = [pool.submit(bring, each, halt) for each in missing]
        try:
            found = [each.exception() for each in coming]
        except BaseException:
            halt.set()
            pool.shutdown(cancel_futures=True)
            raise
    for error in found:
        if error is not None and not isinstance(error, AsdError):
            raise error
    return [str(error) for error in found if error is not None]

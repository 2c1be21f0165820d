"""Data sets of the challenge by name: fetched, checked, unpacked into data roots."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from cache.base.arguments import add_arguments
from cache.base.console import Console, Speech
from cache.base.errors import AsdError
from cache.files.places import here
from extractors.data.archive import Archive, bring
from extractors.data.unpack import ROOTS
from extractors.data.zenodo import DATASETS, PARTS, Record, page_of, read_record
from extractors.fetching.disk import megabytes, require_room
from extractors.fetching.offline import Offline, apply_offline, is_offline

_ARCHIVES = "archives"
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
        help="bring a data set of the challenge here",
        description="Fetch a data set from Zenodo, check it and unpack it to DIR/dev_data and "
        "DIR/eval_data. What is there is not fetched again; a run that was stopped goes on.",
    )
    add = parser.add_argument
    add("dataset", choices=tuple(DATASETS), metavar="NAME", help=", ".join(DATASETS))
    add("--to", type=here, required=True, metavar="DIR", help="where the data roots are made")
    add("--part", nargs="+", choices=PARTS, default=list(PARTS),
        help="development, additional training, evaluation data (default: all)")  # fmt: skip
    add("--machine", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    add("--keep-archives", action="store_true",
        help=f"keep the zip files in DIR/{_ARCHIVES} (default: delete each once it is "
        "unpacked)")  # fmt: skip
    add_arguments(parser, Offline)
    parser.set_defaults(offline=False)
    add_arguments(parser, Speech)
    parser.set_defaults(call=_fetch)


def _fetch(args: Namespace, console: Console) -> int:
    apply_offline(args)
    numbers = {part: DATASETS[args.dataset][PARTS.index(part)] for part in PARTS}
    numbers = {part: number for part, number in numbers.items() if part in args.part}
    if is_offline():
        pages = "; ".join(f"{page_of(n)} to {_root(args.to, p)}" for p, n in numbers.items())
        raise AsdError(f"offline nothing is fetched: bring and unpack the archives of {pages}")
    _check_alone(args.to, args.dataset)
    records = {part: read_record(number) for part, number in numbers.items()}
    wanted = _chosen(_listed(records, args), args.machine)
    missing = [each for each in wanted if not each.is_done()]
    _tell(args.dataset, records, missing)
    size = sum(each.remote.size or 0 for each in missing)
    require_room(args.to, _GROWTH * size, f"{args.dataset}, archives and what is in them,")
    faults = _bring_all(missing)
    console.some("fault", faults)
    roots = sorted({str(each.root) for each in wanted})
    fetched, there = len(missing) - len(faults), len(wanted) - len(missing)
    console.made(
        f"{args.dataset}, archives: {fetched} fetched and unpacked, {there} were there, "
        f"{len(faults)} failed -> {', '.join(roots)}",
        made=roots, fetched=fetched, there=there, failed=len(faults),
    )  # fmt: skip
    return 1 if faults else 0


def _root(folder: Path, part: str) -> Path:
    return folder / (ROOTS[0] if part == "dev" else ROOTS[1])


def _check_alone(folder: Path, dataset: str) -> None:
    """Refuse to mix two years in one data root."""
    others = [path.name for path in (folder / _ARCHIVES).glob("*") if path.name in DATASETS]
    others = [name for name in others if name != dataset]
    if others:
        raise AsdError(f"{folder} holds {others[0]}; give {dataset} a folder of its own")


def _listed(records: Mapping[str, Record], args: Namespace) -> list[Archive]:
    store = args.to / _ARCHIVES / args.dataset
    found = []
    for part, record in records.items():
        for remote in record.files:
            if remote.name.lower().endswith(".zip"):
                found.append(Archive(remote, _root(args.to, part), store, args.keep_archives))
            else:
                sys.stderr.write(f"note: {record.page}: {remote.name} is no archive, not fetched\n")
    if not found:
        pages = ", ".join(record.page for record in records.values())
        raise AsdError(f"{pages}: no zip file is listed there; look whether it is still the record")
    return found


def _chosen(archives: Sequence[Archive], machines: Sequence[str]) -> list[Archive]:
    known = sorted({each.machine for each in archives})
    unknown = [name for name in machines if name not in known]
    if unknown:
        raise AsdError(f"--machine {unknown[0]}: there are {', '.join(known)}")
    return [each for each in archives if not machines or each.machine in machines]


def _tell(dataset: str, records: Mapping[str, Record], missing: Sequence[Archive]) -> None:
    """Say what is coming and under which terms, before the first byte of it does."""
    size = sum(each.remote.size or 0 for each in missing)
    sys.stderr.write(f"{dataset}: archives to be fetched: {len(missing)}, {megabytes(size)}\n")
    sys.stderr.write(_LICENCE)
    for part, record in records.items():
        sys.stderr.write(f"  {part}: {record.page} states {record.licence or 'no licence'}\n")


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

"""Other data, other runs, other places: nothing of them is taken for what was asked for.

``python -m tests.helpers.mixups [--rounds N] [--seed N]`` prints what came of it as JSON.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import permutations
from pathlib import Path

import numpy as np

from tests.helpers import chain
from tests.helpers.chain import EVALUATE, Command, Ended

_REFUSED = "error: "
_SITES = ("here/site", "there/site")  # two roots that hold machines of the same names


@dataclass
class Found:
    """What came of mix-ups.

    Attributes
    ----------
    tried
        How many.
    right
        Those that ended with the very files of a run of its own, or with the same values read.
    refused
        Those that ended with an error that says what is wrong.
    faults
        Whatever else happened.
    """

    tried: int = 0
    right: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def evaluation(data: str, cache: str, out: str, *options: str) -> Command:
    """One command from recordings to a report."""
    argv = ("logmel", "--data", data, "--cache-dir", cache, "--out", out, *options)
    return Command("evaluation", "eval.run", argv, out)


def write_sites(folder: Path) -> None:
    """Two roots of the same machines and clip names with other sounds in them."""
    for number, site in enumerate(_SITES):
        for machine in chain.MACHINES["dev_data"]:
            chain.write_machine(folder, folder / site / machine, 12, 10 * number)


def sibling_roots(folder: Path, rounds: int, seed: int) -> Found:
    """Runs over roots that change and share one cache: each is as with a cache of its own."""
    rng, found = np.random.default_rng(seed), Found()
    for number in range(rounds):
        site = _SITES[number % 2]
        _change(folder / site, rng)
        done = [
            chain.run(evaluation(site, cache, out, "--no-report"), folder)
            for cache, out in (("shared", "out"), (f"own-{number}", f"out-{number}"))
        ]
        found.tried += 1
        differing = _differences(folder / f"out-{number}", folder / "out")
        if [one.code for one in done] == [0, 0] and not differing:
            found.right += 1
        else:
            said = [one.said[-500:] for one in done if one.code]
            found.faults.append(f"round {number}: {differing} {said}")
        shutil.rmtree(folder / f"own-{number}")
    return found


def _change(root: Path, rng: np.random.Generator) -> None:
    """What happens to folders of recordings: clips go, come, are recorded again or swapped."""
    machines = sorted(path for path in root.iterdir() if path.is_dir())
    clips = sorted(machines[int(rng.integers(len(machines)))].glob("*/*.wav"))
    one, other = (clips[int(i)] for i in rng.choice(len(clips), 2, replace=False))
    match int(rng.integers(4)):
        case 0:
            one.unlink()
        case 1:
            chain.write_clip(one, rng, 1, "normal")
        case 2:
            bytes_of_one = one.read_bytes()
            one.write_bytes(other.read_bytes())
            other.write_bytes(bytes_of_one)
        case _:
            root.joinpath("gone").mkdir(exist_ok=True)
            chain.write_clip(root / "gone" / "test" / one.name.replace("train", "test"), rng, 0, "")


def runs_at_once(folder: Path) -> Found:
    """Runs over two roots into one results folder at once: it is that of one of them, whole."""
    found = Found()
    for site in _SITES:
        chain.run(evaluation(site, f"alone-{site[:4]}", f"alone/{site[:4]}"), folder)
    begin, processes = time.monotonic(), []
    for number, site in enumerate((*_SITES, *_SITES)):
        log = folder.parent / f"at-once-{number}.log"
        command = evaluation(site, f"alone-{site[:4]}", "both")
        work: Callable[[], object] = lambda command=command: chain.call(command)  # noqa: E731
        processes.append((chain.fork(work, folder, log), log))
    done = [chain.ended(process, log, begin) for process, log in processes]
    found.tried = len(done)
    differing = [_differences(folder / f"alone/{site[:4]}", folder / "both") for site in _SITES]
    for one in done:
        _judge(one, min(differing, key=len), found)
    return found


def _judge(done: Ended, differing: list[str], found: Found) -> None:
    refused = done.code == 2 and _REFUSED in done.said and "Traceback" not in done.said
    if refused:
        found.refused += 1
    elif done.code == 0 and not differing:
        found.right += 1
    else:
        found.faults.append(f"exit code {done.code}: {differing} {done.said[-500:]}")


def _differences(one: Path, other: Path) -> list[str]:
    """Names of score and decision files and of results that two folders do not share.

    Pages and descriptions name the folders of their run, so that they differ in any case.
    """
    told = [chain.contents(folder) if folder.is_dir() else {} for folder in (one, other)]
    scores = [
        {name: sha for name, sha in each.items() if name.endswith((".csv", ".parquet"))} for each in told
    ]
    return chain.differences(*scores)


def swapped_files(folder: Path) -> Found:
    """Whole files of a kind in each other's places: refused, or as if they were not swapped."""
    found = Found()
    chain.run(evaluation(_SITES[0], "swap-cache", "swap-out"), folder)
    chain.run(evaluation(_SITES[1], "swap-cache-2", "swap-out-2"), folder)
    for one, other in _pairs(folder):
        data = one.read_bytes(), other.read_bytes()
        if data[0] == data[1]:
            continue
        expected = chain.in_child(lambda: _readings(folder))
        one.write_bytes(data[1])
        seen = chain.in_child(lambda: _readings(folder))
        one.write_bytes(data[0])
        found.tried += 1
        if any(text.startswith(_REFUSED) for text in seen):
            found.refused += 1
        elif seen == expected:
            found.right += 1
        else:
            found.faults.append(f"{one.relative_to(folder)} was {other.relative_to(folder)}")
    return found


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A file and another of its kind, of another machine, split or run."""
    tables = sorted((folder / "swap-cache").rglob("*.parquet"))
    yield from permutations(tables[:3], 2)
    bank, results = folder / "swap-out" / "bank", folder / "swap-out"
    for kind in ("*.npz", "*.faiss", "record.json"):
        yield from permutations(sorted(bank.rglob(kind))[:3], 2)
    for path in sorted(results.iterdir()):
        other = folder / "swap-out-2" / path.name
        if path.is_file() and path.name not in {".lock", "SHA256SUMS"} and other.is_file():
            yield path, other


def _readings(folder: Path) -> list[str]:
    """What is read of a cache, a bank and results: digests, or the errors."""
    from cache.base.errors import AsdError  # noqa: PLC0415
    from cache.store import Store  # noqa: PLC0415
    from cache.upkeep import verify  # noqa: PLC0415
    from eval.results.folder import sum_faults  # noqa: PLC0415
    from index.bank import Bank  # noqa: PLC0415

    store, bank = Store(folder / "swap-cache"), Bank(folder / "swap-out" / "bank")
    read = [str(fault) for _, fault in verify(store) if fault]
    found = [_REFUSED + fault for fault in read]
    found += [
        store.digest(recipe, one.section, one.split) or ""
        for recipe in ([] if read else store.recipes())
        for one in store.tables(recipe)
    ]
    try:
        for section in bank.sections():
            fitted = bank.read(section, bank.recipe())
            found.append(f"{fitted.threshold} {fitted.train_scores().tolist()}")
    except AsdError as error:
        found.append(f"{_REFUSED}{error}")
    files = [path for path in (folder / "swap-out").iterdir() if path.is_file()]
    listed = [path for path in files if path.name not in {".lock", "SHA256SUMS"}]
    return found + [_REFUSED + fault for fault in sum_faults(listed)]


def main() -> int:
    """Try all of it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="changes of data (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default: 0)")
    args = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve() / "world"
        folder.mkdir()
        chain.load((EVALUATE,), networks=False)
        write_sites(folder)
        found = {
            "sibling roots, changing, in one cache": sibling_roots(folder, args.rounds, args.seed),
            "runs at once into one results folder": runs_at_once(folder),
            "swapped files": swapped_files(folder),
        }
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    told = {name: asdict(one) for name, one in found.items()}
    said = {"found": told, "seconds": time.monotonic() - begin, "peak_mib": most}
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

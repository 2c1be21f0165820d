"""Build and score a fleet: thousands of sections from a synthetic cache, by the command lines.

usage: python -m benchmarks.fleet [--sections N] [--to DIR] [--scorer NAME] [--keep]

Every section has 990 source and 10 target training clips and 200 test clips of 768 values. What is
made lies below a folder of its own, about 4 MB a section, which is removed at the end. While
`index.run` and `eval.run` work, it is watched how many sections are done, what they have cost and
how much memory the process holds; afterwards all files are counted, and some sections are fitted
and scored again, alone, which must give the same scores to the last bit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.timing import machine
from cache.base.options import parse
from cache.recipe import Recipe
from cache.store import Store
from cache.table import DOMAINS, ClipKey, EmbeddingTable, Section
from eval.results.submission import read_submission
from index.scorer import find

SOURCE, TARGET, TEST, WIDTH = 990, 10, 200, 768
RECIPE = Recipe("synthetic")
STEP = 0.25  # values are multiples of it, so that Parquet compresses them as it does real ones
ALONE = 5  # sections that are fitted and scored again
TENTHS = 10
SHOWN = 30  # lines of what a command said


def section_of(number: int) -> Section:
    """Give a section by its place in the order of work; a machine type has a hundred."""
    return Section(f"machine{number // 100:04d}", number % 100)


def tables_of(number: int) -> tuple[EmbeddingTable, EmbeddingTable]:
    """Training and test clips of a section: one block of random rows about its own centre."""
    rng = np.random.default_rng([1, number])
    centre = rng.standard_normal(WIDTH, dtype=np.float32)
    grid = np.roll(random_rows(), int(rng.integers(WIDTH)), axis=1) + centre
    grid[SOURCE : SOURCE + TARGET] += 0.5  # another domain
    grid[SOURCE + TARGET + TEST // 2 :, :64] += 0.5  # anomalies
    grid /= STEP
    np.round(grid, out=grid)
    grid *= STEP
    section = section_of(number)
    train = keys_of(section, "train", {("source", "normal"): SOURCE, ("target", "normal"): TARGET})
    quarter = TEST // 4
    kinds = [(domain, state) for state in ("normal", "anomaly") for domain in ("source", "target")]
    test = keys_of(section, "test", dict.fromkeys(kinds, quarter))
    columns = {"synthetic": (0, WIDTH)}
    return (
        EmbeddingTable(section, "train", train, grid[: len(train)], columns),
        EmbeddingTable(section, "test", test, grid[len(train) :], columns),
    )


@cache
def random_rows() -> np.ndarray:
    """Rows that all sections share, moved and turned."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((SOURCE + TARGET + TEST, WIDTH), dtype=np.float32)


def keys_of(section: Section, split: str, kinds: dict[tuple[str, str], int]) -> tuple[ClipKey, ...]:
    """Keys named as the challenge names clips."""
    stem = f"{section.machine_type}/{split}/section_{section.number:02d}"
    return tuple(
        ClipKey(
            f"{stem}_{domain}_{split}_{condition}_{i:04d}_speed_{i % 3}.wav",
            f"{2 * i + (domain == DOMAINS[1]):064x}",  # target clips are no copies of source clips
            domain,
            condition,
            {"speed": str(i % 3)},
        )
        for (domain, condition), count in kinds.items()
        for i in range(count)
    )


def make_section(job: tuple[Path, int]) -> None:
    """Write a section's two tables."""
    for table in tables_of(job[1]):
        Store(job[0]).write(table, RECIPE)


class Sample(NamedTuple):
    """What a process has done and holds at one moment."""

    done: int  # sections
    wall: float  # s since it was started
    cpu: float  # s
    resident: float  # MiB


@dataclass(frozen=True)
class Watched:
    """A command line that was run to its end."""

    samples: list[Sample]
    peak: float  # MiB
    said: str


def watch(command: Sequence[str], marker: Callable[[Section], Path], total: int) -> Watched:
    """Run a command line and look each half second at how far it is.

    Parameters
    ----------
    command
        Arguments behind ``python -m``.
    marker
        Section to the file that says it is done; sections are worked on in order.
    total
        How many.
    """
    root = Path(__file__).parents[1]
    with tempfile.TemporaryFile("w+") as output:
        begin = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", *command], cwd=root, stdout=output)
        samples, done = [Sample(0, 0.0, 0.0, 0.0)], 0
        peak = 0.0
        while process.poll() is None:
            while done < total and marker(section_of(done)).exists():
                done += 1
            held = usage(process.pid)
            if held is not None:
                samples.append(Sample(done, time.monotonic() - begin, held[0], held[1]))
                peak = max(peak, held[2])
                tell(f"{command[0]}: {done} of {total}, {held[0]:.1f} s of CPU, {held[1]:.0f} MiB")
            time.sleep(0.5)
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    last = samples[-1]
    samples.append(last._replace(done=total, wall=time.monotonic() - begin))
    return Watched(samples, peak, said)


def usage(process: int) -> tuple[float, float, float] | None:
    """CPU seconds, MiB held and MiB held at most; nothing of a process that has just ended."""
    folder = Path("/proc") / str(process)
    try:
        status = (folder / "status").read_text("ascii")
        times = (folder / "stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return None
    kinds = dict(line.split(":", 1) for line in status.splitlines())
    if "VmRSS" not in kinds:
        return None
    held, most = (int(kinds[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"), held, most


def tenths(samples: Sequence[Sample], total: int) -> Iterator[tuple[str, float, float, float]]:
    """Sections, seconds and CPU seconds a section, and most MiB held, a tenth of all at a time."""
    edges = [total * i // TENTHS for i in range(TENTHS + 1)]
    for first, last in pairwise(edges):
        part = [sample for sample in samples if first <= sample.done <= last]
        start, end = (moment(samples, done) for done in (first, last))
        count = last - first
        resident = max((sample.resident for sample in part), default=0.0)
        name = f"{first + 1} to {last}"
        yield name, (end.wall - start.wall) / count, (end.cpu - start.cpu) / count, resident


def moment(samples: Sequence[Sample], done: int) -> Sample:
    """When that many sections were done: the first look that saw them."""
    return next(sample for sample in samples if sample.done >= done)


def disk(folder: Path) -> float:
    """Sum what the files of a folder take on disk, GB."""
    blocks = sum((Path(root) / file).stat().st_blocks for root, _, files in os.walk(folder) for file in files)
    return blocks * 512 / 1e9


def check(tables: Path, out: Path, bank: Path, options: argparse.Namespace) -> None:
    """Count what is there, and score some sections again by themselves."""
    total = options.sections
    counts = {
        "records": sum(1 for _ in bank.glob("*/section_*/record.json")),
        "score files": sum(1 for _ in out.glob("anomaly_score_*.csv")),
        "decision files": sum(1 for _ in out.glob("decision_result_*.csv")),
    }
    for what, count in counts.items():
        if count != total:
            raise SystemExit(f"{count} {what} for {total} sections")
    store = Store(tables)
    some = np.random.default_rng(0).choice(total, min(ALONE, total), replace=False)
    for section in map(section_of, some.tolist()):
        scorer = parse(options.scorer, find)
        scorer.fit(store.read(RECIPE, section, "train"))
        table = store.read(RECIPE, section, "test")
        alone = dict(zip(table.clip_ids, scorer.score(table.embeddings).tolist(), strict=True))
        found = read_submission(out, section)
        again = [alone[f"{section.machine_type}/test/{file}"] for file in found.files]
        if len(found.files) != TEST or again != found.scores.tolist():
            raise SystemExit(f"{section} alone scores otherwise")


def tell(text: str) -> None:
    """Say how far it is, on one line of a terminal or in a log."""
    end = "\r" if sys.stderr.isatty() else "\n"
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}{end}")


def show(title: str, watched: Watched, total: int) -> None:
    """Print a stage's table."""
    print(f"\n{title}\n")
    print("| sections | s a section | CPU s a section | MiB held |")
    print("| --- | ---: | ---: | ---: |")
    for name, wall, cpu, resident in tenths(watched.samples, total):
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {resident:.0f} |")
    last, worked = watched.samples[-1], moment(watched.samples, total)
    rest = last.wall - worked.wall
    print(f"\nin all {last.wall:.0f} s ({last.cpu:.0f} s of CPU), {rest:.0f} s of it after the last")
    print(f"section; at most {watched.peak:.0f} MiB held; it said:\n")
    lines = watched.said.splitlines()
    shown = lines if len(lines) <= SHOWN else [*lines[:3], "...", *lines[3 - SHOWN :]]
    print("\n".join(f"    {line}" for line in shown), flush=True)


def make(tables: Path, total: int, processes: int) -> None:
    """Write all tables."""
    begin = time.monotonic()
    with Pool(processes) as pool:
        jobs = ((tables, number) for number in range(total))
        for done, _ in enumerate(pool.imap_unordered(make_section, jobs, chunksize=10), 1):
            if done % 100 == 0:
                tell(f"made: {done} of {total}")
    print(f"cache made in {time.monotonic() - begin:.0f} s", flush=True)


def run(folder: Path, options: argparse.Namespace) -> None:
    """Make, build, score, check, build again."""
    total, tables = options.sections, options.cache or folder / "cache"
    if options.cache is None:
        make(tables, total, options.processes)
    bank, out = folder / "bank", folder / "results"
    chain = ["--cache-dir", str(tables), "--bank", str(bank)]
    build = ["index.run", *chain, "--scorer", options.scorer, "--group", options.group]
    built = watch(build, lambda section: bank / str(section) / "record.json", total)
    show(f"index.run --scorer {options.scorer}", built, total)
    scored = watch(
        ["eval.run", *chain, "--out", str(out), "--no-report"],
        lambda s: out / f"neighbours_{s.machine_type}_section_{s.number:02d}_test.parquet",
        total,
    )
    show("eval.run --no-report", scored, total)
    check(tables, out, bank, options)
    print(f"\ncounted; {min(ALONE, total)} sections alone score the same")
    sizes = {"cache": tables, "bank": bank, "results": out}
    print(", ".join(f"{name} {disk(at):.2f} GB" for name, at in sizes.items()), flush=True)
    again = watch(build, lambda _: folder / "none", total)
    print(f"index.run again, all being there: {again.samples[-1].wall:.0f} s", flush=True)


def main() -> None:
    """Run all of it and print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sections", type=int, default=10_000, metavar="N")
    parser.add_argument("--to", type=Path, metavar="DIR", help="(default: a temporary folder)")
    parser.add_argument("--scorer", default="min-distance", metavar="NAME")
    parser.add_argument("--group", default="auto", metavar="GROUPING", help="of the training clips")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="to make the cache")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="one that --keep left")
    parser.add_argument("--keep", action="store_true", help="do not remove what was made")
    options = parser.parse_args()
    if options.to is not None:
        options.to.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="fleet-", dir=options.to))
    print(machine(), flush=True)
    try:
        run(folder, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()

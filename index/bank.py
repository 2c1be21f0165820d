"""The bank: one fitted scorer a section, on disk, with a record of how it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from cache.base.errors import AsdError, listing
from cache.base.options import options_of
from cache.files import places
from cache.files.atomic import write_atomic
from cache.files.locks import locked
from cache.recipe import Recipe, from_json
from cache.table import Section
from extractors.embedding.ranges import bring, carry
from index.fitted import (
    RECORD,
    REMEDY,
    FittedSection,
    data_files,
    read_record,
    record_bytes,
    restored,
    told_of,
    unnamed,
)
from index.scorer import Scorer

# What a record and files cause that were not written by a bank.
_DAMAGED = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
    BadZipFile,
)  # fmt: skip


class Bank:
    """Fitted sections below one folder, ``<machine_type>/section_<nn>/``.

    A section is a JSON record and the data files it names, with their SHA-256 in the name and in
    the record; the record is written last, so a reader sees the old section or the new one.

    Parameters
    ----------
    root
        The bank's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def sections(self) -> list[Section]:
        """Sections that have a record, ascending."""
        return sorted(Section.at(path.parent) for path in places.matching(self.root, f"*/section_*/{RECORD}"))

    def holds(self, section: Section) -> bool:
        """Whether a section has a record; nothing is listed for it."""
        return places.exists(self.root / str(section) / RECORD)

    def write(self, fitted: FittedSection) -> Path:
        """Write a section, replacing what was there; safe beside other writers.

        Returns
        -------
        Path
            Its record.
        """
        record, files = self.root / str(fitted.section) / RECORD, {}
        with locked(self.root):
            for name, data in data_files(fitted):
                sha256 = hashlib.sha256(data).hexdigest()
                stem, suffix = name.rsplit(".", 1)
                files[name] = {"file": f"{stem}-{sha256[:12]}.{suffix}", "sha256": sha256}
                write_atomic(record.with_name(files[name]["file"]), data)
            carry(fitted.recipe, self.root)
            told = told_of(fitted, files)
            write_atomic(record, record_bytes(told))
            for path in unnamed(record, told):
                places.remove(path)
        return record

    def made_of(self, section: Section) -> tuple[str, str]:
        """Give the fingerprint of a section's embeddings and its scorer's name, by its record alone."""
        record = read_record(self._record_path(section))
        return str(record["fingerprint"]), str(record["scorer"])

    def discard(self, section: Section) -> None:
        """Remove a section."""
        with locked(self.root):
            places.remove_tree(self.root / str(section))

    def tidy(self, section: Section) -> None:
        """Remove data files that a section's record does not name: a killed run left them.

        Object storage has no locks, so that they may be another run's there: they stay.
        """
        record = self._record_path(section)
        if places.is_remote(self.root) or not unnamed(record, read_record(record)):
            return
        with locked(self.root):
            for path in unnamed(record, read_record(record)):
                places.remove(path)

    def recipe(self) -> Recipe:
        """Recipe of the embeddings that the bank's sections score; ranges of 8-bit integers are brought here.

        Raises
        ------
        AsdError
            If the bank is empty, or the ranges of 8-bit integers in it are damaged.
        """
        sections = self.sections()
        if not sections:
            raise AsdError(f"no bank in {self.root}: {REMEDY}")
        recipe = from_json(json.dumps(read_record(self._record_path(sections[0]))["recipe"]))
        bring(recipe, self.root)
        return recipe

    def read(self, section: Section, recipe: Recipe) -> FittedSection:
        """Read a section that scores embeddings of a recipe.

        Another run may write it anew meanwhile, and remove the files that its old record named:
        then the new one is read.

        Raises
        ------
        AsdError
            If there is none, a file is missing or damaged, or the fingerprint is another.
        """
        path = self._record_path(section)
        record = read_record(path)
        while True:
            try:
                return self._restored(record, section, recipe)
            except AsdError:
                before, record = record, read_record(path)
                if record == before:
                    raise

    def _restored(self, record: Mapping[str, Any], section: Section, recipe: Recipe) -> FittedSection:
        path = self._record_path(section)
        if (record["machine_type"], record["section"]) != (section.machine_type, section.number):
            held = f"{record['machine_type']} section {record['section']}"
            raise AsdError(f"{path} is of {held}, its place says {section}; {REMEDY}")
        if record["fingerprint"] != recipe.fingerprint:
            raise AsdError(
                f"{path} was built from embeddings {record['fingerprint']}, not "
                f"{recipe.fingerprint} ({recipe}); build a bank from these or choose the others"
            )
        try:
            files = (
                (name, _read_data(path.parent / Path(entry["file"]).name, entry["sha256"]))
                for name, entry in record["files"].items()
            )
            return restored(record, files, section, recipe)
        except _DAMAGED as error:
            raise AsdError(f"{path} is damaged ({error!r}); {REMEDY}") from error

    def fingerprint(self, section: Section) -> str:
        """Give 16 digits of the SHA-256 of a section's record, which names its files by theirs."""
        return hashlib.sha256(places.read_bytes(self._record_path(section))).hexdigest()[:16]

    def _record_path(self, section: Section) -> Path:
        if not self.holds(section):
            held = listing(self.sections())
            raise AsdError(f"no {section} in the bank {self.root}, which holds {held}; {REMEDY}")
        return self.root / str(section) / RECORD


def locate(path: Path) -> Bank:
    """Find the bank that a path means: the folder itself, one in it, or the one it lies in.

    Raises
    ------
    AsdError
        If there is none, or several lie in the folder.
    """
    if Bank(path).sections():
        return Bank(path)
    below = {record.parents[2] for record in places.matching(path, f"*/*/section_*/{RECORD}")}
    if len(below) > 1:
        raise AsdError(f"{path} holds {len(below)} banks, {listing(sorted(below))}: name one")
    for root in (*below, path.absolute().parent):
        if Bank(root).sections():
            return Bank(root)
    raise AsdError(f"no bank in {path}, one level below or above: {REMEDY}")


def bank_root(
    cache_dir: Path,
    recipe: Recipe,
    scorer_name: str,
    scorer: Scorer,
    *,
    with_synthetic: bool = False,
) -> Path:
    """Where a bank lies unless a folder is named.

    Parameters
    ----------
    cache_dir
        The cache folder.
    recipe, scorer_name, scorer
        What the bank is made of; the scorer's options are part of the name.
    with_synthetic
        Whether synthetic training clips are in it.
    """
    made_of = {**options_of(scorer), **({"synthetic": True} if with_synthetic else {})}
    options = json.dumps(made_of, sort_keys=True)
    digest = hashlib.sha256(options.encode()).hexdigest()[:8]
    return cache_dir / "banks" / recipe.fingerprint / f"{scorer_name}-{digest}"


def find_bank(cache_dir: Path, recipe: Recipe, scorer_name: str) -> Bank:
    """Find the one bank of a recipe and a scorer.

    Raises
    ------
    AsdError
        If there is none or, with different options, more than one; the candidates are listed.
    """
    folder = cache_dir / "banks" / recipe.fingerprint
    # The digest of eight hexadecimal digits tells `ldn` from a scorer `ldn-x`.
    records = places.matching(folder, f"{scorer_name}-{'[0-9a-f]' * 8}/*/section_*/{RECORD}")
    banks = [Bank(path) for path in sorted({record.parents[2] for record in records})]
    if not banks:
        raise AsdError(f"no bank of {scorer_name} for {recipe} in {folder}; {REMEDY}")
    if len(banks) > 1:
        listed = []
        for bank in banks:
            record = read_record(bank.root / str(bank.sections()[0]) / RECORD)
            options = {**record["options"], "synthetic clips": record["synthetic"]}
            told = " ".join(f"{name}={value}" for name, value in options.items())
            listed.append(f"  --bank {bank.root}  {told}")
        lines = "\n".join(listed)
        raise AsdError(f"{len(banks)} banks of {scorer_name} for {recipe}; choose one:\n{lines}")
    return banks[0]


def _read_data(path: Path, sha256: str) -> bytes:
    try:
        data = places.read_bytes(path)
    except OSError as error:
        raise AsdError(f"{path}: {error.strerror}; {REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise AsdError(f"{path} is damaged: its SHA-256 is not the record's; {REMEDY}")
    return data

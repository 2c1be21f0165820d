"""Data sets of the package bearing-datasets: each of their signals as a clip, and a manifest of all.

The package brings a set from its authors and lays it down as its README says (version 0.3): in a folder of
the set's name ``metadata.parquet``, a row a signal; ``signals/part-<dtype>.parquet``, whose rows hold a list
of numbers each; ``manifest.json``, with licence and citation. A clip is a file here, so every signal becomes
a Parquet file of one column that tells its own rate and unit.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.base.errors import AsdError
from cache.files.atomic import atomic_path, write_atomic
from extractors.clips.dataset import held_out
from extractors.clips.names import write_table
from extractors.fetching.download import read_record, require_room
from extractors.fetching.offline import is_offline

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "bearing:"
ROOT_VARIABLE = "BEARING_DATASETS_ROOT"  # the package's own
_LOG = logging.getLogger(__name__)
_SCHEMA = 2  # of the metadata, since the package's version 0.2
_NEEDED = (
    "signal_id", "recording_id", "channel", "fs", "n_samples", "fault_type", "signal_file",
    "signal_row_group", "signal_row",
)  # fmt: skip
_BOOKKEEPING = {*_NEEDED, "dataset"} - {"fault_type"}
_ABSENT = ("none", "unknown")  # how the tables write what does not apply, or is not documented
_HEADER = ("path", "split", "machine_type", "condition", "attributes")

_Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Signal:
    """A signal that becomes a clip: its row of the metadata, and what it is here."""

    row: _Row
    machine: str
    split: str

    @property
    def path(self) -> str:
        """Where its clip lies below the folder of all."""
        return f"{self.machine}/{_plain(str(self.row['recording_id']))}.parquet"

    @property
    def line(self) -> dict[str, object]:
        """Its line of the manifest."""
        fault = str(self.row["fault_type"])
        attributes = {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in self.row.items()
            if name not in _BOOKKEEPING and str(value) not in _ABSENT
        }
        return {
            "path": self.path,
            "split": self.split,
            "machine_type": self.machine,
            "condition": "normal" if fault == "normal" else "" if fault == "unknown" else "anomaly",
            "attributes": json.dumps(attributes),
        }

    def write(self, to: Path, values: pa.Array) -> None:
        """Write its clip: a table of one column that tells its unit and rate."""
        import pyarrow as pa  # noqa: PLC0415 (where such a set is built)
        import pyarrow.parquet as pq  # noqa: PLC0415

        row = self.row
        unit = str(row.get("unit", "unknown"))
        name = str(row["channel"]) + (f" [{unit}]" if unit not in _ABSENT else "")
        told = {"sample_rate": f"{row['fs']:g}", "signal_id": str(row["signal_id"])}
        table = pa.table({name: values}).replace_schema_metadata(told)
        with atomic_path(to / self.path) as temporary:
            pq.write_table(table, temporary, compression="zstd")


@dataclass(frozen=True)
class BearingSet:
    """A set of bearing-datasets, built or to be built.

    Attributes
    ----------
    name
        As the package calls it.
    root
        Folder of built sets.
    """

    name: str
    root: Path

    @property
    def folder(self) -> Path:
        """Where it lies once it is built."""
        return self.root / self.name

    @property
    def is_built(self) -> bool:
        """Whether it is there."""
        return (self.folder / "manifest.json").is_file()

    def terms(self) -> Mapping[str, Any]:
        """Tell title, licence and citation, before anything of it is fetched.

        Raises
        ------
        AsdError
            If it is not built, and the package is not there or does not know it.
        """
        if self.is_built:
            return read_record(self.folder / "manifest.json", "build it anew")
        if is_offline():
            raise AsdError(f"offline nothing is fetched: bring the built set to {self.folder}")
        package = _package()
        if self.name not in (names := package.list_datasets()):
            raise AsdError(f"bearing-datasets has no {self.name!r}; it has {', '.join(names)}")
        return dict(package.load_spec(self.name))

    def build(self) -> None:
        """Let the package fetch it from its authors, unless it is there.

        Raises
        ------
        AsdError
            If that fails.
        """
        if self.is_built:
            return
        package = _package()
        try:
            with redirect_stdout(sys.stderr):
                package.build(self.name, root=self.root)
        except Exception as error:  # of many kinds: servers, archives, readers of old formats
            raise AsdError(
                f"bearing-datasets could not build {self.name}: {type(error).__name__}: {error}; the same "
                "command again continues"
            ) from error

    def lay_down(self, to: Path, channels: Sequence[str] = ()) -> tuple[Path, int]:
        """Write every signal as a clip, and the manifest that names them.

        A channel is a machine type, for each of its rates where it has several. Signals of normal
        bearings are learnt from, as many of them judged as there are others, at most half.

        Parameters
        ----------
        to
            Folder of the clips; it is made.
        channels
            Only these; empty for all.

        Returns
        -------
        Path, int
            The manifest, and how many clips it names.

        Raises
        ------
        AsdError
            If the set is damaged, has no such channel, or does not fit.
        """
        rows = self._rows(channels)
        require_room(to, sum(8 * int(row["n_samples"]) for row in rows), f"{self.name}, its signals,")
        signals: list[_Signal] = []
        for machine, members in _machines(self.name, rows).items():
            normal = [row for row in members if row["fault_type"] == "normal"]
            others = [row for row in members if row["fault_type"] != "normal"]
            train, judged = held_out(normal, len(others))
            if not train:
                _LOG.info("%s: no signal of a normal bearing, so there is nothing to learn from", machine)
            for split, of_split in (("train", train), ("test", judged), ("test", others)):
                signals += [_Signal(row, machine, split) for row in of_split]
        if len({signal.path for signal in signals}) < len(signals):
            raise AsdError(f"{self.folder}: two signals would have one file name: rename them there")
        for signal, values in _values(self.folder / "signals", signals):
            signal.write(to, values)
        manifest = to / "manifest.csv"
        write_table(manifest, _HEADER, [signal.line for signal in signals])
        terms = self.terms()
        about = (f"{key}: {terms.get(key, 'not told')}\n" for key in ("title", "license", "citation"))
        write_atomic(to / "terms.txt", "".join(about).encode())
        return manifest, len(signals)

    def _rows(self, channels: Sequence[str]) -> list[_Row]:
        import pyarrow as pa  # noqa: PLC0415 (where such a set is built)
        import pyarrow.parquet as pq  # noqa: PLC0415

        path, version = self.folder / "metadata.parquet", self.terms().get("schema_version", 1)
        if version != _SCHEMA:
            raise AsdError(
                f"{self.folder}: tables of version {version}, {_SCHEMA} is read: build it anew with "
                f"bearing-datasets build {self.name} --force"
            )
        try:
            table = pq.read_table(path)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise AsdError(f"{path} is damaged: {error}; build the set anew") from error
        lacking = [name for name in _NEEDED if name not in table.column_names]
        if lacking:
            raise AsdError(f"{path}: no column {lacking[0]}; expected the tables of bearing-datasets 0.3")
        rows = sorted(table.to_pylist(), key=lambda row: str(row["signal_id"]))
        there = sorted({str(row["channel"]) for row in rows})
        unknown = [name for name in channels if name not in there]
        if unknown:
            raise AsdError(f"--machine {unknown[0]}: {self.name} has the channels {', '.join(there)}")
        return [row for row in rows if not channels or row["channel"] in channels]


def notice(found: BearingSet) -> str:
    """Say under which terms a set comes."""
    terms = found.terms()
    citation = " ".join(str(terms.get("citation", "not told")).split())
    where = f"built in {found.folder}" if found.is_built else f"fetched from its authors to {found.folder}"
    return (
        f"{found.name}: {terms.get('title', '')}; {where}\nLicence: {terms.get('license', 'not told')}.\n"
        f"Cite: {citation}\nSplit: none published; normal signals are learnt from, as many of them judged as "
        "there are faulty ones, at most half, the first by name.\n"
    )


def _package() -> Any:
    try:
        return import_module("bearing_datasets.build")
    except ImportError as error:
        raise AsdError(
            "building a set needs bearing-datasets: pip install 'machine-asd[bearings]'; one that was built "
            f"elsewhere is read without it: name the folder that holds it in {ROOT_VARIABLE}"
        ) from error


def _machines(name: str, rows: Sequence[_Row]) -> dict[str, list[_Row]]:
    """Sort signals into machine types: a channel, or each rate of one that has several."""
    rates = defaultdict(set)
    for row in rows:
        rates[row["channel"]].add(float(row["fs"]))
    found: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        several = len(rates[row["channel"]]) > 1
        found[_plain(f"{name}_{row['channel']}" + f"_{row['fs']:g}_Hz" * several)].append(row)
    return dict(sorted(found.items()))


def _plain(text: str) -> str:
    """Make a file name of a name: nothing in it means something to a path or a shell."""
    return re.sub(r"[^\w.+=-]+", "-", text)


def _values(folder: Path, signals: Sequence[_Signal]) -> Iterator[tuple[_Signal, pa.Array]]:
    """Read signals in the order in which they lie, each row group once."""
    import pyarrow as pa  # noqa: PLC0415 (where such a set is built)
    import pyarrow.parquet as pq  # noqa: PLC0415

    groups: dict[tuple[str, int], list[_Signal]] = defaultdict(list)
    for signal in signals:
        groups[str(signal.row["signal_file"]), int(signal.row["signal_row_group"])].append(signal)
    for (name, group), members in sorted(groups.items()):
        path, there = folder / Path(name).name, {}
        try:
            table = pq.ParquetFile(path).read_row_group(group, columns=["signal_id", "signal"])
            ids, lists = (table.column(at).combine_chunks() for at in (0, 1))
            for signal in members:
                at = int(signal.row["signal_row"])
                there[ids[at].as_py()] = lists.slice(at, 1).flatten()
        except (OSError, ValueError, IndexError, pa.ArrowException) as error:
            raise AsdError(f"{path} is damaged: {error}; build the set anew") from error
        for signal in members:
            row = signal.row
            values = there.get(row["signal_id"], ())
            if len(values) != row["n_samples"]:
                raise AsdError(
                    f"{path}: {len(values)} samples of {row['signal_id']}, where metadata.parquet says "
                    f"{row['n_samples']}; build the set anew"
                )
            yield signal, values

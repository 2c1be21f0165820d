"""The published figures of the task's baselines beside our own runs of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from cache.base.errors import AsdError
from cache.base.text import align_rows
from eval.ranking.systems import Spread, System
from eval.results.folder import ResultsFolder
from eval.results.tables import mean_and_deviation

# The development data of DCASE 2023 Task 2. That of 2024 has the same names.
MACHINES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")
WHERE = (
    "the development data of DCASE 2023 Task 2 lies at https://doi.org/10.5281/zenodo.7882613: "
    f"unpack its archives into one folder, so that it holds {', '.join(MACHINES)}, and give it as "
    "--data"
)
TABLES = {
    "mse": "Table 1: simple autoencoder mode",
    "mahalanobis": "Table 2: selective Mahalanobis mode",
}
OFFICIAL = "official"  # the figure of all machines together
SHOWN = {"auc_source": "AUC source", "auc_target": "AUC target", "pauc": "pAUC"}
_LIMIT = 3  # published standard deviations


@dataclass(frozen=True)
class PublishedFigure:
    """A published figure.

    Attributes
    ----------
    mean, deviation
        In %, as printed; ``None`` where no deviation was published.
    source
        Where it stands.
    """

    mean: float
    deviation: float | None
    source: str


@dataclass(frozen=True)
class PublishedComparison:
    """One figure of ours beside the published one.

    Attributes
    ----------
    machine
        Its type; ``all`` for the official score.
    figure
        Its name.
    ours, runs
        Over so many runs of ours; ``None`` where they do not allow the figure.
    published
        ``None`` where there is none.
    """

    machine: str
    figure: str
    ours: Spread | None
    published: PublishedFigure | None
    runs: int = 1

    @property
    def difference(self) -> float | None:
        """Ours less the published mean, points."""
        if self.ours is None or self.published is None:
            return None
        return 100 * self.ours.mean - self.published.mean

    @property
    def outside(self) -> bool | None:
        """Whether ours lies outside three published deviations; ``None`` where none is known."""
        if self.difference is None or self.published is None or self.published.deviation is None:
            return None
        return abs(self.difference) > _LIMIT * self.published.deviation


Key = tuple[str, str, str]  # mode, machine type ("" is all), figure


def read_published() -> dict[Key, PublishedFigure]:
    """Read tables 1 and 2 of the task's paper (Dohi et al. 2023, arXiv 2305.07828).

    Returns
    -------
    dict
        Mode, machine type (empty for all) and figure to what was published, %: mean and deviation
        of five runs. The official scores are the harmonic means of the tables, without a deviation.
    """
    text = files("eval.baselines").joinpath("published.csv").read_text(encoding="utf-8")
    return {
        (row["mode"], row["machine_type"], row["figure"]): PublishedFigure(
            float(row["mean"]),
            float(row["deviation"]) if row["deviation"] else None,
            row["source"],
        )
        for row in csv.DictReader(io.StringIO(text, newline=""))
    }


def compare(mode: str, system: System, published: dict[Key, PublishedFigure]) -> list[PublishedComparison]:
    """Put our figures of every machine, and the official score of all seven, beside the published.

    Parameters
    ----------
    mode
        ``mse`` or ``mahalanobis``.
    system
        Our runs of that mode on the development data.
    published
        What `read_published` gave.

    Raises
    ------
    AsdError
        If the truth of no test clip is known.
    """
    if not system.sections:
        raise AsdError("the truth of no test clip is known; is this the development data?")
    rows, runs = [], len(system.runs)
    for section, figures in system.sections.items():
        machine = section.machine_type
        for figure in SHOWN:
            found = published.get((mode, machine, figure))
            rows.append(PublishedComparison(machine, figure, figures[figure], found, runs))
    if {row.machine for row in rows} == set(MACHINES):
        found = published.get((mode, "", OFFICIAL))
        rows.append(PublishedComparison("all", OFFICIAL, system.official, found, runs))
    return rows


def format_comparison(mode: str, rows: Sequence[PublishedComparison]) -> str:
    """Plain-text table, a line a figure, %."""
    cells = [["machine", "figure", "ours", "published", "difference", ""], *map(_cells, rows)]
    outside, judged = (
        sum(row.outside is True for row in rows),
        sum(row.outside is not None for row in rows),
    )
    notes = [f"* outside {_LIMIT} published standard deviations: {outside} of {judged} figures"]
    if judged < len(rows):
        notes.append(f"without a published deviation, hence not judged: {len(rows) - judged}")
    return "\n".join([f"{TABLES[mode]} (Dohi et al. 2023)", "", *align_rows(cells, 6), "", *notes])


def write_comparison(
    results: ResultsFolder, systems: Mapping[str, System]
) -> dict[str, list[PublishedComparison]]:
    """Put the figures of each mode's runs beside the published ones, and write ``comparison.csv``."""
    published = read_published()
    found = {mode: compare(mode, system, published) for mode, system in systems.items()}
    lines = [comparison_csv(mode, rows) for mode, rows in found.items()]
    results.write("comparison.csv", "".join([COMPARISON_HEADER, *lines]).encode())
    return found


def comparison_csv(mode: str, rows: Sequence[PublishedComparison]) -> str:
    """Lines ``mode,machine,figure,mean,deviation,runs,published mean and deviation,outside``, %."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        ours: list[float | None] = [None] * 3
        if row.ours is not None:
            mean, deviation = row.ours.mean, row.ours.deviation
            ours = [100 * mean, None if deviation is None else 100 * deviation, row.runs]
        theirs = [row.published.mean, row.published.deviation] if row.published else [None] * 2
        writer.writerow([mode, row.machine, row.figure, *ours, *theirs, row.outside])
    return text.getvalue()


COMPARISON_HEADER = (
    "mode,machine_type,figure,mean,deviation,runs,published_mean,published_deviation,outside\n"
)


def _cells(row: PublishedComparison) -> list[str]:
    ours = "-" if row.ours is None else mean_and_deviation(row.ours.mean, row.ours.deviation)
    theirs = "-"
    if row.published is not None:
        mean, deviation = row.published.mean, row.published.deviation
        theirs = mean_and_deviation(mean / 100, None if deviation is None else deviation / 100)
    difference = "-" if row.difference is None else f"{row.difference:+.2f}"
    return [
        row.machine, SHOWN.get(row.figure, "official score"), ours, theirs,
        difference, "*" if row.outside else "",
    ]  # fmt: skip

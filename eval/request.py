"""What the commands of evaluation are asked for; reading a command line loads nothing heavier than this."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cache.base.errors import AsdError
from cache.base.options import REQUIRED, Options, documented, option, option_group
from cache.files.places import here, place
from cache.select import Selection, cache_dir_option
from extractors.fetching.offline import offline_option
from index.scorer import DEFAULT, names

KINDS = ("resampled", "machine", "domain", "attribute")  # of pseudo-outlier


def years() -> tuple[int, ...]:
    """Years whose rules score."""
    from eval.metrics.rules import RULES  # noqa: PLC0415 (a help page does not name them)

    return tuple(RULES)


def shipped() -> list[str]:
    """Names of the experiments that come with the project."""
    names = [entry.name for entry in (files("eval") / "experiments").iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


@dataclass(frozen=True)
class PlaybackOptions:
    """Limits of what a page can play.

    Attributes
    ----------
    roots
        Data roots with the recordings; none, and the page is silent.
    most
        Clips a section at most, and as many false alarms and as many misses.
    """

    roots: tuple[Path, ...] = ()
    most: int = 12


@documented
@dataclass(frozen=True, kw_only=True)
class Limits(Options):
    """How an experiment's threshold is learnt, as of `index.run`; what is left out it says itself."""

    percentile: float | None = option(None, "normal clips meant to lie below it, %", metavar="P")
    false_alarms: str | None = option(None, "1/100 of the clips, or 1/week", metavar="RATE")
    clip_interval: float | None = option(None, "seconds from one clip to the next")
    group: str | None = option(None, "clips left out together: auto, day, folder ...", metavar="GROUPING")

    def changes(self) -> tuple[str, ...]:
        """Write them as changes of an experiment."""
        return tuple(f"scorer.{k}={v}" for k, v in vars(self).items() if v is not None)


@documented
@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(Options):
    """What is evaluated, by what, and what is made of it.

    Beside its options: `command`, how this was called; `built`, whether the tables and the bank were
    just made of what `audio` holds, and `left_out`, what of it could not be used.
    """

    experiment: str | None = option(
        None, f"a TOML file, or one of {', '.join(shipped())}: run the chain on --data",
        flag="EXPERIMENT",
    )  # fmt: skip
    changes: tuple[str, ...] = option(
        (), "change the experiment, e.g. backbones.beats.weights=BEATs_iter3.pt", flag="--set",
        metavar="KEY=VALUE",
    )  # fmt: skip
    submission: tuple[Path, ...] = option(
        (), "folders of anomaly_score_*.csv and decision_result_*.csv; a folder of such folders is "
        "one system of several runs; several are ranked", read=here, metavar="DIR",
    )  # fmt: skip
    ground_truth: Path | None = option(
        None, "holds ground_truth_data, ground_truth_domain, ground_truth_attributes (default: "
        "labels in the file names)", read=here, metavar="DIR",
    )  # fmt: skip
    marks: Path | None = option(
        None, "the page's marks.csv as the truth: figures are of the clips that are marked, alone",
        read=here, metavar="FILE",
    )  # fmt: skip
    year: int | None = option(None, "whose rule scores (default: the files')", choices=years)
    part: bool = option(False, "accept submissions of a part of the ground truth")
    audio: tuple[Path, ...] = option(
        (), "data roots: only what they hold is scored, and the report plays it (default: --data)",
        read=place, metavar="ROOT",
    )  # fmt: skip
    listen: int = option(
        PlaybackOptions.most, "clips a section that the report plays at most, and as many false alarms and "
        "as many misses", least=0, metavar="N",
    )  # fmt: skip
    report: bool = option(True, "write report.html and, when scoring, the map in it")
    note: tuple[str, ...] = option((), "something to be said in results and report", metavar="NAME=TEXT")
    figures: bool = option(False, "draw figures as files, for a paper")
    out: Path = option(
        Path("results"), "a folder of its own for what this run makes; of an earlier run's results "
        "nothing stays", read=here, metavar="DIR",
    )  # fmt: skip
    scorer: str | None = option(
        None,
        f"{{choices}}: which bank, where none is named (default: {DEFAULT})",
        choices=names,
        metavar="NAME",
    )
    bank: Path | None = option(None, "a bank's folder (default: found by scorer)", read=place, metavar="DIR")
    data: tuple[Path, ...] = option(
        (), "score the test clips of these data roots (default: those in the cache folder)",
        read=place, metavar="ROOT",
    )  # fmt: skip
    machine: tuple[str, ...] = option((), "only these machine types (default: all)", metavar="NAME")
    map: str = option("pca", "how the report lays out embeddings", choices=("pca", "umap"))
    offline: bool = offline_option()
    cache_dir: Path = cache_dir_option()
    tables: Selection = option_group(Selection, "which tables (needed only where the cache holds several)")
    limits: Limits = option_group(Limits, "threshold of an experiment")
    command: str = ""
    built: bool = False
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        tables = self.tables
        given = {"--submission": self.submission, "--bank": None if self.built else self.bank,
                 "--scorer": self.scorer, "--backbone": tables.backbones,
                 "--recipe": () if self.built else tables.recipes,
                 "--layer": tables.layer, "--pooling": tables.pooling, "--bands": tables.bands,
                 "--weights": tables.weights, "--weights-hash": tables.weights_hash}  # fmt: skip
        clash = [name for name, value in given.items() if value not in (None, ())]
        if self.experiment is None:
            if self.changes:
                raise AsdError(f"--set {self.changes[0]} changes an experiment, and none is named")
            if self.limits.changes():
                raise AsdError(
                    f"--set {self.limits.changes()[0]} is of an experiment, and none is named: a bank "
                    "has its threshold from `python -m index.run`"
                )
        elif clash:
            raise AsdError(f"{clash[0]} means nothing to an experiment, which says so itself: --set")
        elif not self.data:
            raise AsdError(f"experiment {self.experiment}: name the data roots with --data")
        scoring = [name for name in clash if name != "--submission"] + ["--machine"] * bool(self.machine)
        if self.submission and scoring:
            raise AsdError(f"{scoring[0]} means nothing to --submission, whose scores are there already")

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the command line changes of the experiment; how recordings are heard has options too."""
        heard = {key: getattr(self.tables, key) for key in ("channel", "length", "window", "hop")}
        told = (f"{key}={json.dumps(value)}" for key, value in heard.items() if value is not None)
        return (*self.changes, *told, *self.limits.changes())

    @property
    def layout(self) -> str | None:
        """How embeddings are laid out, if anything shows them."""
        return self.map if self.report or self.figures else None


@documented
@dataclass(frozen=True, kw_only=True)
class ChoiceRequest(Options):
    """Tables and scorers to choose from, and how normal clips are left out."""

    recipe: tuple[str, ...] = option(
        (), "of these tables, as `asd cache ls` shows them (default: all)", metavar="FINGERPRINT"
    )
    scorer: tuple[str, ...] = option(
        ("fusion", "pooled", "min-distance", "mahalanobis", "ldn"),
        "and these scorers, NAME[:OPTION=VALUE...]", metavar="NAME",
    )  # fmt: skip
    outliers: str = option(
        "diverse", "pseudo-outliers: resampled, machine, domain, attribute, or all there are",
        choices=(*KINDS, "diverse"),
    )  # fmt: skip
    machine: tuple[str, ...] = option((), "only these machine types (default: all)", metavar="NAME")
    group: str = option("auto", "clips left out together, as of index.run")
    seed: int = option(0, "of the clips drawn", least=0)
    cache_dir: Path = cache_dir_option()


@documented
@dataclass(frozen=True, kw_only=True)
class ExportRequest(Options):
    """Which bank, and where to."""

    bank: Path = option(REQUIRED, "a bank, or the folder it lies in", flag="bank", metavar="BANK", read=place)
    out: Path = option(REQUIRED, "a new folder", flag="out", metavar="DIR", read=here)
    seconds: float = option(
        10.0,
        "of the clips that a network will hear: its graph is of one length",
        least=0.01,
        metavar="SECONDS",
    )
    weights: tuple[str, ...] = option((), "the backbone's checkpoint: a file or a name", metavar="FILE")

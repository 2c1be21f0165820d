"""An experiment as a TOML file: read, overridden, checked, and written down beside its results."""

from __future__ import annotations

import json
import platform
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cache.base.arguments import from_table
from cache.base.errors import AsdError
from cache.base.options import Option, make
from cache.base.text import integers, masked
from cache.files import text_tables
from cache.recipe import Recipe, concatenation
from eval.metrics.rules import RULES
from eval.request import shipped
from index.scorer import DEFAULT, find, names

_MOST_BYTES = 2**20
_PACKAGES = ("machine-asd", "torch", "torchaudio", "transformers", "numpy", "scipy",
             "scikit-learn", "faiss-cpu", "soundfile", "soxr")  # fmt: skip

if TYPE_CHECKING:
    from finetune.request import TrainRequest


class _Table(BaseModel):
    """A table whose unknown keys are errors, as are values of another kind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Publication(_Table):
    """Where a system is published, with its official scores in %."""

    paper: str
    development: float | None = None
    evaluation: float | None = None


class BackboneChoice(_Table):
    """What to take of a backbone; what is left out is the backbone's own choice."""

    weights: str = ""
    layers: list[int] = []
    pooling: list[str] = []
    bands: Literal["merge", "keep"] | None = None


class ScorerChoice(_Table):
    """A scorer with its options and how its threshold is learnt."""

    name: str = DEFAULT
    threshold: str = "gamma"
    percentile: float = 90.0
    group: str = "auto"
    false_alarms: str | None = None
    clip_interval: float = 60.0
    options: dict[str, Option] = {}


class AutoencoderChoice(_Table):
    """The task's baseline; one run a seed."""

    mode: Literal["mse", "mahalanobis"] = "mse"
    form: Literal["frames", "clip"] = "clip"
    seeds: list[int] = [0]
    epochs: int = 100


class Experiment(_Table):
    """A whole chain: embeddings of backbones and a scorer, or the autoencoder.

    Channel, length, window, hop, rate, column and remove_dc say how recordings are heard, see
    `extractors.audio.hearing`.
    """

    title: str
    about: str = ""
    measured: str = ""
    year: int | None = None
    published: Publication | None = None
    channel: str = "average"
    window: float | None = None
    hop: float | None = None
    length: str | float = "whole"
    rate: int | None = None
    column: str = ""
    remove_dc: bool = False
    backbones: dict[str, BackboneChoice] = {}
    finetune: dict[str, Any] | None = None
    scorer: ScorerChoice | None = None
    autoencoder: AutoencoderChoice | None = None

    @property
    def heard(self) -> dict[str, Any]:
        """How recordings are heard, by the names of `extractors.audio.hearing.Heard`."""
        return {
            "channel": self.channel,
            "length": str(self.length),
            "window": self.window,
            "hop": self.hop,
            "rate": self.rate,
            "column": self.column,
            "remove_dc": self.remove_dc,
        }

    @property
    def seeds(self) -> list[int]:
        """Seeds of fine-tuning, one run each."""
        return list((self.finetune or {}).get("seeds", [0]))

    def facts(self, command: str) -> list[str]:
        """Say what a reader of its results should know, ``name=text``."""
        facts = {"experiment": self.title, "about": self.about, "measured": self.measured, "command": command}
        if self.published:
            scores = {"development": self.published.development, "evaluation": self.published.evaluation}
            known = [f"{name} {value:.2f} %" for name, value in scores.items() if value is not None]
            facts["published"] = "; ".join([self.published.paper, *known])
        return [f"{name}={text}" for name, text in facts.items() if text]

    def record(self, recipes: Sequence[Recipe], command: str) -> bytes:
        """Write down, as JSON, what was run: with the tables' recipes, and what makes the numbers."""
        versions = {}
        for name in _PACKAGES:
            with suppress(PackageNotFoundError):
                versions[name] = version(name)
        record = {
            "experiment": self.model_dump(),
            "command": command,
            "fingerprint": concatenation(recipes).fingerprint if recipes else None,
            "recipes": [json.loads(recipe.canonical) for recipe in recipes],
            "python": platform.python_version(),
            "versions": versions,
        }
        return (masked(json.dumps(record, indent=2, ensure_ascii=False)) + "\n").encode()


def training(experiment: Experiment, **fixed: Any) -> TrainRequest:
    """Read how a backbone is fine-tuned first: keys are the options of ``finetune.run``.

    Parameters
    ----------
    experiment
        With a ``finetune`` table.
    **fixed
        Options that are not the table's to choose.

    Raises
    ------
    AsdError
        Naming the key that is unknown, or whose value does not fit.
    """
    from finetune.request import TrainRequest  # noqa: PLC0415 -- heavy, and seldom needed

    table = {key: value for key, value in (experiment.finetune or {}).items() if key != "seeds"}
    return from_table(TrainRequest, table, "finetune.", **experiment.heard, **fixed)


def read_text(name: str) -> str:
    """Read an experiment by the path of its file, or by the name of a shipped one.

    Raises
    ------
    AsdError
        If there is none, or it cannot be read.
    """
    path = Path(name)
    if path.is_file():
        return text_tables.read_text(path, _MOST_BYTES)
    if name in shipped():
        return (files("eval") / "experiments" / f"{name}.toml").read_text(encoding="utf-8")
    raise AsdError(f"no experiment {name!r}: give a TOML file, or one of {', '.join(shipped())}")


def parse(text: str, where: str, overrides: Sequence[str] = ()) -> Experiment:
    """Check an experiment.

    Parameters
    ----------
    text
        TOML.
    where
        Its name, for messages.
    overrides
        ``key=value`` with dots between tables, e.g. ``backbones.beats.weights=BEATs_iter3.pt``;
        a value that is not TOML is text.

    Raises
    ------
    AsdError
        With every unknown key, each with the nearest known one, and every value of another kind.
    """
    try:
        table = _toml(text)
    except ValueError as error:
        raise AsdError(f"{where} is not TOML: {error}") from error
    for override in overrides:
        _override(table, override)
    try:
        experiment = Experiment.model_validate(table)
    except ValidationError as error:
        faults = [f"  {_fault(dict(entry))}" for entry in error.errors()]
        raise AsdError("\n".join([f"{where} is not an experiment:", *faults])) from error
    _check(experiment, where)
    return experiment


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise AsdError(f"--set {text}: expected KEY=VALUE, e.g. scorer.name=ldn")
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise AsdError(f"--set {text}: {parent} is a value, not a table")
    try:
        table[last] = _toml(f"value = {value}")["value"]
    except ValueError:
        table[last] = value


def _toml(text: str) -> dict[str, Any]:
    """Read TOML of any depth; a ``ValueError`` says what is wrong with it."""
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("tables or lists that are nested too deep") from error
    beyond = [place for place, value in integers(table) if not -(2**63) <= value < 2**63]
    if beyond:
        raise ValueError(f"{beyond[0]} is beyond the 64 bits of an integer")
    return table


def _fault(entry: Mapping[str, Any]) -> str:
    place = ".".join(map(str, entry["loc"]))
    if entry["type"] != "extra_forbidden":
        return f"{place}: {entry['msg']}, not {entry['input']!r}"
    tables: dict[str, type[_Table]] = {
        "published": Publication,
        "scorer": ScorerChoice,
        "autoencoder": AutoencoderChoice,
        "backbones": BackboneChoice,
    }
    *parents, _ = entry["loc"]
    known = list((tables[str(parents[0])] if parents else Experiment).model_fields)
    near = get_close_matches(str(entry["loc"][-1]), known, 1, 0.0)
    return f"unknown key {place}; the nearest known key is {near[0]}"


def _check(experiment: Experiment, where: str) -> None:
    if bool(experiment.backbones) == (experiment.autoencoder is not None):
        raise AsdError(f"{where}: expected [backbones.NAME] tables or [autoencoder], one of the two")
    if experiment.autoencoder is not None and experiment.scorer is not None:
        raise AsdError(f"{where}: [scorer] means nothing to the autoencoder, which scores itself")
    if experiment.autoencoder is not None and experiment.finetune is not None:
        raise AsdError(f"{where}: [finetune] means nothing to the autoencoder, which is trained")
    if experiment.finetune is not None:
        if not experiment.seeds:
            raise AsdError(f"{where}: finetune.seeds is empty; expected [0], say")
        fixed = {"data": (Path(),), "out": Path("x.safetensors"), "backbone": "logmel:cnn"}
        unset = dict.fromkeys(("weights", "overwrite", "cache_dir"))
        training(experiment, seeds=tuple(experiment.seeds), **fixed, **unset)
    if experiment.year is not None and experiment.year not in RULES:
        raise AsdError(f"{where}: year {experiment.year}; known are {', '.join(map(str, RULES))}")
    if experiment.scorer is not None:
        if experiment.scorer.name not in names():
            near = get_close_matches(experiment.scorer.name, names(), 1, 0.0)[0]
            raise AsdError(f"{where}: no scorer {experiment.scorer.name!r}; the nearest known is {near}")
        make(find(experiment.scorer.name), experiment.scorer.options)

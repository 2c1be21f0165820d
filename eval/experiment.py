"""The chain of an experiment, stage by stage, each by its own command line."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain, product
from pathlib import Path

from cache.atomic import write_atomic
from cache.errors import AsdError, Main
from cache.recipe import Recipe, concatenation
from cache.select import Selection, choose
from cache.store import Store
from cache.text import masked
from eval.experiment_file import Autoencoder, Experiment, ScorerChoice
from eval.experiment_finetune import train
from extractors.checkpoints import find
from extractors.digest import file_sha256
from extractors.offline import is_offline
from extractors.weights.place import located

_PACKAGES = ("machine-asd", "torch", "torchaudio", "transformers", "numpy", "scipy",
             "scikit-learn", "faiss-cpu", "soundfile", "soxr")  # fmt: skip
# Folders of runs, and their names in tables.
_TRAINED, _TUNED = "autoencoder", "finetuned"


@dataclass(frozen=True)
class Setting:
    """Where an experiment runs.

    Attributes
    ----------
    data
        Data roots.
    ground_truth
        Folder in the evaluator's form, if there is one.
    cache_dir
        Where embeddings lie; what is there already is not made again.
    out
        Where results go.
    options
        What the evaluation is told beside that, as on its command line.
    command
        How the experiment was called.
    """

    data: Sequence[Path]
    ground_truth: Path | None
    cache_dir: Path
    out: Path
    options: Sequence[str]
    command: str


def run_experiment(experiment: Experiment, text: str, setting: Setting, evaluate: Main) -> int:
    """Extract what is missing, index, score, evaluate and report.

    Parameters
    ----------
    experiment, text
        The experiment and the file it was read from.
    setting
        Where it runs.
    evaluate
        The evaluation's command line, which scores and reports.

    Returns
    -------
    int
        0; 1 where clips were left out; 2 where a stage failed, which says why.
    """
    if experiment.autoencoder is not None:
        recipes: list[Recipe] = []
        code = _train(experiment.autoencoder, setting)
        told = ["--submission", str(setting.out / _TRAINED)]
    elif experiment.finetune is not None:
        code, recipes = _tune(experiment, setting, evaluate)
        told = ["--submission", str(setting.out / _TUNED)]
    else:
        _check_weights(experiment)
        code, recipes = _embed(experiment, setting)
        told = ["--recipe", *(r.fingerprint for r in recipes), "--bank", str(setting.out / "bank"),
                "--machine", *_machines(setting.data)]  # fmt: skip
    if code > 1:
        return code
    write_atomic(setting.out / "experiment.toml", masked(text).encode())
    write_atomic(setting.out / "experiment.json", _record(experiment, recipes, setting))
    notes = [part for fact in _facts(experiment, setting) for part in ("--note", fact)]
    year = ["--year", str(experiment.year)] if experiment.year else []
    return max(code, evaluate([*told, *_common(setting), *year, *notes, *setting.options]))


def extraction_arguments(experiment: Experiment, setting: Setting) -> list[str]:
    """Arguments of ``python -m extractors.run``, one call for all, so that clips are read once."""
    options: dict[str, list[str]] = {"weights": [], "layers": [], "pooling": [], "bands": []}
    for text, choice in experiment.backbones.items():
        name = text.partition(":")[0]
        values: dict[str, Sequence[object]] = {
            "weights": [choice.weights] if choice.weights else [],
            "layers": choice.layers,
            "pooling": choice.pooling,
            "bands": [choice.bands] if choice.bands else [],
        }
        for option, chosen in values.items():
            options[option] += [f"{name}={value}" for value in chosen]
    given = [[f"--{option}", *chosen] for option, chosen in options.items() if chosen]
    return [
        *("--data", *map(str, setting.data), "--backbone", *experiment.backbones),
        *chain.from_iterable(given),
        *experiment.hearing_arguments(),
        *("--cache-dir", str(setting.cache_dir)),
    ]


def index_arguments(scorer: ScorerChoice, recipes: Sequence[Recipe], setting: Setting) -> list[str]:
    """Arguments of ``python -m index.run``."""
    options = []
    for name, value in scorer.options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{option}" if value else f"--no-{option}")
        else:
            options += [f"--{option}", str(value)]
    rate = []
    if scorer.false_alarms is not None:
        rate = ["--false-alarms", scorer.false_alarms, "--clip-interval", str(scorer.clip_interval)]
    return [
        *("--recipe", *(recipe.fingerprint for recipe in recipes), "--scorer", scorer.name),
        *("--threshold", scorer.threshold, "--percentile", str(scorer.percentile)),
        *("--group", scorer.group, *rate),
        *("--bank", str(setting.out / "bank"), "--cache-dir", str(setting.cache_dir), *options),
    ]


def baseline_arguments(system: Autoencoder, setting: Setting) -> list[str]:
    """Arguments of ``python -m eval.baselines.run``."""
    truth = ["--ground-truth", str(setting.ground_truth)] if setting.ground_truth else []
    return [
        *("--mode", system.mode, "--form", system.form, "--data", *map(str, setting.data)),
        *("--seeds", *map(str, system.seeds), "--epochs", str(system.epochs), *truth),
        *("--out", str(setting.out / _TRAINED)),
    ]


def chosen_recipes(experiment: Experiment, store: Store) -> list[Recipe]:
    """Find the recipes an experiment is made of among the tables on disk, in its own order.

    Raises
    ------
    AsdError
        If one is not there, or the experiment leaves open which is meant.
    """
    known = {name for recipe in store.recipes() for name in (recipe.backbone, recipe.named)}
    found = []
    for name, choice in experiment.backbones.items():
        # A variant is told by its weights where the recipe names the backbone alone.
        names = (name if name in known else name.partition(":")[0],)
        sha256 = _sha256(located(choice.weights)) if choice.weights else None
        weights = (sha256,) if sha256 else ()
        layers: Sequence[int | None] = choice.layers or [None]
        poolings: Sequence[str | None] = choice.pooling or [None]
        for layer, pooling in product(layers, poolings):
            plain = Selection(names, (), layer, pooling, choice.bands, weights)
            heard = replace(plain, channel=experiment.channel, window=experiment.window or 0,
                            hop=experiment.hop or experiment.window or 0)  # fmt: skip
            found += [choose(store, way) for way in heard.by_channel()]
    return found


def _embed(experiment: Experiment, setting: Setting) -> tuple[int, list[Recipe]]:
    """Extract every backbone and fit the scorer; the worst exit code and the recipes."""
    # Torch is loaded only where clips are to be extracted.
    extract: Main = import_module("extractors.run").main
    code = extract(extraction_arguments(experiment, setting))
    if code > 1:
        return code, []
    recipes = chosen_recipes(experiment, Store(setting.cache_dir))
    index: Main = import_module("index.run").main
    scorer = experiment.scorer or ScorerChoice()
    return max(code, index(index_arguments(scorer, recipes, setting))), recipes


def _tune(experiment: Experiment, setting: Setting, evaluate: Main) -> tuple[int, list[Recipe]]:
    """Fine-tune, then extract, fit and score with the weights of every seed."""
    _check_weights(experiment)
    models = setting.out / "models"
    code, seeds = train(experiment, setting.data, setting.cache_dir, models)
    every: list[Recipe] = []
    for seed, changed in seeds.items():
        done, recipes = _embed(changed, replace(setting, out=models / f"seed_{seed}"))
        code = max(code, done)
        if code > 1:
            break
        scored = replace(setting, out=setting.out / _TUNED / f"seed_{seed}")
        bank = ["--bank", str(models / f"seed_{seed}" / "bank")]
        told = ["--recipe", *(r.fingerprint for r in recipes), *bank,
                "--machine", *_machines(setting.data), "--no-report"]  # fmt: skip
        code = max(code, evaluate([*told, *_common(scored)]))
        every += recipes
    return code, every


def _train(system: Autoencoder, setting: Setting) -> int:
    if find_spec("eval.baselines") is None:
        raise AsdError(
            "[autoencoder] needs the package eval.baselines, which this installation lacks; "
            "install the project anew, or name [backbones.NAME] and [scorer]"
        )
    baseline: Main = import_module("eval.baselines.run").main
    return baseline(baseline_arguments(system, setting))


def _check_weights(experiment: Experiment) -> None:
    """Find out before hours of work that the last backbone's weights are not there."""
    faults = [
        f"  backbones.{name}.weights: no file {choice.weights}; --set "
        f"backbones.{name}.weights=PATH says where it lies"
        for name, choice in experiment.backbones.items()
        if choice.weights and not _can_be_had(choice.weights)
    ]
    if faults:
        raise AsdError("\n".join(["weights that the experiment needs are missing:", *faults]))


def _can_be_had(weights: str) -> bool:
    return located(weights).exists() or (find(weights) is not None and not is_offline())


def _machines(roots: Sequence[Path]) -> list[str]:
    """Machine types of the data: the cache may hold others."""
    from extractors.clips import list_clips  # noqa: PLC0415

    return sorted({clip.section.machine_type for clip in list_clips(roots).clips})


def _common(setting: Setting) -> list[str]:
    truth = ["--ground-truth", str(setting.ground_truth)] if setting.ground_truth else []
    return [
        *("--audio", *map(str, setting.data), *truth),
        *("--cache-dir", str(setting.cache_dir), "--out", str(setting.out)),
    ]


def _facts(experiment: Experiment, setting: Setting) -> list[str]:
    """Say what a reader should know of the experiment, ``name=text``."""
    facts = {"experiment": experiment.title, "about": experiment.about,
             "measured": experiment.measured, "command": setting.command}  # fmt: skip
    published = experiment.published
    if published:
        scores = {"development": published.development, "evaluation": published.evaluation}
        known = [f"{name} {value:.2f} %" for name, value in scores.items() if value is not None]
        facts["published"] = "; ".join([published.paper, *known])
    return [f"{name}={text}" for name, text in facts.items() if text]


def _record(experiment: Experiment, recipes: Sequence[Recipe], setting: Setting) -> bytes:
    record = {
        "experiment": experiment.model_dump(),
        "command": setting.command,
        "fingerprint": concatenation(recipes).fingerprint if recipes else None,
        "recipes": [json.loads(recipe.canonical) for recipe in recipes],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }
    return (masked(json.dumps(record, indent=2, ensure_ascii=False)) + "\n").encode()


def _sha256(path: Path) -> str | None:
    """SHA-256 of a weights file; ``None`` of a folder, whose recipe names its own."""
    return file_sha256(path) if path.is_file() else None

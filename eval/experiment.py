"""The chain of an experiment, stage by stage."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain, product
from pathlib import Path

from cache.errors import AsdError
from cache.recipe import Recipe, concatenation
from cache.select import Selection, choose
from cache.store import Store
from cache.text import masked
from eval.evaluate import Evaluated, Evaluation, check, judge_all, score_all
from eval.experiment_file import Autoencoder, Experiment, ScorerChoice
from eval.experiment_finetune import train
from eval.results.folder import Results
from eval.score import Progress
from extractors.checkpoints import find
from extractors.digest import file_sha256
from extractors.offline import is_offline
from extractors.weights.place import located

_PACKAGES = ("machine-asd", "torch", "torchaudio", "transformers", "numpy", "scipy",
             "scikit-learn", "faiss-cpu", "soundfile", "soxr")  # fmt: skip
# Folders of runs, and their names in tables.
_TRAINED, _TUNED = "autoencoder", "finetuned"


def run_experiment(
    experiment: Experiment, text: str, wanted: Evaluation, told: Progress = lambda _done, _all: None
) -> Evaluated:
    """Extract what is missing, index, score, evaluate and report.

    Parameters
    ----------
    experiment, text
        The experiment and the file it was read from.
    wanted
        The data roots, where results go and what is made of them.
    told
        How many sections are scored, of how many.

    Raises
    ------
    AsdError
        If a stage fails.
    """
    check(wanted)
    results = Results(wanted.out)
    facts = (*wanted.notes, *_facts(experiment, wanted.command))
    plain = replace(wanted, audio=wanted.data, data=(), year=wanted.year or experiment.year,
                    notes=facts)  # fmt: skip
    with results.run():
        if experiment.autoencoder is not None:
            recipes: list[Recipe] = []
            code = _train(experiment.autoencoder, wanted)
            folder = results.root / _TRAINED
            _include(results, folder, experiment.autoencoder.seeds)
            done = judge_all(replace(plain, submission=(folder,)), results)
        elif experiment.finetune is not None:
            code, recipes = _tune(experiment, plain, results, told)
            done = judge_all(replace(plain, submission=(results.root / _TUNED,)), results)
        else:
            _check_weights(experiment)
            code, recipes = _embed(experiment, plain, results.root / "bank")
            done = score_all(_with_bank(plain, recipes, results.root / "bank"), results, told)
        results.write("experiment.toml", masked(text).encode())
        results.write("experiment.json", _record(experiment, recipes, wanted.command))
    return replace(done, incomplete=bool(code))


def extraction_arguments(experiment: Experiment, wanted: Evaluation) -> list[str]:
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
        *("--data", *map(str, wanted.audio), "--backbone", *experiment.backbones),
        *chain.from_iterable(given),
        *experiment.hearing_arguments(),
        *("--cache-dir", str(wanted.cache_dir)),
    ]


def index_arguments(
    scorer: ScorerChoice, recipes: Sequence[Recipe], cache_dir: Path, bank: Path
) -> list[str]:
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
        *("--bank", str(bank), "--cache-dir", str(cache_dir), *options),
    ]


def baseline_arguments(system: Autoencoder, wanted: Evaluation) -> list[str]:
    """Arguments of ``python -m eval.baselines.run``."""
    truth = ["--ground-truth", str(wanted.ground_truth)] if wanted.ground_truth else []
    return [
        *("--mode", system.mode, "--form", system.form, "--data", *map(str, wanted.data)),
        *("--seeds", *map(str, system.seeds), "--epochs", str(system.epochs), *truth),
        *("--out", str(wanted.out / _TRAINED)),
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


def _embed(experiment: Experiment, wanted: Evaluation, bank: Path) -> tuple[int, list[Recipe]]:
    """Extract every backbone and fit the scorer; the worst exit code and the recipes."""
    # Torch is loaded only where clips are to be extracted.
    code = _called("extractors.run", extraction_arguments(experiment, wanted))
    recipes = chosen_recipes(experiment, Store(wanted.cache_dir))
    scorer = experiment.scorer or ScorerChoice()
    told = index_arguments(scorer, recipes, wanted.cache_dir, bank)
    return max(code, _called("index.run", told)), recipes


def _tune(
    experiment: Experiment, wanted: Evaluation, results: Results, told: Progress
) -> tuple[int, list[Recipe]]:
    """Fine-tune, then extract, fit and score with the weights of every seed."""
    _check_weights(experiment)
    models = wanted.out / "models"
    code, seeds = train(experiment, wanted.audio, wanted.cache_dir, models)
    every: list[Recipe] = []
    for seed, changed in seeds.items():
        bank = models / f"seed_{seed}" / "bank"
        done, recipes = _embed(changed, wanted, bank)
        code = max(code, done)
        part = Results(wanted.out / _TUNED / f"seed_{seed}")
        scored = replace(_with_bank(wanted, recipes, bank), report=False, figures=False, notes=())
        score_all(scored, part, told)
        every += recipes
    _include(results, wanted.out / _TUNED, list(seeds))
    return code, every


def _include(results: Results, folder: Path, seeds: Sequence[int]) -> None:
    """Count these seeds among the results; other seeds in the folder are an earlier run's."""
    runs = {folder / f"seed_{seed}" for seed in seeds}
    for path in set(folder.glob("seed_*")) - runs:
        Results(path).clear()
    for path in runs:
        results.include(Results(path))


def _with_bank(wanted: Evaluation, recipes: Sequence[Recipe], bank: Path) -> Evaluation:
    chosen = Selection(recipes=tuple(recipe.fingerprint for recipe in recipes))
    return replace(wanted, tables=chosen, bank=bank)


def _train(system: Autoencoder, wanted: Evaluation) -> int:
    if find_spec("eval.baselines") is None:
        raise AsdError(
            "[autoencoder] needs the package eval.baselines, which this installation lacks; "
            "install the project anew, or name [backbones.NAME] and [scorer]"
        )
    return _called("eval.baselines.run", baseline_arguments(system, wanted))


def _called(module: str, arguments: Sequence[str]) -> int:
    """Run a command as a function: what a user can put right is raised, not printed."""
    main = import_module(module).main
    return int(main.__wrapped__(arguments))


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


def _facts(experiment: Experiment, command: str) -> list[tuple[str, str]]:
    """Say what a reader should know of the experiment, name and text."""
    facts = {"experiment": experiment.title, "about": experiment.about,
             "measured": experiment.measured, "command": command}  # fmt: skip
    published = experiment.published
    if published:
        scores = {"development": published.development, "evaluation": published.evaluation}
        known = [f"{name} {value:.2f} %" for name, value in scores.items() if value is not None]
        facts["published"] = "; ".join([published.paper, *known])
    return [(name, text) for name, text in facts.items() if text]


def _record(experiment: Experiment, recipes: Sequence[Recipe], command: str) -> bytes:
    record = {
        "experiment": experiment.model_dump(),
        "command": command,
        "fingerprint": concatenation(recipes).fingerprint if recipes else None,
        "recipes": [json.loads(recipe.canonical) for recipe in recipes],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }
    return (masked(json.dumps(record, indent=2, ensure_ascii=False)) + "\n").encode()


def _sha256(path: Path) -> str | None:
    """SHA-256 of a weights file; ``None`` of a folder, whose recipe names its own."""
    return file_sha256(path) if path.is_file() else None

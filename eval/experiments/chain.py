"""The chain of an experiment, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from cache.base.errors import AsdError, reasons
from cache.base.progress import Progress, unseen
from cache.base.text import counted, masked
from cache.heard import Heard
from cache.recipe import Recipe
from cache.select import Selection
from cache.store import Store
from eval.baselines.request import BaselineRequest
from eval.evaluate import EvaluateResult, check, judge_all, score_all
from eval.experiments.file import (
    AutoencoderChoice,
    BackboneChoice,
    Experiment,
    ScorerChoice,
    parse,
    read_text,
    training,
)
from eval.request import EvaluateRequest, Limits
from eval.results.folder import ResultsFolder
from extractors.fetching.offline import is_offline
from extractors.request import ExtractRequest
from extractors.weights.published import find, located
from index.build import build
from index.request import BuildRequest

if TYPE_CHECKING:
    from extractors.extract import ExtractResult
    from finetune.request import TrainRequest

# Folders of runs, and their names in tables.
_TRAINED, _TUNED = "autoencoder", "finetuned"


@dataclass(frozen=True)
class _Preparation:
    """What a stage before scoring made: tables of these recipes; what it left out, and notes."""

    recipes: tuple[Recipe, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def run_experiment(wanted: EvaluateRequest, told: Progress = unseen) -> EvaluateResult:
    """Extract what is missing, index, score, evaluate and report.

    Parameters
    ----------
    wanted
        The experiment, the data roots, where results go and what is made of them.
    told
        How many sections are scored, of how many.

    Raises
    ------
    AsdError
        If a stage fails.
    """
    name = str(wanted.experiment)
    text = read_text(name)
    experiment = parse(text, name, wanted.overrides)
    check(wanted)
    results = ResultsFolder(wanted.out)
    facts = (*wanted.note, *experiment.facts(wanted.command))
    plain = replace(wanted, experiment=None, changes=(), limits=Limits(), tables=Selection(),
                    audio=wanted.data, data=(), note=facts, year=wanted.year or experiment.year)  # fmt: skip
    embedded: list[_Preparation] = []
    with results.run():
        if experiment.autoencoder is not None:
            from eval.baselines.evaluate import evaluate  # noqa: PLC0415 -- torch comes with it

            trained = evaluate(baseline_request(experiment.autoencoder, Heard(**experiment.heard), plain))
            embedded = [_Preparation((), (*trained.left_out, *trained.warnings), trained.notes)]
            results.include(ResultsFolder(results.root / _TRAINED))
            done = judge_all(replace(plain, submission=(results.root / _TRAINED,)), results)
        elif experiment.finetune is not None:
            _check_weights(experiment)
            embedded = _tune(experiment, plain, results, told)
            done = judge_all(replace(plain, submission=(results.root / _TUNED,)), results)
        else:
            _check_weights(experiment)
            embedded = [_embed(experiment, plain, results.root / "bank")]
            bank = _with_bank(plain, embedded[0], results.root / "bank")
            done = score_all(bank, results, told)
        recipes = [recipe for each in embedded for recipe in each.recipes]
        results.write("experiment.toml", masked(text).encode())
        results.write("experiment.json", experiment.record(recipes, wanted.command))
    left_out = dict.fromkeys(fault for each in embedded for fault in each.faults)
    notes = dict.fromkeys(note for each in embedded for note in each.notes)
    return replace(done, left_out=(*left_out, *done.left_out), notes=(*notes, *done.notes))


def extract_request(experiment: Experiment, wanted: EvaluateRequest) -> ExtractRequest:
    """Ask for the tables of all backbones at once, so that clips are read once."""
    given: dict[str, list[str]] = {"weights": [], "layers": [], "pooling": [], "bands": []}
    for text, choice in experiment.backbones.items():
        name = text.partition(":")[0]
        values: dict[str, Sequence[object]] = {
            "weights": [choice.weights] if choice.weights else [],
            "layers": choice.layers,
            "pooling": choice.pooling,
            "bands": [choice.bands] if choice.bands else [],
        }
        for option, chosen in values.items():
            given[option] += [f"{name}={value}" for value in chosen]
    return ExtractRequest(
        data=wanted.audio,
        backbone=tuple(experiment.backbones),
        heard=Heard(**experiment.heard),
        cache_dir=wanted.cache_dir,
        weights=tuple(given["weights"]),
        layers=tuple(given["layers"]),
        pooling=tuple(given["pooling"]),
        bands=tuple(given["bands"]),
    )


def build_request(
    scorer: ScorerChoice, extracted: ExtractResult, cache_dir: Path, bank: Path
) -> BuildRequest:
    """Ask for a bank of the tables just extracted, fitted to what the data holds and no more."""
    clips = [clip for clip in extracted.listing.clips if clip.split == "train"]
    return BuildRequest(
        scorer=scorer.name,
        threshold=scorer.threshold,
        percentile=scorer.percentile,
        false_alarms=scorer.false_alarms,
        clip_interval=scorer.clip_interval,
        group=scorer.group,
        bank=bank,
        cache_dir=cache_dir,
        tables=Selection(recipes=tuple(recipe.fingerprint for recipe in recipes_of(extracted))),
        scorer_options=scorer.options,
        sections={clip.section for clip in clips},
        clips={clip.clip_id for clip in clips},
        alone=True,
    )


def recipes_of(extracted: ExtractResult) -> list[Recipe]:
    """Recipes in an experiment's order: backbone by backbone, of each table channel by channel."""
    found: dict[tuple[str, str | None, str], list[tuple[Recipe, ...]]] = {}
    for recipes in extracted.recipes:
        settings = {k: v for k, v in recipes[0].settings if k != "channel"}
        key = (recipes[0].backbone, recipes[0].weights, repr(settings))
        found.setdefault(key, []).append(recipes)
    return [one for channels in found.values() for same in zip(*channels, strict=True)
            for one in same]  # fmt: skip


def train_request(experiment: Experiment, name: str, seed: int, wanted: EvaluateRequest) -> TrainRequest:
    """Ask for the training of one backbone with one seed; what is there is not trained again."""
    # A variant may be a folder, and its path would lead elsewhere.
    plain = quote(name.replace(":", "_", 1), safe="")
    out = wanted.out / "models" / f"{plain}_seed_{seed}.safetensors"
    choice = experiment.backbones[name]
    return training(
        experiment, data=wanted.audio, out=out, backbone=name, seeds=(seed,), overwrite=True,
        weights=choice.weights or None, cache_dir=wanted.cache_dir,
    )  # fmt: skip


def baseline_request(system: AutoencoderChoice, heard: Heard, wanted: EvaluateRequest) -> BaselineRequest:
    """Ask for the task's baseline; every run gets its report when all are ranked."""
    return BaselineRequest(
        mode=system.mode, form=system.form, data=wanted.audio, heard=heard, seeds=tuple(system.seeds),
        epochs=system.epochs, ground_truth=wanted.ground_truth, report=False,
        out=wanted.out / _TRAINED, cache_dir=wanted.cache_dir, command=wanted.command,
    )  # fmt: skip


def _embed(experiment: Experiment, wanted: EvaluateRequest, bank: Path) -> _Preparation:
    """Extract every backbone and fit the scorer."""
    # Torch is loaded only where clips are to be extracted.
    from eval.scoring.recordings import remember  # noqa: PLC0415
    from extractors.extract import extract  # noqa: PLC0415

    extracted = extract(extract_request(experiment, wanted))
    held = Store(wanted.cache_dir).tables(recipes_of(extracted)[0])
    if not any(table.split == "train" for table in held):
        lost = f", {counted(len(extracted.faults), 'clip')} left out" * bool(extracted.faults)
        raise reasons(
            f"no training clip could be used{lost}: put normal recordings into a folder normal/ in the "
            "machine's own",
            [*extracted.listing.notes, *extracted.faults],
        )
    scorer = experiment.scorer or ScorerChoice()
    built = build(build_request(scorer, extracted, wanted.cache_dir, bank))
    remember(
        bank, {clip.clip_id: str(clip.path) for clip in extracted.listing.clips if clip.split == "train"}
    )
    notes = (*extracted.listing.notes, *(text for texts in built.notes for text in texts))
    return _Preparation(tuple(recipes_of(extracted)), tuple(extracted.faults), notes)


def _tune(
    experiment: Experiment, wanted: EvaluateRequest, results: ResultsFolder, told: Progress
) -> list[_Preparation]:
    """Fine-tune, then extract, fit and score with the weights of every seed."""
    from finetune.train import train  # noqa: PLC0415 -- torch comes with it

    every: list[_Preparation] = []
    chosen: dict[int, dict[str, BackboneChoice]] = {seed: {} for seed in experiment.seeds}
    for name, choice in experiment.backbones.items():
        for seed in experiment.seeds:
            request = train_request(experiment, name, seed, wanted)
            trained = train(request)
            weights = str(request.path(seed))
            chosen[seed][name] = choice.model_copy(update={"weights": weights})
            every.append(_Preparation((), trained.faults, trained.notes))
    for seed, backbones in chosen.items():
        bank = wanted.out / "models" / f"seed_{seed}" / "bank"
        tuned = experiment.model_copy(update={"backbones": backbones, "finetune": None})
        embedded = _embed(tuned, wanted, bank)
        scored = _with_bank(wanted, embedded, bank)
        part = ResultsFolder(wanted.out / _TUNED / f"seed_{seed}")
        score_all(replace(scored, report=False, figures=False, note=()), part, told)
        every.append(embedded)
    runs = {wanted.out / _TUNED / f"seed_{seed}" for seed in experiment.seeds}
    for path in set((wanted.out / _TUNED).glob("seed_*")) - runs:  # of an earlier run
        ResultsFolder(path).clear()
    for path in runs:
        results.include(ResultsFolder(path))
    return every


def _with_bank(wanted: EvaluateRequest, embedded: _Preparation, bank: Path) -> EvaluateRequest:
    chosen = Selection(recipes=tuple(recipe.fingerprint for recipe in embedded.recipes))
    return replace(wanted, tables=chosen, bank=bank, built=True, left_out=embedded.faults)


def _check_weights(experiment: Experiment) -> None:
    """Find out before hours of work that the last backbone's weights are not there."""
    faults = [
        f"  backbones.{name}.weights: no file {choice.weights}; --set "
        f"backbones.{name}.weights=PATH says where it lies"
        for name, choice in experiment.backbones.items()
        if choice.weights
        and not located(choice.weights).exists()
        and (find(choice.weights) is None or is_offline())
    ]
    if faults:
        raise AsdError("\n".join(["weights that the experiment needs are missing:", *faults]))

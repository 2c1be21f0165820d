"""The part of an experiment that trains: every backbone, every seed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from cache.errors import Main
from eval.experiment_file import BackboneChoice, Experiment, Finetune


def train(
    experiment: Experiment, data: Sequence[Path], cache_dir: Path, out: Path
) -> tuple[int, dict[int, Experiment]]:
    """Fine-tune the backbones of an experiment; what is there already is not trained again.

    Parameters
    ----------
    experiment
        With a ``finetune`` table.
    data
        Data roots; their training clips are learnt from.
    cache_dir
        Where waveforms lie that memory does not hold.
    out
        Where the weights go.

    Returns
    -------
    int
        The worst exit code.
    dict
        Seed to the experiment as it goes on: with the fine-tuned weights in the place of the
        published ones, and their embeddings where the experiment names no pooling.
    """
    settings = experiment.finetune or Finetune()
    run: Main = import_module("finetune.run").main.__wrapped__
    code = 0
    made: dict[int, dict[str, BackboneChoice]] = {seed: {} for seed in settings.seeds}
    for name, choice in experiment.backbones.items():
        for seed in settings.seeds:
            # A variant may be a folder, and its path would lead elsewhere.
            plain = quote(name.replace(":", "_", 1), safe="")
            path = out / f"{plain}_seed_{seed}.safetensors"
            told = _arguments(name, choice, settings)
            heard = experiment.hearing_arguments()
            where = ["--data", *map(str, data), "--cache-dir", str(cache_dir)]
            files = ["--out", str(path), "--seeds", str(seed), "--overwrite"]
            code = max(code, run([*where, *files, *told, *heard]))
            made[seed][name] = choice.model_copy(update={"weights": str(path)})
    changed = {seed: {"backbones": found, "finetune": None} for seed, found in made.items()}
    return code, {seed: experiment.model_copy(update=each) for seed, each in changed.items()}


def _arguments(name: str, choice: BackboneChoice, settings: Finetune) -> list[str]:
    given = settings.model_dump(exclude={"seeds"}, exclude_none=True)
    options = [
        [f"--{key.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
        for key, value in given.items()
    ]
    weights = ["--weights", choice.weights] if choice.weights else []
    return ["--backbone", name, *weights, *chain.from_iterable(options)]

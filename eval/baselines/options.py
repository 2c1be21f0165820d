"""Options of the baselines' command line."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path

from cache.files.places import here, place
from cache.select import add_cache_dir
from eval.baselines.scoring import FORMS, MODES

PAPER = "paper"  # the mode that runs both


def _natural(text: str) -> int:
    if not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _shrinkage(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= 1:
        raise ArgumentTypeError(f"{text!r} is neither auto nor a number from 0 to 1")
    return amount


def parser() -> ArgumentParser:
    """Build the parser of `python -m eval.baselines.run`."""
    made = ArgumentParser(
        prog="python -m eval.baselines.run",
        description="Train the task's autoencoder once a machine and seed, score its test clips.",
        epilog="example: python -m eval.baselines.run --mode mahalanobis --data dev_data eval_data "
        "--ground-truth ground_truth --out mahalanobis\n"
        "paper:   python -m eval.baselines.run --mode paper --data dev_data --out paper",
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--mode", choices=(*MODES, PAPER), required=True,
        help="mse: the mean squared error; mahalanobis: the smaller of two Mahalanobis distances; "
        "paper: both as published, beside the published tables of 2023")  # fmt: skip
    add("--form", choices=FORMS, default="clip",
        help="of mahalanobis: a distance a frame as printed, or one of the clip's mean residual as "
        "in the published numbers (default: %(default)s)")  # fmt: skip
    add("--shrinkage", type=_shrinkage, default=0.0, metavar="A",
        help="of the covariances: 0 to 1, or auto (default: 0, as published)")  # fmt: skip
    add("--data", nargs="+", type=place, default=[], metavar="ROOT",
        help="data roots, each holding <machine>/<train|test>/*.wav")  # fmt: skip
    add("--machine", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    add("--seeds", nargs="+", type=_natural, default=[0, 1, 2, 3, 4], metavar="N",
        help="a run each (default: 0 1 2 3 4)")  # fmt: skip
    add("--epochs", type=_positive, default=100, metavar="N", help="(default: %(default)s)")
    add("--ground-truth", type=here, metavar="DIR",
        help="holds ground_truth_data ... (default: labels in the file names)")  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    add("--jobs", type=_positive, metavar="N",
        help="machines and seeds at once (default: one a core; 1 on a GPU)")  # fmt: skip
    add("--memory", type=_positive, default=1024, metavar="MIB",
        help="of frames held by each; more goes to a file (default: %(default)s)")  # fmt: skip
    add("--out", type=here, default=Path("baselines"), metavar="DIR",
        help="(default: ./%(default)s)")  # fmt: skip
    add_cache_dir(made)
    return made

"""Options of ``python -m finetune.run``."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

from cache.arguments import add_arguments
from cache.places import here, place
from cache.select import add_cache_dir
from extractors import registry
from extractors.hearing import Heard
from extractors.nets.statistics import KINDS
from extractors.offline import add_offline
from extractors.tuned import OWN
from finetune import augmentation, head, labels, sampling, scope
from finetune.optimising import PRECISIONS, SCHEDULES

_EXAMPLE = """example: python -m finetune.run --backbone beats --data dev_data eval_data \\
    --weights BEATs_iter3.pt --train lora --head subcluster-adacos \\
    --augment mixup --out tuned.safetensors"""


def _number(kind: type, least: float, most: float = float("inf")) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value: float = kind(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
        return value

    return read


def _file(text: str) -> Path:
    if not text.endswith(".safetensors"):
        raise ArgumentTypeError(f"{text!r} must end in .safetensors")
    return here(text)


def parser() -> ArgumentParser:
    """Build the parser."""
    made = ArgumentParser(
        prog="python -m finetune.run",
        description="Train a backbone to tell the labels of normal training clips apart, and write "
        "it to a file\nthat python -m extractors.run --weights reads. Test clips are never opened.",
        epilog=_EXAMPLE,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _add_files(made.add_argument_group("what and where"))
    add_offline(made)
    add_arguments(made, Heard)
    _add_labels(made.add_argument_group("labels"))
    _add_model(made.add_argument_group("model"))
    _add_data(made.add_argument_group("clips"))
    _add_course(made.add_argument_group("training"))
    return made


def _add_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--data", nargs="+", type=place, required=True, metavar="ROOT",
        help="data roots; all their machines are learnt together")  # fmt: skip
    add("--machine", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    add("--backbone", default="logmel:cnn", metavar="NAME[:VARIANT]",
        help=f"{', '.join(registry.names())} (default: logmel:cnn, from scratch)")  # fmt: skip
    add("--weights", metavar="FILE",
        help="where to begin: a checkpoint by its name or file, or a fine-tuned file; random "
        "(default: the published one, fetched at first use)")  # fmt: skip
    add("--accept-weights", nargs="+", default=[], metavar="SHA256",
        help="of a file that is not the published one of its name")  # fmt: skip
    add("--out", type=_file, required=True, metavar="FILE.safetensors",
        help="of several seeds, FILE_seed_<n>.safetensors")  # fmt: skip
    add("--seeds", nargs="+", type=_number(int, 0), default=[0], metavar="N",
        help="one training each (default: 0)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace a file of another training")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    add("--tensorboard", type=here, metavar="FOLDER", help="write curves there as well")
    # Waveforms that memory does not hold lie there while it trains.
    add_cache_dir(group)


def _add_labels(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--labels", choices=labels.KINDS, default=labels.KINDS[0],
        help="machine type x section x attributes, machine type, or groups of machine types "
        "(default: %(default)s)")  # fmt: skip
    add("--attributes", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    add(
        "--pseudo-labels",
        type=_number(int, 0),
        default=0,
        metavar="N",
        help="clusters of frozen embeddings, for sections without attributes (default: none)",
    )
    add(
        "--groups",
        metavar="FILE|N",
        help="CSV machine_type,group; or a number of clusters of frozen embeddings",
    )
    add(
        "--min-clips",
        type=_number(int, 1),
        default=2,
        metavar="N",
        help="combinations of fewer clips become one class of their section (default: 2)",
    )
    add(
        "--pseudo-anomalies",
        nargs="+",
        type=here,
        default=[],
        metavar="ROOT",
        help="synthetic anomalies of finetune.synthesise, as further classes",
    )
    add(
        "--pseudo-classes",
        choices=("one", "machine"),
        default="one",
        help="one class for all of them, or one a machine type (default: %(default)s)",
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--layer", type=_number(int, 0), metavar="N",
        help="where the embedding stands (default: the highest)")  # fmt: skip
    add("--embedding", choices=(*KINDS, OWN), default="attentive",
        help="statistics of the layer's frames, projected; or the backbone's own embedding "
        "(default: %(default)s)")  # fmt: skip
    add("--size", type=_number(int, 1), default=256, metavar="D",
        help="values of the embedding (default: 256)")  # fmt: skip
    add("--head", default="subcluster-adacos", metavar="NAME[:OPTION=VALUE...]",
        help=f"{', '.join(head.names())} (default: %(default)s)")  # fmt: skip
    add("--train", default="full", metavar="NAME[:OPTION=VALUE...]",
        help=f"{', '.join(scope.names())} (default: %(default)s)")  # fmt: skip


def _add_data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--sampling", default="balanced", metavar="NAME[:OPTION=VALUE]",
        help=f"{', '.join(sampling.names())} (default: %(default)s)")  # fmt: skip
    add("--augment", nargs="*", default=["mixup"], metavar="NAME[:OPTION=VALUE...]",
        help=f"{', '.join(augmentation.names())}, in this order; nothing for none "
        "(default: mixup)")  # fmt: skip
    add("--crop", type=_number(float, 0.01), default=10.0, metavar="SECONDS",
        help="longest part of a clip that is shown (default: 10)")  # fmt: skip
    add("--memory", type=_number(float, 0.0), default=4.0, metavar="GIB",
        help="of decoded clips; more go to a file in --cache-dir (default: 4)")  # fmt: skip


def _add_course(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--epochs", type=_number(int, 1), default=25, metavar="N", help="(default: 25)")
    add("--batch-size", type=_number(int, 1), default=8, metavar="N",
        help="clips a forward pass and device (default: 8)")  # fmt: skip
    add("--accumulate", type=_number(int, 1), default=1, metavar="N",
        help="forward passes a step (default: 1)")  # fmt: skip
    add("--learning-rate", type=_number(float, 0.0), default=1e-4, metavar="RATE",
        help="of the network (default: 1e-4)")  # fmt: skip
    add("--head-learning-rate", type=_number(float, 0.0), default=1e-3, metavar="RATE",
        help="of embedding and head (default: 1e-3)")  # fmt: skip
    add("--layer-decay", type=_number(float, 0.0, 1.0), default=1.0, metavar="FACTOR",
        help="of the rate from each block to the one below (default: 1)")  # fmt: skip
    add("--weight-decay", type=_number(float, 0.0), default=0.01, metavar="X")
    add("--warmup", type=_number(int, 0), default=100, metavar="STEPS", help="(default: 100)")
    add("--schedule", choices=SCHEDULES, default=SCHEDULES[0], help="(default: %(default)s)")
    add("--clip-norm", type=_number(float, 1e-6), default=1.0, metavar="NORM",
        help="largest norm of the gradients (default: 1)")  # fmt: skip
    add("--dtype", choices=tuple(PRECISIONS), default="float32",
        help="of the arithmetic (default: %(default)s)")  # fmt: skip
    add("--hold-out", type=_number(float, 0.0, 0.5), default=0.0, metavar="SHARE",
        help="of each class, to watch the loss of (default: 0)")  # fmt: skip
    add("--patience", type=_number(int, 1), metavar="EPOCHS",
        help="stop when the held-out loss falls no more, and take its best epoch")  # fmt: skip
    add("--watch", type=_number(int, 0), default=5, metavar="EPOCHS",
        help="how often the training clips' neighbours are looked at; 0 for never "
        "(default: 5)")  # fmt: skip

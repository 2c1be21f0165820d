"""``--engine`` and ``--actors``: which engine runs an extraction, and on how much of a cluster."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import torch

from cache.errors import AsdError
from extractors.device import find_device

LOCAL, RAY = ENGINES = ("local", "ray")
_DEVICES = ("auto", "cpu", "cuda")  # Ray says which GPU is whose


def add_engine(parser: ArgumentParser) -> None:
    """Add ``--engine`` and ``--actors``; hand what was parsed to `check_engine`."""
    parser.add_argument(
        "--engine", choices=ENGINES, default=LOCAL,
        help="local: this process; ray: table by table on the Ray cluster of RAY_ADDRESS, else on "
        "one of this machine alone (extra: ray). A start takes about 20 s: worth it on several "
        "machines or GPUs, from a minute or two of work (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--actors", type=int, metavar="N",
        help="with --engine ray: processes that hold the backbones, a GPU each where the cluster "
        "has any (default: one a table, as far as the cluster holds them)",
    )  # fmt: skip


def check_engine(args: Namespace) -> None:
    """Refuse options that mean nothing together.

    Raises
    ------
    AsdError
        With the remedy.
    """
    if args.engine == LOCAL and args.actors is not None:
        raise AsdError(f"--actors {args.actors} is meant for a cluster: give --engine {RAY} too")
    if args.actors is not None and args.actors < 1:
        raise AsdError(f"--actors {args.actors}: expected a whole number from 1")
    if args.engine == RAY and args.device not in _DEVICES:
        raise AsdError(
            f"--device {args.device}: Ray gives each actor its own GPU; expected one of "
            f"{', '.join(_DEVICES)}"
        )


def own_device(args: Namespace) -> torch.device:
    """Find what this process computes on: of a cluster's work it only makes the recipes."""
    return find_device("cpu" if args.engine == RAY else args.device)

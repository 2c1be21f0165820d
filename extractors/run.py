"""Command line of the extraction: data roots in, embedding tables out."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from cache.errors import AsdError, guarded
from cache.select import add_cache_dir
from cache.store import Store
from cache.table import SPLITS
from extractors import pooling, registry
from extractors.backbone import Backbone
from extractors.clips import Listing, list_clips
from extractors.extract import Extraction, Output, Report, Settings

_DEFAULT_BATCH = 32
_SHOWN = 10  # faults and removed clips named before the rest is counted


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else _positive(text)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m extractors.run",
        description="Turn clips into embedding tables; run again, only what is missing is made.",
        epilog="example: python -m extractors.run --data dev_data eval_data --backbone logmel",
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", type=Path, required=True, metavar="ROOT",
        help="data roots, each holding <machine>/<train|test>/*.wav")  # fmt: skip
    add("--backbone", choices=registry.names(), default="logmel", help="(default: %(default)s)")
    add("--weights", type=Path, metavar="FILE", help="the backbone's checkpoint")
    add("--layer", "--layers", nargs="+", type=int, default=[], metavar="N",
        help="layers to take (default: the backbone's own)")  # fmt: skip
    add("--pooling", nargs="+", default=[], metavar="NAME",
        help=f"{', '.join(pooling.names())} (default: the backbone's own)")  # fmt: skip
    add("--bands", choices=pooling.BANDS, default="merge", help="(default: %(default)s)")
    add("--machine", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    add("--split", nargs="+", choices=SPLITS, default=[], help="only these (default: both)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    add("--batch-size", type=_batch_size, default="auto", metavar="N",
        help="clips a forward pass (default: auto)")  # fmt: skip
    add("--strict", action="store_true", help="stop at the first clip that cannot be used")
    add_cache_dir(parser)
    return parser


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise AsdError(
            f"--device {name}: not to be had here ({reason}); use auto or cpu"
        ) from error
    return device


def _outputs(backbone: Backbone, args: Namespace) -> list[Output]:
    spec = backbone.spec
    layers = args.layer or [spec.layer]
    unknown = sorted(set(layers) - set(spec.layers))
    if unknown:
        offered = ", ".join(map(str, spec.layers))
        raise AsdError(f"{spec.name} has no layer {unknown[0]}; it has {offered}")
    poolings = [pooling.find(name, spec.tuned) for name in args.pooling or [spec.pooling]]
    return [Output(spec, layer, how, args.bands) for layer, how in product(layers, poolings)]


def _show(listing: Listing, report: Report) -> None:
    for note in listing.notes:
        sys.stderr.write(f"note: {note}\n")
    faults = [*listing.faults, *report.faults]
    for text, kind in ((faults, "left out"), (report.removed, "no longer in the data, removed")):
        for item in text[:_SHOWN]:
            sys.stderr.write(f"{kind}: {item}\n")
        if len(text) > _SHOWN:
            sys.stderr.write(f"{kind}: and {len(text) - _SHOWN} more\n")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Extract embeddings.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where clips were left out; 2 for a mistake in the call.
    """
    args = _parser().parse_args(argv)
    listing = list_clips(args.data)
    if args.strict and listing.faults:
        raise AsdError(str(listing.faults[0]))
    chosen = listing.only(args.machine, args.split)
    device = _device(args.device)
    backbone = registry.find(args.backbone).load(device, args.weights)
    if device.type == "cpu" and backbone.spec.cpu_threads:
        torch.set_num_threads(backbone.spec.cpu_threads)
    outputs = _outputs(backbone, args)
    size = args.batch_size or backbone.spec.batch.get(device.type, _DEFAULT_BATCH)
    store = Store(args.cache_dir)
    report = Extraction(backbone, outputs, store, Settings(device, size, args.strict)).run(
        chosen.clips
    )
    _show(chosen, report)
    left_out = len(chosen.faults) + len(report.faults)
    for output in outputs:
        print(
            f"{len(chosen.clips)} clips: {report.new} new, {report.changed} changed, "
            f"{report.unchanged} unchanged, {left_out} left out -> "
            f"{store.root / output.recipe.fingerprint} ({output.recipe})"
        )
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())

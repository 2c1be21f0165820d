"""Command line of the extraction: data roots in, embedding tables out."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from cache.errors import AsdError, guarded, tell_some
from cache.places import place
from cache.recipe import Recipe, concatenation
from cache.select import add_cache_dir
from cache.store import Store
from cache.table import SPLITS
from extractors import pooling, registry
from extractors.audio import read_audio
from extractors.clips import SUPPLEMENTS, Clip, Listing, list_clips
from extractors.engines.options import RAY, add_engine, check_engine, own_device
from extractors.engines.tables import Outcome
from extractors.extract import Report
from extractors.forward import Forward, least_cosine
from extractors.hearing import add_hearing, hearings
from extractors.offline import add_offline, apply_offline
from extractors.output import DTYPES
from extractors.soundfiles import LONGEST
from extractors.wanted import extraction, load_forwards

_COMPARED = 4  # clips on which a smaller number format is held against float32
_FAITHFUL = 0.999  # cosine below which it is warned of


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else _positive(text)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m extractors.run",
        description="Turn clips into embedding tables; run again, only what is missing is made.\n"
        "Of several backbones, NAME=VALUE is meant for one, a plain value for all.",
        epilog="example: python -m extractors.run --data dev_data eval_data --backbone logmel",
        formatter_class=RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", type=place, default=[], metavar="ROOT",
        help="data roots: folders of <machine>/<train|test>/*.wav, a machine's own folder, or "
        "manifests (.csv, .parquet)")  # fmt: skip
    _add_backbones(parser)
    add("--machine", nargs="+", default=[], metavar="NAME", help="only these (default: all)")
    add("--split", nargs="+", choices=SPLITS, default=[], help="only these (default: both)")
    add("--supplemental", nargs="+", choices=SUPPLEMENTS, default=[],
        help="take these clips of supplemental/ (2025) as normal training clips too")  # fmt: skip
    add_hearing(parser)
    add_engine(parser)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: %(default)s)")
    add("--dtype", choices=DTYPES, default=DTYPES[0], help="of the network (default: %(default)s)")
    add("--batch-size", type=_batch_size, default="auto", metavar="N",
        help="clips a forward pass (default: auto, measured where it pays)")  # fmt: skip
    add("--longest", type=_seconds, default=LONGEST, metavar="SECONDS",
        help="leave out what is longer and not cut by --window (default: %(default)g)")  # fmt: skip
    add("--strict", action="store_true", help="stop at the first clip that cannot be used")
    add_cache_dir(parser)
    return parser


def _add_backbones(parser: ArgumentParser) -> None:
    """Add what says which tables are made of a clip."""
    add = parser.add_argument
    add("--backbone", nargs="+", default=["logmel"], metavar="NAME[:VARIANT]",
        help=f"{', '.join(registry.names())} (default: logmel)")  # fmt: skip
    add("--weights", nargs="+", default=[], metavar="FILE",
        help="the backbone's checkpoint: a file or a name of extractors.weights list (default: its "
        "usual one, fetched at first use); random to time a model without one")  # fmt: skip
    add("--accept-weights", nargs="+", default=[], metavar="SHA256",
        help="use a file of this hash though another is published under its name")  # fmt: skip
    add_offline(parser)
    add("--doctor", action="store_true",
        help="see whether libraries, device, folders, weights and backbones work")  # fmt: skip
    add("--layers", nargs="+", default=[], metavar="N",
        help="layers to take, all from one pass (default: the backbone's own)")  # fmt: skip
    add("--pooling", nargs="+", default=[], metavar="NAME",
        help=f"{', '.join(pooling.names())} (default: the backbone's own)")  # fmt: skip
    add("--bands", nargs="+", default=[], metavar="WHAT",
        help=f"{' or '.join(pooling.BANDS)} them (default: keep of beats, else merge)")  # fmt: skip
    add("--concat", action="store_true", help="also write the backbones' tables joined into one")


def _tell_deviation(forward: Forward, clips: Sequence[Clip]) -> None:
    """Say how far the vectors in a smaller number format are from those in float32."""
    spec, cosines = forward.backbone.spec, []
    for clip in clips[:_COMPARED]:
        try:
            channel = forward.hearing.channel
            heard = read_audio(clip.path, spec.sample_rate, clip.span, channel).samples
            samples = forward.hearing.fit(heard, spec.sample_rate)
        except AsdError:
            continue  # it is named when its turn comes
        if samples.shape[-1] >= spec.min_samples:
            cosines.append(least_cosine(forward, samples[None]))
    if cosines:
        kind = "note" if min(cosines) >= _FAITHFUL else "warning"
        sys.stderr.write(
            f"{kind}: {spec.name} in {forward.outputs[0].dtype}: cosine to float32 at least "
            f"{min(cosines):.6f} on {len(cosines)} clips\n"
        )


def _listing(args: Namespace) -> Listing:
    listing = list_clips(args.data, args.supplemental)
    found = {clip.attributes.get("supplemental") for clip in listing.clips}
    if lacking := sorted(set(args.supplemental) - found):
        raise AsdError(f"--supplemental {lacking[0]}: no such clips in any <machine>/supplemental/")
    return listing


def _show(listing: Listing, outcome: Outcome) -> None:
    reports = outcome.reports
    for note in listing.notes:
        sys.stderr.write(f"note: {note}\n")
    faults = list(dict.fromkeys(map(str, listing.faults)))
    faults += dict.fromkeys(str(fault) for report in reports for fault in report.faults)
    removed = sorted({clip_id for report in reports for clip_id in report.removed})
    for line in dict.fromkeys(line for report in reports for line in report.cancelled()):
        sys.stderr.write(f"{line}\n")
    tell_some("left out", faults)
    tell_some("no longer in the data, removed", removed)
    tell_some("not finished, run again", outcome.lost)


def _extracted(args: Namespace, forwards: Sequence[Forward], clips: Sequence[Clip]) -> Outcome:
    if args.engine == RAY:
        try:  # an optional extra, of hundreds of megabytes
            from extractors.engines import ray_  # noqa: PLC0415
        except ImportError as error:
            raise AsdError(f"--engine ray: {error}; pip install 'machine-asd[ray]'") from error
        return ray_.extract(args, forwards, clips)
    return Outcome(extraction(args, forwards).run(clips))


def _summary(listing: Listing, report: Report, root: Path, recipe: Recipe) -> str:
    left_out = len(listing.faults) + len(report.faults)
    clips = f"{len(listing.clips)} clips"
    if files := len({clip.path for clip in listing.clips if clip.span}):
        clips += f", windows of {files} recordings among them"
    return (
        f"{clips}: {report.new} new, {report.changed} changed, "
        f"{report.unchanged} unchanged, {left_out} left out -> "
        f"{root / recipe.fingerprint} ({recipe})"
    )


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
        0; 1 where clips were left out, or the doctor found a fault; 2 for a mistake in the call.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    apply_offline(args)
    if args.doctor:
        # The hub's client comes with it, which reads once whether it is offline.
        from extractors.doctor import diagnose  # noqa: PLC0415

        return diagnose(args.device, args.cache_dir)
    check_engine(args)
    if not args.data:
        parser.error("--data is needed: the data roots")
    listing = _listing(args)
    if args.strict and listing.faults:
        raise AsdError(str(listing.faults[0]))
    chosen = hearings(args)[0].cut(listing.only(args.machine, args.split))
    forwards = load_forwards(args, own_device(args))
    if args.dtype != DTYPES[0]:
        for forward in forwards:
            _tell_deviation(forward, chosen.clips)
    store = Store(args.cache_dir)
    outcome = _extracted(args, forwards, chosen.clips)
    _show(chosen, outcome)
    for forward, report in zip(forwards, outcome.reports, strict=True):
        for output in forward.outputs:
            print(_summary(chosen, report, store.root, output.recipe))
    if args.concat and outcome.lost:
        sys.stderr.write("note: nothing is joined before every table is finished\n")
    elif args.concat:
        joined = concatenation([forward.outputs[0].recipe for forward in forwards])
        tables = store.concatenate(joined)
        print(f"{tables} tables joined -> {store.root / joined.fingerprint} ({joined})")
    faulty = chosen.faults or outcome.lost or any(report.faults for report in outcome.reports)
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())

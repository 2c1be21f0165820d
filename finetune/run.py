"""Command line of fine-tuning: training clips in, a weights file a seed out."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from cache.arguments import from_arguments
from cache.errors import AsdError, guarded, tell_some
from extractors import choices
from extractors.clips import Clip, list_clips
from extractors.device import find_device
from extractors.hearing import Heard, Hearing, hearings
from extractors.offline import apply_offline
from finetune.history import History
from finetune.labelling import Labelling
from finetune.making import Made, Maker, Settings, load_tunable
from finetune.optimising import Portions, Rates
from finetune.options import parser
from finetune.state import Row
from finetune.synthesis.manifest import list_pseudo_anomalies
from finetune.training import Course
from finetune.waveforms import Room, Waveforms, read_waveforms

_GIB = 2**30


def _settings(args: Namespace) -> Settings:
    name, _ = choices.split_name(args.backbone)
    given = [args.weights] if args.weights else []
    source = choices.source(given, args.backbone, [name], args.accept_weights)
    labelling = Labelling(
        args.labels, tuple(args.attributes), args.pseudo_labels, args.groups or "",
        args.min_clips, args.pseudo_classes == "machine",
    )  # fmt: skip
    rates = Rates(
        args.learning_rate, args.head_learning_rate, args.layer_decay, args.weight_decay,
        args.warmup, args.schedule, args.clip_norm,
    )  # fmt: skip
    return Settings(
        name, source, labelling, rates,
        Portions(args.batch_size, args.accumulate, args.dtype),
        Course(args.epochs, args.patience, args.watch),
        layer=args.layer, embedding=args.embedding, size=args.size, head=args.head,
        scope=args.train, sampling=args.sampling, augment=tuple(args.augment), crop=args.crop,
        held=args.hold_out, hearing=_hearing(args),
    )  # fmt: skip


def _hearing(args: Namespace) -> Hearing:
    ways = hearings(from_arguments(Heard, args))
    if len(ways) > 1:
        raise AsdError("--channel both: one model hears one channel; train one of each")
    return ways[0]


def _check(args: Namespace) -> None:
    if args.patience is not None and not args.hold_out:
        raise AsdError("--patience watches held-out clips: give --hold-out 0.1, say")
    if args.labels != "attributes" and (args.attributes or args.pseudo_labels):
        raise AsdError("--attributes and --pseudo-labels belong to --labels attributes")
    if args.groups and args.labels != "groups":
        raise AsdError("--groups belongs to --labels groups")
    if len(set(args.seeds)) < len(args.seeds):
        raise AsdError(f"--seeds: {', '.join(map(str, args.seeds))} holds one twice")


def _training_clips(args: Namespace) -> list[Clip]:
    """List training clips; the test clips' files are never opened."""
    listing = _hearing(args).cut(list_clips(args.data).only(args.machine, ["train"]))
    for note in listing.notes:
        sys.stderr.write(f"note: {note}\n")
    tell_some("left out", listing.faults)
    return [*listing.clips, *_pseudo_anomalies(args, listing.clips)]


def _pseudo_anomalies(args: Namespace, clips: Sequence[Clip]) -> list[Clip]:
    """List the pseudo-anomalies of the machine types that are learnt."""
    machines = {clip.section.machine_type for clip in clips}
    found = [clip for root in args.pseudo_anomalies for clip in list_pseudo_anomalies(root)]
    kept = [clip for clip in found if clip.section.machine_type in machines]
    if len(kept) < len(found):
        sys.stderr.write(f"note: {len(found) - len(kept)} pseudo-anomalies of other machines\n")
    if found and not kept:
        raise AsdError(f"no pseudo-anomalies of {', '.join(sorted(machines))}")
    return kept


def _path(out: Path, seed: int, seeds: Sequence[int]) -> Path:
    return out if len(seeds) == 1 else out.with_name(f"{out.stem}_seed_{seed}{out.suffix}")


def _summary(made: Made, waveforms: Waveforms) -> str:
    done = f"{len(made.history)} epochs" if made.is_new else "there already"
    last = made.history[-1] if made.history else {}
    told = ", ".join(f"{name} {last[name]:.3f}" for name in ("loss", "held_loss", "accuracy")
                     if name in last)  # fmt: skip
    return (
        f"{len(waveforms.clips)} clips, {len(made.classes)} classes: {done}, {told} -> {made.path}"
    )


def _told(path: Path, tensorboard: Path | None) -> Callable[[list[Row]], object]:
    return History(path.with_suffix(".csv"), tensorboard and tensorboard / path.stem).write


def _speaks() -> bool:
    """Tell whether this is the first of the processes that a launcher started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune a backbone.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where clips were left out; 2 for a mistake in the call.
    """
    args = parser().parse_args(argv)
    apply_offline(args)
    _check(args)
    settings, device = _settings(args), find_device(args.device)
    rate = load_tunable(settings, args.seeds[0], device).spec.sample_rate
    clips = _training_clips(args)
    room = Room(round(args.memory * _GIB), args.cache_dir)
    waveforms = read_waveforms(clips, rate, room, settings.hearing.channel)
    tell_some("left out", waveforms.faults)
    maker = Maker(settings, waveforms, device, args.overwrite)
    for seed in args.seeds:
        path = _path(args.out, seed, args.seeds)
        made = maker.make(path, seed, _told(path, args.tensorboard))
        if _speaks():
            if seed == args.seeds[0]:
                tell_some("note", made.notes)
            print(_summary(made, waveforms))
    return 1 if waveforms.faults else 0


if __name__ == "__main__":
    sys.exit(main())

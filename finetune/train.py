"""Fine-tuning: training clips to a weights file a seed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cache.base.errors import AsdError
from cache.base.progress import Progress, unseen
from extractors import backbones
from extractors.audio.hearing import hearings
from extractors.clips.listing import Clip, list_clips
from extractors.device import find_device
from extractors.embedding import models
from extractors.fetching.offline import apply_offline
from finetune.data.waveforms import MemoryRoom, read_waveforms
from finetune.loop.model_file import Maker, TrainingRecord, load_tunable
from finetune.loop.state import TrainingHistory
from finetune.request import TrainRequest
from finetune.synthesis.folder import list_pseudo_anomalies

_GIB = 2**30
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Result of a fine-tuning: a model a seed.

    Attributes
    ----------
    made
        A file a seed.
    clips
        How many were learnt from.
    faults
        Clips left out, each with the reason.
    notes
        How the data was read.
    """

    made: tuple[TrainingRecord, ...]
    clips: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def train(request: TrainRequest, told: Progress = unseen) -> TrainResult:
    """Fine-tune a backbone, once a seed; what is there already is not trained again.

    Parameters
    ----------
    request
        Which data, which model, how, where.
    told
        How many clips are decoded, and then how many steps of each seed are done.

    Raises
    ------
    AsdError
        If the data or weights are not to be had, a file holds another training, or training fails.
    """
    apply_offline(request)
    device, named = find_device(request.device), request.settings.backbone
    name, _ = backbones.split_name(named)
    weights = [request.weights] if request.weights else []
    source = models.source_of(weights, named, [name], request.accept_weights)
    (hearing,) = hearings(request.heard)
    settings = replace(request.settings, backbone=name, source=source, hearing=hearing)
    rate = load_tunable(settings, request.seeds[0], device).spec.sample_rate
    listing = settings.hearing.cut(list_clips(request.data).only(request.machine, ["train"]))
    clips = [*listing.clips, *_pseudo_anomalies(request, listing.clips)]
    room = MemoryRoom(round(request.memory * _GIB), request.cache_dir)
    waveforms = read_waveforms(clips, rate, room, settings.hearing, told)
    maker = Maker(settings, waveforms, device, request.overwrite, told)
    made = []
    for seed in request.seeds:
        path = request.path(seed)
        folder = request.tensorboard and request.tensorboard / path.stem
        made.append(maker.make(path, seed, TrainingHistory(path.with_suffix(".csv"), folder).write))
    faults = dict.fromkeys(map(str, [*listing.faults, *waveforms.faults]))
    return TrainResult(tuple(made), len(waveforms.clips), tuple(faults), tuple(listing.notes))


def _pseudo_anomalies(request: TrainRequest, clips: Sequence[Clip]) -> list[Clip]:
    """List the pseudo-anomalies of the machine types that are learnt."""
    machines = {clip.section.machine_type for clip in clips}
    found = [clip for root in request.pseudo_anomalies for clip in list_pseudo_anomalies(root)]
    kept = [clip for clip in found if clip.section.machine_type in machines]
    if len(kept) < len(found):
        _LOG.info("%d pseudo-anomalies of other machines", len(found) - len(kept))
    if found and not kept:
        raise AsdError(f"--pseudo-anomalies holds none of {', '.join(sorted(machines))}")
    return kept

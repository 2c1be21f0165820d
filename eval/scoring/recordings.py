"""Recordings as a program gives them, files, folders, data roots or arrays, and where a bank's lie."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.text import masked, parse_json
from cache.files.atomic import write_atomic
from cache.heard import SIGNAL_SUFFIXES, split_id
from cache.table import Section
from extractors.clips.clip import RECORDING_SUFFIXES, Clip, Listing

_LOG = logging.getLogger(__name__)
Samples: TypeAlias = NDArray[Any]
Sound: TypeAlias = str | PathLike[str] | Samples | tuple[Samples, float]
Sounds: TypeAlias = Sound | Sequence[Sound]

_RECORDINGS = "recordings.json"  # in a bank's folder: where the normal recordings lie


class Recordings:
    """Lists recordings of any kind as clips of one section.

    Parameters
    ----------
    folder
        Where arrays are written, so that they are read and refused as every recording is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counted = 0  # arrays written

    def clips(
        self, sounds: Sounds, section: Section, split: str, domain: str | None, rate: float | None
    ) -> Listing:
        """List recordings; see `eval.detector.Detector.fit`."""
        found = []
        for sound in _each(sounds):
            if isinstance(sound, str | PathLike):
                found.append(_of_path(Path(sound), section, split, domain))
            else:
                samples, own = sound if isinstance(sound, tuple) else (sound, rate)
                path = self._written(np.asarray(samples), own)
                found.append(Listing((Clip(path.name, path, section, split, domain),)))
        clips = [clip for listing in found for clip in listing.clips]
        if rate is not None:
            clips = [_with_rate(clip, rate) for clip in clips]
        if not clips:
            raise AsdError(
                f"no recordings in {sounds!r}: expected {', '.join(RECORDING_SUFFIXES)} at any depth"
            )
        return Listing(tuple(clips), tuple(fault for listing in found for fault in listing.faults))

    def _written(self, samples: Samples, rate: float | None) -> Path:
        """Write an array as a file."""
        import soundfile  # noqa: PLC0415 (where arrays come)

        if rate is None or rate != int(rate) or rate <= 0:
            raise AsdError(f"an array comes with rate={rate}: give its sampling rate, whole Hz")
        if samples.ndim not in (1, 2) or samples.size == 0:
            raise AsdError(f"an array of shape {samples.shape}: expected (samples,) or (samples, channels)")
        if not np.issubdtype(samples.dtype, np.floating):
            if not np.issubdtype(samples.dtype, np.signedinteger):
                raise AsdError(f"an array of {samples.dtype}: expected floats in [-1, 1] or signed integers")
            samples = samples / -float(np.iinfo(samples.dtype).min)
        path = self._folder / f"array_{self._counted:06d}.wav"
        self._counted += 1
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, int(rate), subtype="FLOAT")
        return path


def recordings_of(bank: Path) -> dict[str, str]:
    """Where the normal recordings of a bank lie, by id; empty where it does not say."""
    try:
        found: dict[str, str] = parse_json((bank / _RECORDINGS).read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def remember(bank: Path, recordings: Mapping[str, str]) -> None:
    """Note beside a bank where normal recordings lie, to be compared with; those noted before stay.

    Parameters
    ----------
    bank
        Its folder.
    recordings
        Clip id, of a window too, to the recording's path.
    """
    told = {
        split_id(clip_id)[0]: path if "://" in path else str(Path(path).resolve())
        for clip_id, path in recordings.items()
    }
    text = json.dumps({**recordings_of(bank), **told}, indent=0)
    write_atomic(bank / _RECORDINGS, masked(text).encode())


def _of_path(path: Path, section: Section, split: str, domain: str | None) -> Listing:
    """List the clips of a file, of a folder of files, or of a data root."""
    from extractors.clips.folders import audio_files, is_machine, visible_folders  # noqa: PLC0415
    from extractors.clips.manifest import is_manifest  # noqa: PLC0415

    if not path.is_dir():
        if is_manifest(path):
            return _of_root(path, section, split, domain)
        if path.suffix.lower() in RECORDING_SUFFIXES and path.is_file():
            return Listing((Clip(path.name, path, section, split, domain),))
        raise AsdError(f"{path} is neither a folder, a manifest nor one of {', '.join(RECORDING_SUFFIXES)}")
    if is_machine(path) or any(map(is_machine, visible_folders(path))):
        return _of_root(path, section, split, domain)
    files, faults, _ = audio_files(path)
    names = [f"{path.resolve().name}/{file.relative_to(path).as_posix()}" for file in files]
    clips = [Clip(name, file, section, split, domain) for name, file in zip(names, files, strict=True)]
    return Listing(tuple(clips), tuple(faults))


def _of_root(root: Path, section: Section, split: str, domain: str | None) -> Listing:
    """List the clips of a split of a data root's one machine, or of the one of this name."""
    from extractors.clips.listing import list_clips  # noqa: PLC0415 (where layouts are read)

    listing = list_clips([root])
    for note in listing.notes:
        _LOG.info("%s", note)
    held = [clip for clip in listing.clips if clip.split == split]
    machines = {clip.section: str(clip.section) for clip in held}
    if len(machines) > 1:
        named = (section.machine_type, str(section))
        machines = {s: t for s, t in machines.items() if s.machine_type in named or t in named}
    if len(machines) != 1:
        what = "normal" if split == "train" else "new"
        known = sorted({str(clip.section) for clip in held})
        if known:
            raise AsdError(
                f"{root} holds {', '.join(known)}, and a detector is of one machine: name it, "
                f"machine={known[0].partition('/')[0]!r}, or give its own folder"
            )
        raise AsdError(
            f"{root} is read as a data root and holds no {what} recordings of a machine; for "
            f"{'train/ or normal/' if split == 'train' else 'test/ or new/'} give that folder itself"
        )
    own = [replace(clip, section=section, domain=domain or clip.domain) for clip in held
           if clip.section in machines]  # fmt: skip
    return Listing(tuple(own), listing.faults)


def _with_rate(clip: Clip, rate: float) -> Clip:
    """Tell a file of numbers its rate, unless a manifest told another; sound has its own."""
    if clip.path.suffix.lower() not in SIGNAL_SUFFIXES or clip.signal.rate:
        return clip
    if rate != int(rate) or rate <= 0:
        raise AsdError(f"rate={rate}: expected whole Hz above 0")
    return replace(clip, signal=replace(clip.signal, rate=int(rate), own=True))


def _each(sounds: Sounds) -> Sequence[Sound]:
    """Tell one recording from a list of them."""
    if isinstance(sounds, str | PathLike | np.ndarray):
        return [sounds]
    if isinstance(sounds, tuple) and len(sounds) == 2 and np.isscalar(sounds[1]):
        return [cast(tuple[Samples, float], sounds)]
    return list(cast(Sequence[Sound], sounds))

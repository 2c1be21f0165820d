"""``--dtype auto``: a smaller number format where it pays and scores rank as they do in float32.

Whether a format is faster depends on the processor, and whether it is good enough on the model and the
recordings. So both are measured, once, and kept in the cache folder beside the plans. What is compared are
scores, not vectors: a direction that moves a vector little may still turn two clips' order around.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.base.text import parse_json
from cache.files import places
from cache.files.atomic import write_atomic
from cache.store import Store
from extractors.audio.decode import read_audio
from extractors.clips.listing import Clip
from extractors.embedding.embedder import Forward, Output, Samples
from extractors.embedding.ranges import bring, carry
from extractors.embedding.throughput import fastest, machine_key, rate, use, usual
from extractors.request import DTYPES, INT8

FORMATS = "formats.json"  # in the cache folder
WORTH = 1000  # clips to embed; fewer take hardly longer than the measurement
_FEWEST = 16  # clips to calibrate on and to compare, where integers were asked for
CLIPS = 24  # references, as many others, and as many disturbed ones
_GAIN = 1.3  # times float32's pace that a format must reach
_RHO = 0.999  # least rank correlation of scores
_POINTS = 0.2  # most that the area under the ROC curve may move, of 100
_ROUNDS = 3
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What was measured of a format against float32.

    Attributes
    ----------
    gain
        Clips a second over float32's.
    rho
        Spearman's rank correlation of the scores; 0 where the gain was too small to look.
    points
        By how much the area under the ROC curve moves, of 100.
    """

    gain: float
    rho: float = 0.0
    points: float = 100.0

    @property
    def accepted(self) -> bool:
        """Whether it is faster and ranks the same."""
        return self.gain >= _GAIN and self.alike

    @property
    def alike(self) -> bool:
        """Whether it ranks the same."""
        return self.rho >= _RHO and self.points <= _POINTS

    def __str__(self) -> str:
        told = f"{'taken' if self.accepted else 'refused'}: {self.gain:.2f} times float32's pace"
        if self.gain >= _GAIN:
            told += f", rank correlation of scores {self.rho:.5f}, AUC moved by {self.points:.2f} points"
        return told


def settled(forward: Forward, clips: Sequence[Clip], store: Store) -> Forward:
    """Choose the number format of a model's tables.

    Tables that the store has go first: bank and query are never of two formats. Then a verdict that was
    kept for this machine, model and outputs; then, where there is enough to do, a measurement. In any
    other case it is float32.

    Parameters
    ----------
    forward
        With outputs in float32.
    clips
        What is to be embedded; a section's training clips are measured on.
    store
        Where the tables go, and the verdicts.
    """
    spec = forward.backbone.spec
    formats = {
        dtype: replace(forward, outputs=[replace(output, dtype=dtype) for output in forward.outputs])
        for dtype in DTYPES
    }
    for dtype, each in formats.items():
        if any(store.tables(output.recipe) for output in each.outputs):
            _LOG.info("%s in %s, as its tables are", spec.name, dtype)
            return each
    if spec.arrays or spec.weights is None:
        return forward  # no network
    tried = [dtype for dtype in DTYPES[1:] if dtype == "bfloat16" or forward.device.type == "cuda"]
    for dtype in tried:
        verdict = _verdict(store, formats[dtype], partial(_measured, forward, formats[dtype], clips))
        if verdict is None:
            return forward
        _LOG.info("%s: %s is %s", spec.name, dtype, verdict)
        if verdict.accepted:
            return formats[dtype]
    return forward


def _verdict(store: Store, smaller: Forward, measure: Callable[[], Verdict | None]) -> Verdict | None:
    """Give the verdict that was kept of this machine, model and outputs, or measure and keep it."""
    tables = " ".join(output.recipe.fingerprint for output in smaller.outputs)
    verdicts, key = verdicts_in(store.root), f"{machine_key(smaller)}, tables {tables}"
    if key not in verdicts:
        verdict = measure()
        if verdict is None:
            return None
        verdicts[key] = verdict
        known = {name: asdict(each) for name, each in verdicts.items()}
        write_atomic(store.root / FORMATS, json.dumps(known, indent=1).encode())
    return verdicts[key]


def _measured(forward: Forward, smaller: Forward, clips: Sequence[Clip]) -> Verdict | None:
    """Measure where there is enough to do, and to measure on."""
    samples = training_samples(forward, clips) if len(clips) >= WORTH else []
    return judged(forward, smaller, samples) if len(samples) >= 2 * CLIPS else None


def in_integers(forward: Forward, clips: Sequence[Clip], store: Store, *, asked: bool) -> Forward:
    """Let an engine compute in 8-bit integers, calibrated on training clips of the largest section.

    Tables that the store has go first, with the calibration that they were made with. Half of the clips
    calibrate; scores of the other half, as they are and disturbed, must rank as in float32.

    Parameters
    ----------
    forward
        Of an engine of `GRAPHS`, in float32.
    clips, store
        As in `settled`.
    asked
        Whether it was asked for, however fast it is; else float32 stays unless it pays.

    Raises
    ------
    AsdError
        Where it was asked for: if scores rank otherwise, or there are too few clips to tell.
    """
    name = forward.backbone.spec.name
    if known := _calibration_in(store, forward.outputs):
        _LOG.info("%s in int8, as its tables are", name)
        smaller = _calibrated(forward, known)
        bring(smaller.outputs[0].recipe, store.root)
        return smaller
    if not asked and any(store.tables(each.recipe) for each in forward.outputs):
        return forward
    samples = training_samples(forward, clips) if asked or len(clips) >= WORTH else []
    least = _FEWEST if asked else 2 * CLIPS
    if len(samples) >= least:
        return _in_integers(forward, samples, _of_largest(clips), store, asked=asked)
    if not asked:
        return forward
    raise AsdError(
        f"--dtype int8: {len(samples)} training clips of one length to calibrate and compare on, {least} are "
        "needed; use --dtype float32"
    )


def _in_integers(
    forward: Forward, samples: Sequence[Samples], train: Sequence[Clip], store: Store, *, asked: bool
) -> Forward:
    """Calibrate on the first half of samples of training clips, and judge by the other."""
    from extractors.embedding import graphs  # noqa: PLC0415 (extras)

    network, name = cast(graphs.GraphBackbone, forward.backbone), forward.backbone.spec.name
    told = "%s: int8 is calibrated on %d of %d training clips of %s, and compared on as many others"
    _LOG.info(told, name, len(samples) // 2, len(train), train[0].section)
    layers = sorted({each.layer for each in forward.outputs})
    smaller = _calibrated(forward, network.calibrated(samples[: len(samples) // 2], layers))
    measure = partial(judged, forward, smaller, samples, 0.0 if asked else _GAIN)
    verdict = cast(Verdict, _verdict(store, smaller, measure))
    if asked and not verdict.alike:
        raise AsdError(
            f"--dtype int8: scores of {name} rank otherwise than in float32: rank correlation "
            f"{verdict.rho:.5f} (at least {_RHO}), AUC moved by {verdict.points:.2f} points (at most "
            f"{_POINTS}); use --dtype float32"
        )
    _LOG.info("%s: int8 is %s", name, verdict)
    if not (asked or verdict.accepted):
        return forward
    carry(smaller.outputs[0].recipe, store.root)
    return smaller


def _calibrated(forward: Forward, calibration: str) -> Forward:
    """Give the same in integers."""
    from extractors.embedding import graphs  # noqa: PLC0415 (extras)

    network = cast(graphs.GraphBackbone, forward.backbone)
    outputs = [replace(each, dtype=INT8, calibration=calibration) for each in forward.outputs]
    backbone = graphs.GraphBackbone(network.backbone, network.engine, calibration)
    return replace(forward, backbone=backbone, outputs=outputs)


def _calibration_in(store: Store, outputs: Sequence[Output]) -> str:
    """Find the calibration of tables that the store has of these outputs in integers."""
    wanted = [output.recipe for output in outputs]
    for recipe in store.recipes():
        settings = dict(recipe.settings)
        format_, calibration = settings.pop("dtype", ""), settings.pop("calibration", "")
        if format_ == INT8 and replace(recipe, settings=tuple(sorted(settings.items()))) in wanted:
            return str(calibration)
    return ""


def judged(
    exact: Forward, smaller: Forward, samples: Sequence[Samples], least_gain: float = _GAIN
) -> Verdict:
    """Measure a format against float32, pass next to pass, and then how its scores rank.

    Parameters
    ----------
    exact, smaller
        The same but for the format.
    samples
        (T,) each, at least two; the first half are references, the rest are scored, once as they are
        and once disturbed.
    least_gain
        Below it nobody looks at the ranks.
    """
    plan = replace(usual(exact.backbone.spec, exact.device), batch=1)
    ways = [(each, fastest(each, [plan], samples[0])) for each in (exact, smaller)]
    paces = [[rate(forward, way, samples[0]) for forward, way in ways] for _ in range(_ROUNDS)]
    gain = float(np.median([other / one for one, other in paces]))
    if gain < least_gain:
        return Verdict(gain)
    half, rng = len(samples) // 2, np.random.default_rng(0)
    rest = [*samples[half:], *(disturbed(each, rng) for each in samples[half:])]
    labels = np.arange(len(rest)) >= len(samples) - half
    batches = [each[None] for each in (*samples[:half], *rest)]
    scores = []
    for forward, way in ways:
        use(forward, way)
        with plan.pool() as pool:
            vectors = [each.values for each in pool.map(forward, batches)]
        tables = [np.concatenate(of) for of in zip(*vectors, strict=True)]
        scores.append([_nearest(table[:half], table[half:]) for table in tables])
    pairs = [agreement(one, other, labels) for one, other in zip(*scores, strict=True)]
    return Verdict(gain, min(rho for rho, _ in pairs), max(points for _, points in pairs))


def disturbed(samples: Samples, rng: np.random.Generator) -> Samples:
    """Make a clip abnormal: played 3 to 10 % faster, with a faint tone above it, as a worn part has.

    Parameters
    ----------
    samples
        (T,) or (2, T).
    rng
        What chooses.
    """
    length = samples.shape[-1]
    places_ = np.arange(length) * (1 + rng.uniform(0.03, 0.1)) % (length - 1)
    tone = np.sin(2 * np.pi * rng.uniform(0.02, 0.2) * np.arange(length))  # of the sampling rate
    level = 0.3 * samples.std()
    moved = [np.interp(places_, np.arange(length), row) + level * tone for row in np.atleast_2d(samples)]
    return np.asarray(moved, dtype=np.float32).reshape(samples.shape)


def _nearest(bank: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """(Q,) distances to the nearest of (N, D), exact."""
    wide, others = bank.astype(np.float64), queries.astype(np.float64)
    return np.array([np.sqrt(((wide - query) ** 2).sum(axis=1)).min() for query in others])


def agreement(
    exact: NDArray[np.float64], other: NDArray[np.float64], abnormal: NDArray[np.bool_]
) -> tuple[float, float]:
    """Compare how two runs score the same clips.

    Parameters
    ----------
    exact, other
        (Q,) scores.
    abnormal
        (Q,), some of either kind.

    Returns
    -------
    tuple of float
        Spearman's rank correlation, and by how many points of 100 the area under the ROC curve differs.
        Where a score is not finite, or all are one, 0 and 100.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 -- takes a third of a second

    if not (np.isfinite(exact).all() and np.isfinite(other).all()) or 0 in (np.ptp(exact), np.ptp(other)):
        return 0.0, 100.0
    ranks = rankdata(exact), rankdata(other)
    rho = float(np.corrcoef(*ranks)[0, 1])
    count = int(abnormal.sum())
    # The rank-sum form of the area: Hanley and McNeil 1982, section II.
    sums = [each[abnormal].sum() - count * (count + 1) / 2 for each in ranks]
    return rho, float(100 * abs(sums[0] - sums[1]) / (count * (len(exact) - count)))


def training_samples(forward: Forward, clips: Sequence[Clip]) -> list[Samples]:
    """Read training clips of the largest section, of one length, evenly spread; few where few are."""
    own = _of_largest(clips)
    step = max(1, len(own) // (2 * CLIPS))
    spec, hearing, read = forward.backbone.spec, forward.hearing, list[Samples]()
    for clip in own[::step][: 2 * CLIPS]:
        with suppress(AsdError):  # it is named when its turn comes
            heard = read_audio(clip.path, spec.sample_rate, clip.span, hearing.channel).samples
            read.append(hearing.fit(heard, spec.sample_rate))
    lengths = Counter(each.shape for each in read if each.shape[-1] >= spec.min_samples)
    usual_shape = lengths.most_common(1)[0][0] if lengths else None
    return [each for each in read if each.shape == usual_shape]


def _of_largest(clips: Sequence[Clip]) -> list[Clip]:
    """Training clips of the section that has most."""
    train = [clip for clip in clips if clip.split == "train"]
    counts = Counter(clip.section for clip in train).most_common(1)
    return [clip for clip in train if clip.section == counts[0][0]]


def verdicts_in(folder: Path) -> dict[str, Verdict]:
    """Read the verdicts that a cache folder keeps; none where the file is missing or not ours."""
    try:
        stored = parse_json(places.read_bytes(folder / FORMATS))
        verdicts = {name: Verdict(**values) for name, values in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    numbers = {name: list(asdict(verdict).values()) for name, verdict in verdicts.items()}
    return {
        name: verdicts[name]
        for name, values in numbers.items()
        if all(isinstance(value, float) and math.isfinite(value) for value in values)
    }

"""Which clips an epoch shows, and how often each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache.base import options
from cache.base.errors import AsdError
from cache.base.options import option
from cache.table import SYNTHETIC
from extractors.clips.listing import Clip


class Draw(NamedTuple):
    """Clips that an epoch shows `total` times in all, each as often as any other or once more."""

    rows: NDArray[np.int64]
    total: int


class Sampler(options.Options, ABC):
    """Rule of an epoch; options out of range raise an `AsdError`."""

    def __call__(self, clips: Sequence[Clip], epoch: int, seed: int) -> NDArray[np.int64]:
        """Draw an epoch.

        Parameters
        ----------
        clips
            The training clips, N >= 1.
        epoch
            Number from 0.
        seed
            At least 0.

        Returns
        -------
        ndarray
            Indices of `clips` in the order of training. They follow from the arguments alone, so
            that a run that was stopped goes on with the same clips.
        """
        if not clips:
            raise AsdError("no clips to train on; give data with training clips")
        random = np.random.default_rng((seed, epoch))
        shown = []
        for draw in self.draws(clips):
            whole, rest = divmod(draw.total, len(draw.rows))
            shown += [np.tile(draw.rows, whole), random.choice(draw.rows, rest, replace=False)]
        return random.permutation(np.concatenate(shown))

    @abstractmethod
    def draws(self, clips: Sequence[Clip]) -> list[Draw]:
        """Divide the clips, each into one draw."""


@dataclass(frozen=True)
class Plain(Sampler):
    """Every clip once."""

    def draws(self, clips: Sequence[Clip]) -> list[Draw]:
        """See `Sampler.draws`."""
        return [Draw(np.arange(len(clips)), len(clips))]


@dataclass(frozen=True)
class BalancedSampler(Sampler):
    """Duplicates, until all conditions of a section are as frequent as its most frequent one.

    A condition is a domain with a combination of attributes (the 6th team of the 2023 challenge).
    An unknown domain is one of its own. Sections keep their own sizes; a section whose clips all
    have the same condition, and no target clips, stays as it is.
    """

    def draws(self, clips: Sequence[Clip]) -> list[Draw]:
        """See `Sampler.draws`."""
        draws = []

        def condition(clip: Clip) -> Hashable:
            # How a clip was made is not how its machine ran: a synthetic one fills up its group.
            known = {name: value for name, value in clip.attributes.items() if name != SYNTHETIC}
            return clip.domain, tuple(sorted(known.items()))

        for section in _grouped(clips, np.arange(len(clips)), lambda clip: clip.section):
            groups = _grouped(clips, section, condition)
            most = max(map(len, groups))
            draws += [Draw(group, most) for group in groups]
        return draws


@dataclass(frozen=True)
class Target(Sampler):
    """Duplicates of target clips, until they are a given share of their section.

    Source clips and clips of unknown domain are shown once. A section without target clips, with
    nothing else, or with a larger share already stays as it is.
    """

    share: float = option(0.5, "share of target clips in a section", least=0.01, most=0.99)

    def draws(self, clips: Sequence[Clip]) -> list[Draw]:
        """See `Sampler.draws`."""
        draws = []
        for section in _grouped(clips, np.arange(len(clips)), lambda clip: clip.section):
            groups = _grouped(clips, section, lambda clip: clip.domain == "target")
            sizes = {clips[rows[0]].domain == "target": len(rows) for rows in groups}
            wanted = round(self.share / (1 - self.share) * sizes.get(False, 0))
            for rows in groups:
                is_target = clips[rows[0]].domain == "target"
                draws.append(Draw(rows, max(len(rows), wanted) if is_target else len(rows)))
        return draws


SAMPLERS: options.Kinds[Sampler] = options.Kinds(
    "sampling", {"balanced": BalancedSampler, "plain": Plain, "target": Target}
)


def _grouped(
    clips: Sequence[Clip], rows: NDArray[np.int64], key: Callable[[Clip], Hashable]
) -> list[NDArray[np.int64]]:
    """Rows of clips with one key, in the order in which the keys first appear."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for row in rows.tolist():
        found[key(clips[row])].append(row)
    return [np.array(group, dtype=np.int64) for group in found.values()]

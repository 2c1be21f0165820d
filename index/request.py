"""What a bank is asked for: the one declaration of its options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache.base.errors import AsdError
from cache.base.options import Option, Options, documented, make, option, option_group, options_of
from cache.files.places import place
from cache.select import Selection, cache_dir_option
from cache.table import Section
from index.groups import GROUPINGS
from index.scorer import DEFAULT, Scorer, names, parse_member
from index.threshold import METHODS, share_of


@documented
@dataclass(frozen=True, kw_only=True)
class ThresholdOptions(Options):
    """How a threshold is learnt from training clips."""

    threshold: str = option("gamma", "how it is learnt from left-out training clips", choices=tuple(METHODS))
    percentile: float = option(90.0, "normal clips meant to lie below the threshold, %", metavar="P")
    false_alarms: str | None = option(
        None,
        "instead of --percentile, how often a normal clip may be flagged: 1/100 of the clips, or "
        "1/day, 1/week, 1/month ... at a clip every --clip-interval; refused where the training "
        "clips cannot show anything so rare",
        metavar="RATE",
    )
    clip_interval: float = option(
        60.0, "seconds from one clip to the next, for --false-alarms a day or month", least=0.001
    )
    group: str = option(
        "auto",
        f"which training clips were recorded together, and are left out together when the threshold "
        f"is learnt: {', '.join(GROUPINGS)}; auto goes by their sound",
        metavar="GROUPING",
    )

    def asked_percentile(self) -> float:
        """Percentile of the threshold.

        Raises
        ------
        AsdError
            If it is asked for in two ways, or no rate.
        """
        if self.false_alarms is None:
            return self.percentile
        if self.percentile != ThresholdOptions.percentile:
            raise AsdError(
                f"--percentile {self.percentile:g} and --false-alarms {self.false_alarms} say the "
                "same thing: leave one out"
            )
        return 100 * (1 - share_of(self.false_alarms, self.clip_interval))


@documented
@dataclass(frozen=True, kw_only=True)
class BuildRequest(ThresholdOptions):
    """Embedding tables, the scorer to fit to them, and where the bank goes.

    Beside its options: `scorer_options`, further options of the scorer by name; `sections`, to fit
    no others; `clips`, ids of training clips, to fit to no others; `alone`, whether what the bank holds
    of other sections goes.
    """

    scorer: str = option(DEFAULT, "{choices}", choices=names, named=True, metavar="NAME[:KEY=VALUE...]")
    bank: Path | None = option(
        None, "where to put it (default: in the cache folder)", read=place, metavar="DIR"
    )
    synthetic: bool = option(False, "let synthetic training clips into the bank (default: recordings alone)")
    rebuild: bool = option(
        False, "fit every section anew (default: not those that are there, of the same clips)"
    )
    cache_dir: Path = cache_dir_option()
    tables: Selection = option_group(Selection, "which tables (needed only where the cache holds several)")
    scorer_options: Mapping[str, Option] = field(default_factory=dict)
    sections: Collection[Section] | None = None
    clips: Collection[str] | None = None
    alone: bool = False

    def unfitted(self) -> Scorer:
        """Make the scorer, not fitted.

        Raises
        ------
        AsdError
            If there is none of that name, or it has no such options.
        """
        written = parse_member(self.scorer)
        values: dict[str, Any] = {**options_of(written), **self.scorer_options}
        return make(type(written), values)

    @property
    def scorer_name(self) -> str:
        """The scorer's name without its options."""
        return self.scorer.strip().partition(":")[0]

"""What a killed index build left: sections that need not be fitted again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

from cache.base.errors import AsdError
from cache.base.options import options_of
from cache.files.objects import Unreachable
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from index.bank import Bank
from index.fitted import FittedSection
from index.scorer import Scorer


@dataclass(frozen=True)
class FitRequest:
    """How every section of a bank is to be fitted.

    Attributes
    ----------
    store, recipe
        Where the training clips lie.
    scorer_name, scorer
        The scorer, not fitted, with its options.
    method, percentile
        Of the threshold.
    with_synthetic
        Whether synthetic training clips take part.
    grouping
        Which training clips are left out together, see `index.groups.group_clips`.
    clips
        Ids of the clips that take part; ``None`` for all.
    """

    store: Store
    recipe: Recipe
    scorer_name: str
    scorer: Scorer
    method: str
    percentile: float
    with_synthetic: bool
    grouping: str
    clips: Collection[str] | None = None

    def is_met_by(self, found: FittedSection) -> bool:
        """Whether a section was fitted so, to the same clips, and says to which."""
        limits = found.threshold
        made = (found.scorer_name, limits.method, limits.percentile, found.calibration.grouping)
        return (
            found.training == self.digest(found.section)
            and made == (self.scorer_name, self.method, self.percentile, self.grouping)
            and options_of(found.scorer) == options_of(self.scorer)
            and not (found.left_out if self.with_synthetic else found.synthetic)
        )

    def digest(self, section: Section) -> str | None:
        """Tell the training clips that take part from others; ``None`` where there is no table."""
        whole = self.store.digest(self.recipe, section, "train")
        if whole is None or self.clips is None:
            return whole
        held = self.store.keys(self.recipe, section, "train")
        taken = sorted(clip_id for clip_id in held if clip_id in self.clips)
        if len(taken) == len(held):
            return whole
        return hashlib.sha256(json.dumps([whole, taken]).encode()).hexdigest()

    def taken(self, table: EmbeddingTable) -> EmbeddingTable:
        """Give the rows of a training table that take part.

        Raises
        ------
        AsdError
            If that is none.
        """
        if self.clips is None:
            return table
        rows = [row for row, clip_id in enumerate(table.clip_ids) if clip_id in self.clips]
        if not rows:
            raise AsdError(f"{table.section}: none of its {len(table)} training clips is in the data")
        return table if len(rows) == len(table) else table.select(rows)

    def without_synthetic(self, table: EmbeddingTable) -> EmbeddingTable:
        """Give the table without its synthetic clips, unless they take part.

        Raises
        ------
        AsdError
            If there are no others.
        """
        rows = [row for row, key in enumerate(table.keys) if self.with_synthetic or not key.synthetic]
        if not rows:
            raise AsdError(f"{table.section} has only synthetic training clips; --synthetic fits to them")
        return table if len(rows) == len(table) else table.select(rows)


def fitted_before(bank: Bank, section: Section, wanted: FitRequest) -> FittedSection | None:
    """Give a bank's section if fitting it again would make the same of the same clips.

    Its files are read in full, so that a damaged section counts as not there. Files of an older
    section that a kill kept from being removed are removed.

    Returns
    -------
    FittedSection or None
        ``None`` where it is missing, damaged, fitted in another way or to other clips, or does
        not say to which.
    """
    if not bank.holds(section):
        return None
    try:
        found = bank.read(section, wanted.recipe)
    except Unreachable:
        raise  # says nothing of the section
    except AsdError:
        return None
    if not wanted.is_met_by(found):
        return None
    bank.tidy(section)
    return found

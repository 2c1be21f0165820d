"""The scoring stage: a bank and test tables in, a folder of submission files out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cache.errors import AsdError, listing, tell_some
from cache.facts import Remark, differences, remarks_of
from cache.facts import told as said_of
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.described import Described, promise_of, write_description
from eval.mapping import write_map
from eval.proxy import all_synthetic
from eval.scores import Submission, write_submission
from eval.scoring import labels_of, score_table, surplus, write_neighbours, write_windows
from eval.sums import write_sums
from eval.truth import Truth
from index.bank import Bank
from index.fitted import FittedSection

Told = Callable[[Submission, Mapping[str, Truth] | None], None]


@dataclass(frozen=True)
class Tested:
    """What is scored.

    Attributes
    ----------
    store
        Where the test tables lie.
    bank
        The fitted sections.
    recipe
        Of the tables, and of the bank.
    layout
        How embeddings are laid out on a map, see `eval.mapping.METHODS`; ``None`` for no map.
    machines
        Machine types to score; empty for all.
    """

    store: Store
    bank: Bank
    recipe: Recipe
    layout: str | None = "pca"
    machines: tuple[str, ...] = ()

    def train_table(self, section: Section) -> EmbeddingTable | None:
        """Training clips of a section, which scoring does not need, where the store has them."""
        there = self.store.holds(self.recipe, section, "train")
        return self.store.read(self.recipe, section, "train") if there else None

    def is_outdated(self, fitted: FittedSection) -> bool:
        """Whether a section was fitted to other training clips than the store has now."""
        try:
            digest = self.store.digest(self.recipe, fitted.section, "train")
        except AsdError:  # a damaged table, which scoring does not need
            return False
        return bool(fitted.training) and digest not in (None, fitted.training)

    def sections(self) -> list[Section]:
        """Sections that have test clips and are in the bank; the others are noted.

        Raises
        ------
        AsdError
            If there is none.
        """
        stored = self.store.tables(self.recipe)
        tested = self._wanted(table.section for table in stored if table.split == "test")
        held, root = self._wanted(self.bank.sections()), self.bank.root
        for sections, reason in (
            (tested - held, f"has test clips but is not in {root}: not scored"),
            (held - tested, "is in the bank but has no test clips: not scored"),
        ):
            tell_some("note", [f"{section} {reason}" for section in sorted(sections)])
        if not tested & held:
            raise AsdError(
                f"no test clips of {self.recipe} for the bank {root}, which holds "
                f"{listing(sorted(held))}; extract them with `python -m extractors.run` or name "
                "their folder with --data"
            )
        return sorted(tested & held)

    def _wanted(self, sections: Iterable[Section]) -> set[Section]:
        return {s for s in sections if not self.machines or s.machine_type in self.machines}


def score_sections(
    tested: Tested, sections: Sequence[Section], out: Path, command: str, told: Told
) -> None:
    """Score every section and write what the scores, the reasons and the system are.

    Parameters
    ----------
    tested
        What is scored.
    sections
        Of it, at least one.
    out
        The folder.
    command
        How to do it again.
    told
        Is called with each section's submission and what its table tells of the truth.
    """
    thresholds, proxies, written, outdated = {}, [], [], []
    cautions: dict[str, list[str]] = {}
    remarks: list[Remark] = []
    calibration: dict[str, dict[str, Any]] = {}
    surpluses: list[str] = []
    for section in tqdm(sections, unit="section", disable=None):
        fitted = tested.bank.read(section, tested.recipe)
        table = tested.store.read(tested.recipe, section, "test")
        proxies.append(all_synthetic(section, [key.synthetic for key in table.keys]))
        scored = score_table(fitted, table)
        written += write_submission(out, scored.submission)
        write_neighbours(out, fitted, table, scored)
        write_windows(out, fitted, table, scored)
        if tested.layout is not None:
            write_map(out, tested.train_table(section), table, tested.layout)
        told(scored.submission, labels_of(table))
        if tested.is_outdated(fitted):
            outdated.append(f"{section} has other training clips now than its bank was built from")
        facts_of = {key.clip_id: key.facts for key in table.keys}
        where, rate = f"{section} test", tested.recipe.heard_rate
        found = [*remarks_of(where, facts_of), *differences(where, facts_of, fitted.usual, rate)]
        remarks += found
        cautions[str(section)] = [*fitted.cautions().values(), *said_of(found)]
        if labels_of(table) is None:
            decisions = scored.submission.decisions
            flagged = 0 if decisions is None else int(decisions.sum())
            more = surplus(flagged, len(scored.submission.files), fitted.promised)
            surpluses += [f"{section}: {more}"] if more else []
        calibration[str(section)] = {**fitted.facts(), "promise": fitted.promise()}
        thresholds[str(section)] = float(scored.limit) if np.isfinite(scored.limit) else None
    facts = {
        "recipe": tested.recipe.fingerprint,
        "embeddings": str(tested.recipe),
        "bank": str(tested.bank.root),
        "command": command,
        "calibration": promise_of(calibration.values()),
    }
    title = f"{tested.recipe.backbone}, {fitted.scorer_name}"
    transductive = fitted.scorer.transductive
    described = Described(
        title, transductive, facts, thresholds, any(proxies), cautions, calibration
    )
    write_sums([*written, write_description(out, described)])
    tell_some("note", outdated)
    tell_some("note", said_of(remarks))
    tell_some("note", surpluses)
    tell_some(
        "note",
        [
            f"{section}: {text}"
            for section, texts in cautions.items()
            for text in texts
            if thresholds[section] is None
        ],
    )
    if outdated:
        sys.stderr.write("note: `python -m index.run` builds them anew, and leaves the others\n")

"""The scoring stage: a bank and test tables in, a folder of submission files out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cache.errors import AsdError
from cache.recipe import Recipe
from cache.store import Store
from cache.table import EmbeddingTable, Section
from eval.described import Described, write_description
from eval.judge import Labels
from eval.mapping import write_map
from eval.proxy import all_synthetic
from eval.scores import write_submission
from eval.scoring import labels_of, score_table, write_neighbours, write_windows
from eval.sums import write_sums
from index.bank import Bank


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
        stored = self.store.tables(self.recipe)
        there = any(table.section == section and table.split == "train" for table in stored)
        return self.store.read(self.recipe, section, "train") if there else None

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
        for section in sorted(tested - held):
            sys.stderr.write(f"note: {section} has test clips but is not in {root}: not scored\n")
        for section in sorted(held - tested):
            sys.stderr.write(f"note: {section} is in the bank but has no test clips: not scored\n")
        if not tested & held:
            raise AsdError(
                f"no test clips of {self.recipe} for the bank {root}, which holds "
                f"{', '.join(map(str, sorted(held)))}; extract them with `python -m "
                "extractors.run` or name their folder with --data"
            )
        return sorted(tested & held)

    def _wanted(self, sections: Iterable[Section]) -> set[Section]:
        return {s for s in sections if not self.machines or s.machine_type in self.machines}


def score_sections(tested: Tested, sections: Sequence[Section], out: Path, command: str) -> Labels:
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

    Returns
    -------
    Labels
        What the tables tell of the truth, section by section.
    """
    labels, thresholds, proxies, written = {}, {}, [], []
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
        labels[section] = labels_of(table)
        thresholds[str(section)] = float(scored.limit) if np.isfinite(scored.limit) else None
    facts = {
        "recipe": tested.recipe.fingerprint,
        "embeddings": str(tested.recipe),
        "bank": str(tested.bank.root),
        "command": command,
    }
    title = f"{tested.recipe.backbone}, {fitted.scorer_name}"
    transductive = fitted.scorer.transductive
    described = Described(title, transductive, facts, thresholds, any(proxies))
    write_sums([*written, write_description(out, described)])
    return labels

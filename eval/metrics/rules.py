"""How each year of the task turns the areas of sections into one official score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cache.base.errors import AsdError
from cache.table import Section

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """The official score of a year.

    Attributes
    ----------
    year
        The year's number; one rule may serve several.
    parts
        Figures of a section that enter the official score.
    harmonic
        Harmonic mean over all parts of all sections; else the arithmetic mean over the sections
        of a machine type and then over machine types.
    own_anomalies
        Whether a domain's normal clips meet that domain's anomalies only, else all anomalies of
        the section.
    source
        Where the rule is published.
    """

    year: int
    parts: tuple[str, ...]
    harmonic: bool
    own_anomalies: bool
    source: str

    @property
    def mean(self) -> str:
        """Name of the mean."""
        return "harmonic mean" if self.harmonic else "arithmetic mean"

    def official(self, sections: Sequence[Section], parts: Floats) -> Floats:
        """Give the official score.

        Parameters
        ----------
        sections
            S sections.
        parts
            (..., S, P) figures in [0, 1], in the order of `parts`.

        Returns
        -------
        ndarray
            (...) in [0, 1]; a harmonic mean is 0 as soon as one part is 0.
        """
        return self.from_terms((self.terms(parts) * self.shares(sections)).sum(axis=-1))

    def terms(self, parts: Floats) -> Floats:
        """Give what a section brings into the official score: (..., P) figures to (...)."""
        with np.errstate(divide="ignore"):
            return np.asarray((1 / parts if self.harmonic else parts).mean(axis=-1))

    def shares(self, sections: Sequence[Section]) -> Floats:
        """Weights of the sections' terms, (S,), which sum to 1."""
        groups = [self.group(section) for section in sections]
        counts = Counter(groups)
        return np.array([1 / counts[group] for group in groups]) / len(counts)

    def group(self, section: Section) -> str:
        """Name the sections over which terms are averaged before the groups are: all, or a type."""
        return "" if self.harmonic else section.machine_type

    def from_terms(self, total: Floats) -> Floats:
        """Give the official score from the weighted sum of terms."""
        with np.errstate(divide="ignore"):
            return np.asarray(1 / total if self.harmonic else total)


_DOMAINS = ("auc_source", "auc_target", "pauc")

RULES: Mapping[int, Rule] = MappingProxyType(
    {
        2020: Rule(
            2020, ("auc", "pauc"), harmonic=False, own_anomalies=False,
            source="Koizumi et al. 2020, arXiv 2006.05822, section 3: AUC and pAUC averaged over "
            "machine ids; the challenge ranked teams by their mean rank over machine types",
        ),
        2021: Rule(
            2021, ("auc_source", "auc_target", "pauc_source", "pauc_target"),
            harmonic=True, own_anomalies=True,
            source="Kawaguchi et al. 2021, arXiv 2106.04492: harmonic mean of the AUC and pAUC of "
            "every machine type, section and domain",
        ),
        2022: Rule(
            2022, _DOMAINS, harmonic=True, own_anomalies=False,
            source="Dohi et al. 2022, arXiv 2206.05876",
        ),
        2023: Rule(
            2023, _DOMAINS, harmonic=True, own_anomalies=False,
            source="Dohi et al. 2023, arXiv 2305.07828",
        ),
        2024: Rule(
            2024, _DOMAINS, harmonic=True, own_anomalies=False,
            source="Nishida et al. 2024, arXiv 2406.07250",
        ),
        2025: Rule(
            2025, _DOMAINS, harmonic=True, own_anomalies=False,
            source="Nishida et al. 2025, arXiv 2506.10097",
        ),
        2026: Rule(
            2026, _DOMAINS, harmonic=True, own_anomalies=False, source="as 2025",
        ),
    }
)  # fmt: skip
DEFAULT = RULES[2023]


def choose_rule(year: int | None, told: Sequence[int]) -> Rule:
    """Give the rule of a year.

    Parameters
    ----------
    year
        What the user said; ``None`` leaves it to the data.
    told
        Years that the form of the files tells, see `eval.results.names`.

    Returns
    -------
    Rule
        2023, whose rule holds from 2022 on, where nothing tells the year.

    Raises
    ------
    AsdError
        If the files tell of several years and the user of none.
    """
    years = set(told)
    if year is None and len(years) > 1:
        listed = " and ".join(map(str, sorted(years)))
        raise AsdError(f"files in the form of {listed}: say with --year by which rule to score")
    return RULES[year or next(iter(years), DEFAULT.year)]

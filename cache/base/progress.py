"""How far a stage is, and what the libraries log meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PACKAGES = ("cache", "extractors", "finetune", "index", "eval")  # whose loggers a command hears
Progress = Callable[[int, int], object]
"""Called with what is done and with all there is, in a stage's unit: clips, sections, epochs."""


def unseen(_done: int, _total: int) -> None:
    """Draw no progress."""


@dataclass
class Steps:
    """Counts what is done and tells it.

    Attributes
    ----------
    total
        All there is.
    told
        Called at the start and whenever something is done.
    done
        So far.
    """

    total: int
    told: Progress = unseen
    done: int = 0

    def __post_init__(self) -> None:
        self.told(self.done, self.total)

    def update(self, more: int) -> None:
        """Count `more` as done."""
        self.done += more
        self.told(self.done, self.total)


@contextmanager
def hearing(handler: logging.Handler) -> Iterator[None]:
    """Hand what our libraries log, notes and worse, to a handler for a while."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)

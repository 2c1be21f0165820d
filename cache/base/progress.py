"""How far a stage is, and what the libraries log meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PACKAGES = ("cache", "extractors", "finetune", "index", "eval")  # whose loggers a command hears
Progress = Callable[[int, int], object]
"""Called with what is done and with all there is, in a stage's unit: clips, sections, epochs."""

DRAWING = [False]  # whether bars are drawn: where a command was called, and may speak


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


@contextmanager
def underway(what: str, unit: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], object]]:
    """Tell of long work inside a library; a command draws a bar of it, a program hears nothing.

    Parameters
    ----------
    what
        In a word or two.
    unit
        What is counted, one of it; of bytes ``B``.
    total, done
        All there is, ``None`` where unknown, and what was done before.

    Yields
    ------
    callable
        To be called with how much more is done.
    """
    if not DRAWING[0]:
        yield lambda _more: None
        return
    from tqdm import tqdm  # noqa: PLC0415 -- a help page needs none

    with tqdm(
        desc=what, unit=unit, unit_scale=unit == "B", total=total, initial=done, disable=None, leave=False
    ) as drawn:
        yield drawn.update

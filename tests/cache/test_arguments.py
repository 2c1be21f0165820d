"""One declaration an option: a command line, a TOML table and a request made by hand agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from cache.base.arguments import Parser, add_arguments, from_arguments, from_table, keys
from cache.base.errors import AsdError
from cache.base.options import REQUIRED, Options, documented, option, option_group

listed = 0


def heavy_choices() -> list[str]:
    global listed  # noqa: PLW0603
    listed += 1
    return ["pump", "valve"]


@dataclass(frozen=True)
class Speed(Options):
    rate: float = option(1e-4, "how fast", least=0, flag="--learning-rate")
    warmup: int = option(100, "steps of rise", least=0)


@documented
@dataclass(frozen=True, kw_only=True)
class Order(Options):
    """What to do."""

    out: Path = option(REQUIRED, "where it goes", read=Path, metavar="FILE")
    parts: tuple[int, ...] = option((), "which parts", least=1)
    machine: tuple[str, ...] = option((), "{choices}", choices=heavy_choices, named=True)
    how: Literal["soft", "hard"] = option("soft", "in which way, 100 % of it")
    strict: bool = option(False, "stop early")
    report: bool = option(True, "write a report")
    patience: int | None = option(None, "epochs")
    speed: Speed = option_group(Speed, "training")
    place: str | None = option(None, "by its place", flag="EXPERIMENT")


def read(*arguments: str) -> Order:
    parser = Parser()
    add_arguments(parser, Order)
    return from_arguments(Order, parser.parse_args(arguments))


def test_a_command_line_and_a_table_make_the_same_request() -> None:
    words = "x.toml --out a/b --parts 1 2 --machine pump:k=2 --how hard --strict --no-report"
    given = read(*words.split(), "--learning-rate", "1", "--patience", "3")
    table = {
        "out": "a/b", "parts": [1, 2], "machine": ["pump:k=2"], "how": "hard", "strict": True,
        "report": False, "learning_rate": 1, "patience": 3, "experiment": "x.toml",
    }  # fmt: skip
    assert given == from_table(Order, table)
    assert given == Order(
        out=Path("a/b"), parts=(1, 2), machine=("pump:k=2",), how="hard", strict=True,
        report=False, speed=Speed(1.0), patience=3, place="x.toml",
    )  # fmt: skip
    assert read("--out", "a") == Order(out=Path("a"))
    assert read("--out", "a", "--strict", "--no-strict", "--report") == Order(out=Path("a"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patiense", "3"], "^unknown option --patiense; did you mean '--patience'"),
        (["--machine", "punp"], "^--machine punp: expected pump or valve; did you mean 'pump'"),
        (["--how", "softt"], "^--how softt: expected soft or hard; did you mean 'soft'"),
        (["--parts", "0"], "^--parts 0: expected a whole number from 1$"),
        (["--parts", "x"], "^--parts x: expected a whole number from 1$"),
        (["--learning-rate", "-1"], "^--learning-rate -1: expected a number from 0$"),
        (["--learning-rate", "nan"], "^--learning-rate nan: expected a number from 0$"),
        (["a", "b"], "^unknown value b"),
    ],
)
def test_mistakes_are_one_line_with_the_nearest(arguments: list[str], message: str) -> None:
    with pytest.raises(AsdError, match=message) as caught:
        read("--out", "a", *arguments)
    assert "\n" not in str(caught.value)


def test_what_is_needed_is_asked_for() -> None:
    with pytest.raises(AsdError, match="--out"):
        read()
    with pytest.raises(AsdError, match="--out is needed: where it goes"):
        from_table(Order, {})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"warmap": 3}, "^unknown key finetune.warmap; the nearest known key is warmup"),
        ({"warmup": "3"}, "^finetune.warmup '3': expected a whole number from 0"),
        ({"warmup": True}, "^finetune.warmup True: expected a whole number"),
        ({"warmup": 3.0}, "^finetune.warmup 3.0: expected a whole number"),
        ({"parts": 3}, "^finetune.parts: 3 is not a list"),
        ({"parts": [0]}, "^finetune.parts 0: expected a whole number from 1"),
        ({"how": "softt"}, "^finetune.how softt: .* did you mean 'soft'"),
        ({"out": "b"}, "^unknown key finetune.out"),
    ],
)
def test_tables_are_checked_like_command_lines(table: dict[str, object], message: str) -> None:
    with pytest.raises(AsdError, match=message):
        from_table(Order, table, "finetune.", out=Path("a"))


def test_choices_are_listed_only_when_they_are_shown() -> None:
    before = listed
    parser = Parser(prog="asd order")
    add_arguments(parser, Order)
    assert listed == before
    said = parser.format_help()
    assert listed == before + 1
    for text in ("usage: asd order", "pump, valve", "--how {soft,hard}", "100 % of it",
                 "(default: soft)", "(default: 0.0001)", "training:", "--no-report"):  # fmt: skip
        assert text in said
    assert "--no-strict" not in said


def test_docstrings_come_from_the_options_too() -> None:
    told = Order.__doc__ or ""
    assert told.startswith("What to do.\n\nAttributes\n----------\nout\n    where it goes.")
    assert len(keys(Order)) == len(set(keys(Order))) == 10


def test_requests_made_by_hand_are_checked() -> None:
    with pytest.raises(AsdError, match="parts 0 must lie in"):
        Order(out=Path("a"), parts=(0,))


@dataclass(frozen=True)
class Placed(Options):
    state: Path = option(Path("watch"), "by its place, with a default", flag="state")


@pytest.mark.parametrize(("arguments", "expected"), [([], "watch"), (["other"], "other")])
def test_a_path_that_is_told_by_its_place_keeps_its_default(arguments: list[str], expected: str) -> None:
    parser = Parser()
    add_arguments(parser, Placed)
    assert from_arguments(Placed, parser.parse_args(arguments)).state == Path(expected)

"""Options from text and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from cache.base.errors import AsdError
from cache.base.options import Options, Span, make, option, options_of, parse, text_of


@dataclass(frozen=True)
class Example(Options):
    share: float = option(0.5, "a share", least=0, most=1)
    count: int = option(3, "a count", least=1)
    is_on: bool = option(True, "a switch")
    kind: Literal["soft", "hard"] = option("soft", "a choice")
    span: Span = option(Span(0, 1), "a span", least=-10, most=10)
    inner: str = "not an option"


def read(text: str) -> Example:
    return parse(text, lambda _: Example)


def test_text_gives_every_kind_of_value() -> None:
    made = read("any:share=1e-1:count=7:is-on=false:kind=hard:span=-2..0.5")
    assert options_of(made) == {
        "share": 0.1,
        "count": 7,
        "is_on": False,
        "kind": "hard",
        "span": Span(-2, 0.5),
    }
    assert read("any") == Example()
    assert read(" any:span=-3 ").span == (-3, -3)
    assert text_of("any", made) == "any:share=0.1:count=7:is_on=false:kind=hard:span=-2.0..0.5"
    assert read(text_of("any", made)) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("any:depth=1", "Example has no option 'depth'; it has share, count, is_on, kind, span"),
        ("any:inner=x", "Example has no option 'inner'"),
        ("any:share", "share is ''; expected a number"),
        ("any:share=2", r"^'any:share=2': share 2.0 must lie in \[0, 1\]"),
        ("any:share=nan", "share nan must lie in"),
        ("any:count=1.5", "count is '1.5'; expected a number"),
        ("any:is-on=yes", "is_on is 'yes'; expected true or false"),
        ("any:kind=", "kind is ''; expected soft or hard"),
        ("any:span=1..2..3", "span is '1..2..3'; expected a number, or LOW..HIGH"),
        ("any:span=1..0", r"span 1.0..0.0 must lie in \[-10, 10\]"),
        ("any:span=1..11", "span 1.0..11.0 must lie in"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_known(text: str, message: str) -> None:
    with pytest.raises(AsdError, match=message):
        read(text)


def test_ranges_hold_for_values_too() -> None:
    with pytest.raises(AsdError, match="--count 0 must lie in"):
        make(Example, {"count": 0})
    with pytest.raises(AsdError, match="^share -1 must lie in"):
        Example(share=-1)

"""Command line of synthesis: training recordings in, a root of synthetic clips out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cache.base.console import Console, entry_point
from cache.base.errors import AsdError
from cache.base.options import REQUIRED, Options, documented, option, option_group, parse
from cache.base.text import counted
from cache.files.places import here, place
from cache.files.text_tables import read_text
from finetune.synthesis.method import Method, find, names
from finetune.synthesis.plan import KINDS, Order, plan
from finetune.synthesis.text_to_audio import TextToAudio, parse_phrases

_EPILOG = """what --as makes, always of training clips, never of test clips:
  normals    DIR/<machine>/train: more normal clips of the target domain
  anomalies  DIR/<machine>/pseudo_anomalies: clips to train against
  proxy      DIR/<machine>/train and test: a labelled root to compare scorers on. A part of the
             training clips is held out as test normals, and faults are made of these alone.
             Scores on it are scores on made-up faults, and every result of it says so.
"""
_ABOUT = """Make synthetic clips of training recordings, each marked as such and with a record of how
it was made."""
_EXAMPLES = """--data dev_data --to more --as normals --method mixup speed
--data dev_data --to faults --as anomalies --method bearing:level=-10..0 rubbing clipping
--data dev_data --to proxy --as proxy --method bearing harmonics"""


@documented
@dataclass(frozen=True)
class TextOptions(Options):
    """Options of methods that make sounds from text."""

    model: str | None = option(
        None, "of the hub, or a folder (default: the published one)", metavar="ID@COMMIT"
    )
    phrases: Path | None = option(
        None, "what may be wrong, a phrase a line (default: ten that come with the project)",
        read=place, metavar="FILE",
    )  # fmt: skip

    def applied(self, methods: Mapping[str, Method]) -> dict[str, Method]:
        """Give the methods from text these options.

        Raises
        ------
        AsdError
            If there is none of them and options are given, or the file holds no phrase.
        """
        changes: dict[str, Any] = {} if self.model is None else {"model": self.model}
        if self.phrases is not None:
            changes["phrases"] = parse_phrases(read_text(self.phrases))
            if not changes["phrases"]:
                raise AsdError(f"--phrases {self.phrases} holds no phrase; write one a line")
        of_text = {name: each for name, each in methods.items() if isinstance(each, TextToAudio)}
        if changes and not of_text:
            raise AsdError(f"--{min(changes)} is for sounds from text: --method audioldm2 or audioldm")
        return {**methods, **{name: replace(each, **changes) for name, each in of_text.items()}}


@documented
@dataclass(frozen=True, kw_only=True)
class SynthesisRequest(Options):
    """Training recordings, what is made of them, and where it goes."""

    data: tuple[Path, ...] = option(REQUIRED, "data roots in the task's layout", read=place, metavar="ROOT")
    to: Path = option(REQUIRED, "a new folder, or the same one again", read=here, metavar="DIR")
    kind: str = option(REQUIRED, "what is made, see below", choices=tuple(KINDS), flag="--as")
    methods: tuple[str, ...] = option(
        REQUIRED, "they take turns: {choices}", choices=names, named=True, flag="--method",
        metavar="NAME[:PARAMETER=LOW..HIGH]",
    )  # fmt: skip
    per_section: int = option(100, "clips to make a section", least=1, metavar="N")
    machine: tuple[str, ...] = option((), "only these machine types (default: all)", metavar="NAME")
    domain: str | None = option(
        None, "domain of the clips that normals are made of (default: target); whatever it is, they "
        "are named target clips", choices=("target", "source"), flag="--from",
    )  # fmt: skip
    held_out: float | None = option(
        None, "of a domain's training clips, that a proxy tests with (default: 0.3)", least=0.001,
        most=0.999, metavar="SHARE",
    )  # fmt: skip
    seed: int = option(0, "of everything random", least=0)
    text: TextOptions = option_group(TextOptions, "sounds from text (audioldm2, audioldm)")

    def order(self) -> Order:
        """Make the order that is meant.

        Raises
        ------
        AsdError
            If a method is unknown or named twice, or an option would do nothing.
        """
        owners = {"--from": (self.domain, "normals"), "--held-out": (self.held_out, "proxy")}
        for flag, (value, kind) in owners.items():
            if value is not None and self.kind != kind:
                raise AsdError(f"{flag} means nothing to --as {self.kind}; it is for --as {kind}")
        methods: dict[str, Method] = {}
        for text in self.methods:
            name = text.partition(":")[0]
            if name in methods:
                raise AsdError(f"--method {name} is named twice; give it one range")
            methods[name] = parse(text, find)
        chosen = {"domain": self.domain, "held_out": self.held_out}
        given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        return Order(self.kind, self.text.applied(methods), self.per_section, self.seed, **given)


@entry_point(SynthesisRequest, "finetune.synthesise", _ABOUT, _EXAMPLES, _EPILOG)
def main(request: SynthesisRequest, console: Console) -> int:
    """Make a synthetic root; exit code 1 where clips were left out."""
    from extractors.clips.listing import list_clips  # noqa: PLC0415
    from finetune.synthesis.folder import claim, recipe, write_clips  # noqa: PLC0415

    order = request.order()
    listing = list_clips(request.data).only(request.machine, ["train"])  # no test clip is ever opened
    clips = [clip for clip in listing.clips if not clip.synthetic]
    skipped = len(listing.clips) - len(clips)
    planned, notes = plan(order, clips)
    claim(request.to, recipe(order, clips), request.data)
    with console.progress("clip") as told:
        written = write_clips(request.to, planned, order.methods, told)
    synthetic = [f"{skipped} clips that are synthetic themselves"] if skipped else []
    left_out = [*listing.faults, *synthetic, *notes, *written.faults]
    console.some("left out", left_out)
    if not written.files:
        raise AsdError(f"no clip could be made in {request.to}; the lines above say why")
    lowered = f", {written.lowered} turned down so as not to clip" if written.lowered else ""
    console.made(
        f"{counted(written.made, 'clip')} made{lowered}, {len(written.files)} in all as {order.kind}: "
        f"{request.to}, manifest.csv says how",
        made=request.to, new=written.made, clips=len(written.files), kind=order.kind,
    )  # fmt: skip
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())

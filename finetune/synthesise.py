"""Command line of synthesis: training recordings in, a root of synthetic clips out."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.base.arguments import Parser
from cache.base.console import Console, console_of, parser_of
from cache.base.errors import AsdError, guarded
from cache.base.options import parse
from cache.files.text_tables import read_text
from extractors.clips.listing import Clip, list_clips
from finetune.synthesis.folder import FolderReport, claim, recipe, write_clips
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
_EXAMPLES = """--data dev_data --to more --as normals --method mixup speed
--data dev_data --to faults --as anomalies --method bearing:level=-10..0 rubbing clipping
--data dev_data --to proxy --as proxy --method bearing harmonics"""


def _parser() -> Parser:
    about = """Make synthetic clips of training recordings, each marked as such and with a record of how
it was made."""
    parser = parser_of("finetune.synthesise", about, _EXAMPLES)
    parser.epilog = f"{_EPILOG}\n{parser.epilog}"
    add = parser.add_argument
    add("--data", nargs="+", type=Path, required=True, metavar="ROOT",
        help="data roots in the task's layout")  # fmt: skip
    add("--to", type=Path, required=True, metavar="DIR", help="a new folder, or the same one again")
    add("--as", dest="kind", required=True, choices=tuple(KINDS), help="see below")
    add("--method", nargs="+", required=True, metavar="NAME[:PARAMETER=LOW..HIGH]",
        help=f"they take turns: {', '.join(names())}")  # fmt: skip
    add("--per-section", type=int, default=100, metavar="N",
        help="clips to make a section (default: %(default)s)")  # fmt: skip
    add("--machine", nargs="+", default=[], metavar="NAME",
        help="only these machine types (default: all)")  # fmt: skip
    add("--from", dest="domain", choices=("target", "source"),
        help="domain of the clips that normals are made of (default: target); whatever it is, they "
        "are named target clips")  # fmt: skip
    add("--held-out", type=float, metavar="SHARE",
        help="of a domain's training clips, that a proxy tests with (default: 0.3)")  # fmt: skip
    add("--seed", type=int, default=0, help="from 0 (default: %(default)s)")
    text = parser.add_argument_group("sounds from text (audioldm2, audioldm)")
    text.add_argument("--model", metavar="ID@COMMIT",
                      help="of the hub, or a folder (default: the published one)")  # fmt: skip
    text.add_argument("--phrases", type=Path, metavar="FILE",
                      help="what may be wrong, a phrase a line (default: ten that come "
                      "with the project)")  # fmt: skip
    return parser


def _order(args: Namespace) -> Order:
    _check_meant(args)
    methods: dict[str, Method] = {}
    for text in args.method:
        name, method = text.partition(":")[0], parse(text, find)
        if name in methods:
            raise AsdError(f"--method {name} is named twice; give it one range")
        methods[name] = _with_text_options(method, args)
    if args.per_section < 1 or args.seed < 0:
        raise AsdError(f"--per-section {args.per_section} --seed {args.seed}: from 1, and from 0, on")
    held_out = 0.3 if args.held_out is None else args.held_out
    if not 0 < held_out < 1:
        raise AsdError(f"--held-out {held_out}: a share between 0 and 1, such as 0.3")
    domain = args.domain or "target"
    return Order(args.kind, methods, args.per_section, args.seed, domain, held_out)


def _check_meant(args: Namespace) -> None:
    """Refuse options that would do nothing."""
    owners = {"--from": (args.domain, "normals"), "--held-out": (args.held_out, "proxy")}
    for option, (value, kind) in owners.items():
        if value is not None and args.kind != kind:
            raise AsdError(f"{option} means nothing to --as {args.kind}; it is for --as {kind}")


def _with_text_options(method: Method, args: Namespace) -> Method:
    changes: dict[str, Any] = {} if args.model is None else {"model": args.model}
    if args.phrases is not None:
        changes["phrases"] = parse_phrases(read_text(args.phrases))
        if not changes["phrases"]:
            raise AsdError(f"--phrases {args.phrases} holds no phrase; write one a line")
    if isinstance(method, TextToAudio):
        return replace(method, **changes)
    if changes and not any(text.startswith("audioldm") for text in args.method):
        raise AsdError(f"--{min(changes)} is for sounds from text: --method audioldm2 or audioldm")
    return method


def _training(args: Namespace) -> tuple[list[Clip], list[str]]:
    """List what clips are made of, and what was left out; no test clip is ever opened."""
    listing = list_clips(args.data).only(args.machine, ["train"])
    clips = [clip for clip in listing.clips if not clip.synthetic]
    made = len(listing.clips) - len(clips)
    notes = [f"{made} clips that are synthetic themselves"] if made else []
    return clips, [*map(str, listing.faults), *notes]


def _say(written: FolderReport, order: Order, root: Path, console: Console) -> None:
    lowered = f", {written.lowered} turned down so as not to clip" if written.lowered else ""
    console.made(
        f"{written.made} clips made{lowered}, {len(written.files)} in all as {order.kind}: {root}, "
        "manifest.csv says how",
        made=root, new=written.made, clips=len(written.files), kind=order.kind,
    )  # fmt: skip


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Make a synthetic root.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0; 1 where clips were left out; 2 for a mistake in the call.
    """
    args = _parser().parse_args(argv)
    console, order = console_of(args), _order(args)
    clips, left_out = _training(args)
    planned, notes = plan(order, clips)
    claim(args.to, recipe(order, clips), args.data)
    with console.progress("clip") as told:
        written = write_clips(args.to, planned, order.methods, told)
    console.some("left out", [*left_out, *notes, *written.faults])
    if not written.files:
        raise AsdError(f"no clip could be made in {args.to}; see what was left out")
    _say(written, order, args.to, console)
    return 1 if left_out or notes or written.faults else 0


if __name__ == "__main__":
    sys.exit(main())

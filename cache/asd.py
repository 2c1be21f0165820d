"""The command ``asd``: every command of the project by one verb, from any folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from cache.base.console import typed
from cache.base.errors import Main, guarded
from cache.base.options import nearest


@dataclass(frozen=True)
class Verb:
    """A verb: ``module:function`` that it calls, arguments put before the user's, what it does."""

    target: str
    does: str
    before: tuple[str, ...] = ()


# A line of the page that `asd` alone shows, to its verbs. Whoever adds a command adds it here.
VERBS: dict[str, dict[str, Verb]] = {
    "begin": {
        "demo": Verb("eval.verbs:demo", "made-up machines, start to end"),
        "doctor": Verb("extractors.run:main", "is all here?", ("--doctor",)),
    },
    "data": {
        "fetch": Verb("extractors.data.run:main", "a challenge's data", ("fetch",)),
        "check": Verb("eval.monitor.run:check_main", "is it whole? or clips by a bank"),
        "synthesise": Verb("finetune.synthesise:main", "made of training clips"),
    },
    "models": {
        "weights": Verb("extractors.weights.run:main", "checkpoints"),
        "train": Verb("finetune.run:main", "fine-tune a backbone"),
        "list": Verb("eval.verbs:list_names", "what may be chosen"),
    },
    "detect": {
        "extract": Verb("extractors.run:main", "clips to embeddings"),
        "choose": Verb("eval.verbs:choose", "which of these"),
        "build": Verb("index.run:main", "these to a bank"),
        "score": Verb("eval.run:main", "test clips with it"),
        "judge": Verb("eval.run:main", "submissions against the truth", ("--submission",)),
    },
    "at once": {
        "run": Verb("eval.run:main", "a whole experiment"),
        "baseline": Verb("eval.baselines.run:main", "the task's autoencoders"),
    },
    "daily": {
        "watch": Verb("eval.monitor.run:watch_main", "alarms"),
        "drift": Verb("eval.monitor.run:drift_main", "is the bank out of date?"),
        "serve": Verb("eval.monitor.run:serve_main", "HTTP"),
        "history": Verb("eval.monitor.run:history_main", "what was judged"),
        "open": Verb("eval.verbs:open_page", "the page"),
    },
    "folders": {
        "cache": Verb("cache.run:main", "embedding tables"),
        "bank": Verb("eval.monitor.bank_run:main", "what a bank holds; add, undo ..."),
        "export": Verb("eval.verbs:export", "a bank for NumPy alone"),
    },
}


def page() -> str:
    """Explain the command in ten lines."""
    lines = ["asd VERB ...: tells an abnormal machine sound from a normal one; asd VERB --help"]
    for title, verbs in VERBS.items():
        told = "; ".join(f"{name}: {verb.does}" for name, verb in verbs.items())
        lines.append(f"  {title:8} {told}")
    lines.append("example, a folder of normal recordings and one of new ones below my_data/pump:")
    lines.append("  asd extract --data my_data && asd build && asd score --out results")
    return "\n".join(lines)


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Call the command that a verb names.

    Parameters
    ----------
    argv
        The verb and its arguments; the process's own by default.

    Returns
    -------
    int
        The command's exit code; 2 where there is no such verb.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbs = {name: verb for group in VERBS.values() for name, verb in group.items()}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(page() + "\n")
        return 0
    name, *rest = arguments
    if name not in verbs:
        sys.stderr.write(
            f"error: asd has no verb {name!r}{nearest(name, list(verbs))}; `asd` alone lists all\n"
        )
        return 2
    verb = verbs[name]
    module, _, function = verb.target.partition(":")
    call: Main = getattr(import_module(module), function)
    in_group = name in verb.before  # the command of its own is one of several of a module
    with typed("asd" if in_group else f"asd {name}"):
        asks = "-h" in rest or "--help" in rest
        return call([*((name,) if in_group else () if asks else verb.before), *rest])


if __name__ == "__main__":
    sys.exit(main())

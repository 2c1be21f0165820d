"""Every comparison of speed with a peer, in one run and one table.

    python -m benchmarks.table [NAME ...] [--clones DIR]

Each comparison is a process of its own, one after the other; whatever it prints is shown as it comes, and
its rows stand together at the end. Give it a machine that does nothing else: the first line tells its load.
EAT, FISHER and CED are compared with their publishers' code, which is on no registry: DIR holds clones of
it; what is missing there is said, and left out.
"""

from __future__ import annotations

import argparse
import datetime as dt
import subprocess
import sys
from pathlib import Path

from benchmarks.timing import HEAD, machine

NAMES = ("frontend", "reading", "beats", "ast_", "panns", "encoders", "engines", "scoring")
CLONES = {  # backbone to its publisher's repository on GitHub
    "ced": "jimbozhang/hf_transformers_custom_model_ced",
    "eat": "cwx-worst-one/EAT",
    "fisher": "jianganbai/FISHER",
}


def rows(command: str, *places: Path) -> list[str]:
    """Run one comparison; return its lines below `HEAD`, with the command behind them.

    Parameters
    ----------
    command
        A module of ours and its arguments.
    places
        Further arguments, not shown in the table.
    """
    full = [sys.executable, "-u", "-m", *f"benchmarks.{command}".split(), *map(str, places)]
    found, below = [], False
    with subprocess.Popen(full, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            below = below or line.startswith(HEAD.partition("\n")[0])
            if below and line.startswith("| ") and line.rstrip() not in HEAD:
                found.append(f"{line.rstrip()} `{command}` |")
    if process.returncode:
        found.append(f"| {command} ended with {process.returncode} | | | | | | `{command}` |")
    return found


def encoders(clones: Path | None) -> list[str]:
    """Compare the encoders whose publishers' code is in a folder; say what is missing of the others."""
    found = []
    for name, repository in CLONES.items():
        clone = (clones or Path("DIR")) / repository.partition("/")[2]
        if clones is not None and clone.is_dir():
            found += rows(f"encoders {name}", clone)
            continue
        remedy = f"git clone https://github.com/{repository} {clone}"
        print(f"{name} is left out; to compare it: {remedy}; --clones {clones or 'DIR'}", flush=True)
    return found


def main() -> None:
    """Run all, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--clones", type=Path, metavar="DIR", help="with clones of publishers' code")
    args = parser.parse_args()
    begun, where = dt.datetime.now().astimezone(), machine()
    together = list[str]()
    for name in args.names:
        together += encoders(args.clones) if name == "encoders" else rows(name)
    took = (dt.datetime.now().astimezone() - begun).total_seconds() / 60
    head, rule = HEAD.splitlines()
    print(f"\n{begun.date()}, {where}; {took:.0f} minutes; now {machine().rpartition(', ')[2]}\n")
    print(f"{head} command |\n{rule} --- |", *together, sep="\n")


if __name__ == "__main__":
    main()

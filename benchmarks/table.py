"""Every comparison of speed with a peer, in one run and one table.

    python -m benchmarks.table [NAME ...]

Each comparison is a process of its own, one after the other; whatever it prints is shown as it comes, and
its rows stand together at the end. Give it a machine that does nothing else: the first line tells its load.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

from benchmarks.timing import HEAD, machine

NAMES = ("frontend", "reading", "beats", "ast_", "panns", "engines", "scoring")


def rows(name: str) -> list[str]:
    """Run one comparison; return its lines below `HEAD`, with the command behind them."""
    command = [sys.executable, "-u", "-m", f"benchmarks.{name}"]
    found, below = [], False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            below = below or line.startswith(HEAD.partition("\n")[0])
            if below and line.startswith("| ") and line.rstrip() not in HEAD:
                found.append(f"{line.rstrip()} `{name}` |")
    if process.returncode:
        found.append(f"| {name} ended with {process.returncode} | | | | | | `{name}` |")
    return found


def main() -> None:
    """Run all, then print the table."""
    begun, where = dt.datetime.now().astimezone().date(), machine()
    together = [row for name in sys.argv[1:] or NAMES for row in rows(name)]
    head, rule = HEAD.splitlines()
    print(f"\n{begun}, {where}; now {machine().rpartition(', ')[2]}\n\n{head} command |\n{rule} --- |")
    print("\n".join(together))


if __name__ == "__main__":
    main()

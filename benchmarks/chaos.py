"""Damage at random, in bounds: what was tried, and what came of it.

Every artefact that is read back is damaged many times over and read again: ``detected`` is an error
that names the file, ``harmless`` gives the very same values. Mutated sound files are read in a
process whose memory is bounded: each is read or refused. The chain's commands are killed, starved
and run beside each other, and on other data, in other places: see `tests.helpers.kills`,
`tests.helpers.system_faults`, `tests.helpers.together` and `tests.helpers.mixups`. Anything that is lost,
wrong or unnamed ends with exit code 1.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.chaos_chain import chain
from tests.helpers.damage import DETECTED, HARMLESS, artefacts, outcome
from tests.helpers.mutation import damage


def corrupted(cases: int, seed: int) -> bool:
    """Damage every artefact ``cases`` times; whether no damage went unnoticed."""
    found: dict[str, Counter[str]] = {}
    with TemporaryDirectory() as folder:
        with redirect_stdout(io.StringIO()):  # what the commands that made them said
            made = list(artefacts(Path(folder)))
        for artefact in made:
            rng = np.random.default_rng([seed, len(found)])
            seen = found.setdefault(artefact.kind, Counter())
            for _ in range(cases):
                result = outcome(artefact, damage(artefact.path.read_bytes(), rng))
                if result not in {DETECTED, HARMLESS}:
                    print(f"{artefact.path.name}: {result}")
                    result = "wrong or unnamed"
                seen[result] += 1
    print("| damaged | tried | detected | harmless | wrong or unnamed |\n|---|---|---|---|---|")
    for kind, seen in [*found.items(), ("all", sum(found.values(), Counter[str]()))]:
        counts = (seen.total(), seen[DETECTED], seen[HARMLESS], seen["wrong or unnamed"])
        print(f"| {kind} | {' | '.join(map(str, counts))} |")
    return not any(seen["wrong or unnamed"] for seen in found.values())


def heard(cases: int, seed: int) -> bool:
    """Read mutated sound files; whether each was read or refused."""
    command = [sys.executable, "-m", "tests.helpers.hostile_audio", str(cases), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        print(f"exit code {done.returncode}: {done.stderr[-2000:]}")
        return False
    told = json.loads(done.stdout)
    print("\n| sound files | tried | read | refused |\n|---|---|---|---|")
    for kind, seen in told["found"].items():
        print(f"| {kind} | {sum(seen.values())} | {seen['read']} | {seen['refused']} |")
    print(f"\nslowest {1000 * told['slowest_s']:.0f} ms, at most {told['peak_mib']:.0f} MiB of memory")
    return True


def main() -> int:
    """Run all of it."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100, help="of a file (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: %(default)s)")
    parser.add_argument("--sounds", type=int, default=2000, help="files (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=42, help="a command (default: %(default)s)")
    parser.add_argument("--fresh", type=int, default=2, help="whole processes (default: 2)")
    args = parser.parse_args()
    begin = time.perf_counter()
    with redirect_stderr(io.StringIO()):  # notes that checkpoints are no published ones
        sound = corrupted(args.cases, args.seed)
    sound &= heard(args.sounds, args.seed)
    sound &= chain(args.kills, args.fresh, args.seed)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{time.perf_counter() - begin:.0f} s, at most {most:.0f} MiB of memory")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())

"""The chain's commands killed, starved, run beside each other and on other data: what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tests.helpers.chain import environment
from tests.helpers.system_faults import mounting

# Whom each process kills: about as long each.
_SHARES = (["extraction", "index"], ["fine-tuning", "evaluation"], ["scoring new clips"])


class Part:
    """A process of the tests that tries something and tells of it as JSON.

    Parameters
    ----------
    module
        Which.
    arguments
        Its own.
    prefix
        What it is started with.
    """

    def __init__(self, module: str, arguments: Sequence[str] = (), prefix: Sequence[str] = ()) -> None:
        command = [*prefix, sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())

    def told(self) -> dict[str, Any] | None:
        """Wait for it; ``None`` where it failed."""
        text, _ = self._process.communicate()
        return None if self._process.returncode else json.loads(text)


def killed(told: dict[str, Any]) -> bool:
    """Print what came of kills; whether nothing was lost."""
    print(
        "\n| killed | kills | inside a write | whole processes | before the work | completed "
        "| rows lost | faults |\n|---|---|---|---|---|---|---|---|"
    )
    names = ("kills", "writing", "fresh", "early", "completed", "rows_lost")
    found = told["found"]
    rows = {name: [*(one[n] for n in names), len(one["faults"])] for name, one in found.items()}
    rows["all"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    return _shown(rows, found, told)


def starved(told: dict[str, Any]) -> bool:
    """Print what came of the system's faults; whether each ended as it should."""
    print(
        "\n| the system's fault | runs | worked | refused with the reason | ended by a library | "
        "next run whole | faults |\n|---|---|---|---|---|---|---|"
    )
    names = ("tried", "worked", "refused", "died", "finished")
    found = told["found"]
    rows = {name: [*(one[n] for n in names), len(one["faults"])] for name, one in found.items()}
    return _shown(rows, found, told)


def beside(told: dict[str, Any]) -> bool:
    """Print what came of processes at once; whether all was whole."""
    print("\n| at once | writers | readings meanwhile | faults |\n|---|---|---|---|")
    found = told["found"]
    rows = {n: [o["writers"], o["reads"], len(o["faults"])] for n, o in found.items()}
    return _shown(rows, found, told)


def mixed(told: dict[str, Any]) -> bool:
    """Print what came of other data, runs and places; whether none was taken for another."""
    print("\n| mixed up | tried | right | refused | faults |\n|---|---|---|---|---|")
    found = told["found"]
    names = ("tried", "right", "refused")
    rows = {name: [*(one[n] for n in names), len(one["faults"])] for name, one in found.items()}
    return _shown(rows, found, told)


def _shown(rows: dict[str, list[int]], found: dict[str, Any], told: dict[str, Any]) -> bool:
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(map(str, row))} |")
    print(f"\n{told['seconds']:.0f} s, at most {told['peak_mib']:.0f} MiB of memory a process")
    faults = [fault for one in found.values() for fault in one["faults"]]
    for fault in faults:
        print(f"fault: {fault}")
    return not faults


def chain(kills: int, fresh: int, seed: int) -> bool:
    """Kill, starve and run at once, in processes side by side; whether all went well."""
    options = ["--kills", kills, "--fresh", fresh, "--seed", seed, "--older", "--commands"]
    killing = [Part("tests.helpers.kills", [*map(str, options), *commands]) for commands in _SHARES]
    sound, prefix = True, mounting()
    if prefix is None:
        print("\nno file system may be mounted here: disks are not tried")
    else:
        sound = _judged(starved, [Part("tests.helpers.system_faults", prefix=prefix)])
    sound &= _judged(beside, [Part("tests.helpers.together")])
    sound &= _judged(mixed, [Part("tests.helpers.mixups", ["--rounds", "12", "--seed", str(seed)])])
    return _judged(killed, killing) and sound


def _judged(judge: Callable[[dict[str, Any]], bool], parts: Sequence[Part]) -> bool:
    """Judge what the parts found together; those that failed count as unsound."""
    told = [part.told() for part in parts]
    whole = [one for one in told if one is not None]
    if not whole:
        return False
    found = {name: one for each in whole for name, one in each["found"].items()}
    most = {name: max(each[name] for each in whole) for name in ("seconds", "peak_mib")}
    return judge({"found": found, **most}) and len(whole) == len(told)

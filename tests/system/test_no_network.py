"""The whole chain in a process that cannot reach another machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import PATIENCE, write_root

_HERE = Path(__file__).parents[2]
# Any connection or look-up but to this machine itself is written down, then refused.
_CHAIN = """
import sys
asked = []
def watch(event, arguments):
    where = None
    if event in ("socket.connect", "socket.sendto"):
        where = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        where = arguments[0]
    host = where[0] if isinstance(where, tuple) else where
    if event.startswith("socket.") and host not in (None, "", "127.0.0.1", "::1", "localhost"):
        asked.append((event, str(where)))
        raise OSError(f"no network here: {where}")
sys.addaudithook(watch)
from extractors.run import main as extract
from finetune.run import main as tune
from index.run import main as build
from eval.run import main as evaluate
from extractors.weights.run import main as weights
data, folder = sys.argv[1:3]
cache = ["--cache-dir", folder + "/cache"]
codes = [
    extract(["--backbone", "logmel", "--data", data, "--backbone", "logmel", *cache]),
    build(["--backbone", "logmel", *cache]),
    evaluate(["--backbone", "logmel", *cache, "--audio", data, "--out", folder + "/out"]),
    tune(["--data", data, "--backbone", "logmel:cnn", "--epochs", "1", "--size", "4",
          "--batch-size", "4", "--out", folder + "/m.safetensors", *cache]),
]
assert codes == [0, 0, 0, 0], codes
assert asked == [], asked
weights(["fetch", "mn04_as_mAP_432"])
print(len(asked), "asked")
"""


def chain(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    # Neither forbidden by the tests' own setting, nor hidden behind a proxy on this machine.
    environment = {
        name: text
        for name, text in os.environ.items()
        if name != "ASD_OFFLINE" and not name.lower().endswith("_proxy")
    }
    environment |= {"ASD_HOME": str(folder / "home")}
    return subprocess.run(
        [sys.executable, "-c", _CHAIN, root, folder],
        cwd=_HERE, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def test_nothing_asks_the_network_but_a_fetch(root: Path, tmp_path: Path) -> None:
    write_root(root, "pump")
    done = chain(root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1].split()[0]) > 0  # the watch sees what asks

"""Eight clients at once on `asd serve`: errors, how long an answer takes, whether memory stays flat.

usage: python -m benchmarks.serving WORK_DIR [SECONDS]

A bank of made-up clips is built in WORK_DIR and served on this machine. Each client posts a clip of 10 s as
soon as the last one was answered, and tries again where the queue was full, as its answer asks.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import requests
import soundfile

from eval.detector import Detector

CLIENTS, RATE, LENGTH = 8, 16_000, 10  # clients, Hz, s


def clip(seed: int) -> bytes:
    """Make a recording."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).normal(0, 0.1, LENGTH * RATE)
    soundfile.write(buffer, noise, RATE, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def memory(process: int) -> float:
    """Resident memory, MiB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


class Load:
    """Clients that ask until an end, and what they were answered."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url, self.end = url, time.monotonic() + seconds
        self.took: list[float] = []
        self.full: list[int] = []
        self.wrong: list[str] = []

    def ask(self, seed: int) -> None:
        """Be one client."""
        body, session = clip(1000 + seed), requests.Session()
        while time.monotonic() < self.end:
            began = time.monotonic()
            answer = session.post(f"{self.url}/score", data=body, timeout=120)
            if answer.status_code == 429:
                self.full.append(seed)
                time.sleep(0.2)
            elif answer.status_code == 200:
                self.took.append(time.monotonic() - began)
            else:
                self.wrong.append(answer.text)


def serve(bank: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the service and wait until it answers."""
    command = [
        sys.executable,
        "-m",
        "eval.monitor.run",
        "serve",
        str(bank),
        "--port",
        str(port),
        "--queue",
        "6",
    ]
    server = subprocess.Popen(command)
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.2)
        else:
            return server


def main(work: Path, seconds: float) -> None:
    """Serve, ask, print."""
    normal, bank, port = work / "normal", work / "noise.bank", 18_765
    normal.mkdir(parents=True, exist_ok=True)
    for seed in range(40):
        (normal / f"{seed}.wav").write_bytes(clip(seed))
    if not bank.exists():
        Detector(machine="noise").fit(normal).save(bank)
    server = serve(bank, port)
    load, sizes = Load(f"http://127.0.0.1:{port}", seconds), []
    threads = [threading.Thread(target=load.ask, args=(seed,)) for seed in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while time.monotonic() < load.end:
        time.sleep(seconds / 12)
        sizes.append(memory(server.pid))
    for thread in threads:
        thread.join()
    server.terminate()
    server.wait()
    p50, p99 = np.percentile(load.took, [50, 99])
    print(
        f"{CLIENTS} clients, {seconds:.0f} s, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.0f}"
    )
    print(f"answers {len(load.took)}, queue full {len(load.full)}, errors {len(load.wrong)} {load.wrong[:1]}")
    print(f"p50 {p50:.2f} s, p99 {p99:.2f} s; {len(load.took) * LENGTH / seconds:.1f} s of sound a second")
    print("resident memory, MiB:", ", ".join(f"{size:.0f}" for size in sizes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if sys.argv[2:] else 60.0)

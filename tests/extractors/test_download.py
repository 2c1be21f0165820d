"""Downloads from a server on this machine that behaves well and badly."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cache.base.errors import AsdError
from extractors.fetching import download as fetching
from extractors.fetching import http as transfer
from extractors.fetching.download import Remote, download
from tests.conftest import PATIENCE
from tests.helpers.bad_server import BadServer

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
CHUNK = transfer._CHUNK
_FETCH = """
import sys
from pathlib import Path
from extractors.fetching.download import Remote, download
url, known, folder = sys.argv[1:]
print(download(Remote("file.bin", (url,), known), Path(folder)))
"""


def visible(folder: Path) -> list[str]:
    """What stands under a final name."""
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part*"))


def start(url: str, folder: Path) -> subprocess.Popen[str]:
    """Fetch in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", _FETCH, url, SHA256, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("known", [SHA256, MD5, None])
def test_a_file_is_brought_once(server: BadServer, tmp_path: Path, known: str | None) -> None:
    url = server.serve("/file.bin", CONTENT)
    remote = Remote("file.bin", (url,), known, len(CONTENT))
    assert download(remote, tmp_path / "a b") == url
    assert (tmp_path / "a b" / "file.bin").read_bytes() == CONTENT
    assert not parts(tmp_path / "a b")
    assert download(remote, tmp_path / "a b") == ""
    assert len(server.asked) == 1


def test_another_file_than_expected(server: BadServer, tmp_path: Path) -> None:
    url = server.serve("/file.bin", CONTENT[:-1] + b"x")
    with pytest.raises(AsdError, match="its sha256 is .* where .* is expected") as caught:
        download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert "bring the file from elsewhere to" in str(caught.value)
    assert not visible(tmp_path)
    assert not parts(tmp_path)


def test_mirrors_are_tried_in_order(server: BadServer, tmp_path: Path) -> None:
    urls = (
        server.url + "/nowhere",
        server.serve("/wrong", CONTENT[::-1]),
        server.serve("/short", CONTENT[:-5]),
        server.serve("/right", CONTENT),
    )
    assert download(Remote("file.bin", urls, SHA256, len(CONTENT)), tmp_path) == urls[3]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    with pytest.raises(AsdError) as caught:
        download(Remote("other.bin", urls[:3], SHA256, len(CONTENT)), tmp_path)
    for reason in ("/nowhere: 404 Not Found", "its sha256 is", "has 2999995 bytes where 3000000"):
        assert reason in str(caught.value)


@pytest.mark.parametrize("known", [SHA256, None])
def test_a_cut_connection_is_taken_up_where_it_broke(
    server: BadServer, tmp_path: Path, known: str | None
) -> None:
    url = server.serve("/file.bin", CONTENT, cut=[10 * CHUNK, 5 * CHUNK + 9])
    download(Remote("file.bin", (url,), known), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    wanted = ["", f"bytes={10 * CHUNK}-", f"bytes={15 * CHUNK}-"]
    assert [asked for _, asked in server.asked] == wanted


def test_a_server_without_ranges_starts_anew(server: BadServer, tmp_path: Path) -> None:
    url = server.serve("/file.bin", CONTENT, cut=[1_000_000], ranges=False)
    download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_without_hash_and_voucher_nothing_is_pieced_together(server: BadServer, tmp_path: Path) -> None:
    url = server.serve("/file.bin", CONTENT, cut=[1_000_000], etag=False)
    download(Remote("file.bin", (url,)), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["", ""]


def test_a_connection_that_is_always_cut_ends(server: BadServer, tmp_path: Path) -> None:
    url = server.serve("/file.bin", CONTENT, cut=[CHUNK, *[0] * 9])
    with pytest.raises(AsdError, match="what has come is kept and continued"):
        download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert not visible(tmp_path)
    assert (tmp_path / ".file.bin.part").read_bytes() == CONTENT[:CHUNK]
    server.files["/file.bin"].cut.clear()
    download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.bin", f"bytes={CHUNK}-")


@pytest.mark.parametrize("known", [SHA256, None])
def test_a_file_that_changed_meanwhile_is_not_pieced_together(
    server: BadServer, tmp_path: Path, known: str | None
) -> None:
    url = server.serve("/file.bin", CONTENT[::-1], cut=[CHUNK, *[0] * 9])
    with pytest.raises(AsdError):
        download(Remote("file.bin", (url,), known), tmp_path)
    server.serve("/file.bin", CONTENT)
    download(Remote("file.bin", (url,), known), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("beginning", [b"rubbish", CONTENT, CONTENT + b"more", b"x" * len(CONTENT)])
def test_whatever_lies_there_from_before(server: BadServer, tmp_path: Path, beginning: bytes) -> None:
    url = server.serve("/file.bin", CONTENT)
    (tmp_path / ".file.bin.part").write_bytes(beginning)
    download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert not parts(tmp_path)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service Unavailable"),
     (302, "Exceeded 30 redirects")],
)  # fmt: skip
def test_refusals_are_named(server: BadServer, tmp_path: Path, status: int, reason: str) -> None:
    url = server.serve("/file.bin", CONTENT, status=status)
    with pytest.raises(AsdError, match=f"{url}: {reason}"):
        download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert not visible(tmp_path)


@pytest.mark.parametrize("known", [SHA256, None])
def test_pages_and_nothing_are_no_files(server: BadServer, tmp_path: Path, known: str | None) -> None:
    page = server.serve("/page", b"<html>Log in to this network", kind="text/html; charset=utf-8")
    with pytest.raises(AsdError, match="gives a web page, perhaps a log-in"):
        download(Remote("file.bin", (page,), known), tmp_path)
    with pytest.raises(AsdError, match="gives an empty file"):
        download(Remote("file.bin", (server.serve("/empty", b""),), known), tmp_path)
    assert not visible(tmp_path)


def test_a_server_that_falls_silent(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_TIMEOUT", (2.0, 0.2))
    url = server.serve("/file.bin", CONTENT, halt=1)
    with pytest.raises(AsdError, match="timed out"):
        download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert not visible(tmp_path)


def test_no_server_at_all(server: BadServer, tmp_path: Path) -> None:
    server.stop()
    with pytest.raises(AsdError, match="refused"):
        download(Remote("file.bin", (f"{server.url}/x", "nonsense"), SHA256), tmp_path)


def test_a_disk_without_room_is_not_written_to(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.serve("/file.bin", CONTENT)
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=52_000_000))
    with pytest.raises(AsdError, match=r"file.bin needs 3.0 MB, and .* has 52.0 MB free"):
        download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert not visible(tmp_path)
    assert not parts(tmp_path)


def test_a_disk_that_fills_up(server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.serve("/file.bin", CONTENT)
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "underway", _full_after(2))
        with pytest.raises(AsdError, match=r"No space left on device \(.* bytes are kept"):
            download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert not visible(tmp_path)
    download(Remote("file.bin", (url,), SHA256), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def _full_after(chunks: int) -> object:
    """Progress that fails as a full disk does."""

    left = [chunks]

    def told(_: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda *_: nullcontext(told)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may mount")
def test_a_disk_that_is_really_full(
    server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    url = server.serve("/file.bin", CONTENT)
    try:
        with pytest.raises(AsdError, match=r"file.bin needs 3.0 MB, and .* MB free"):
            download(Remote("file.bin", (url,), SHA256), folder)
        monkeypatch.setattr(fetching, "_RESERVE", -len(CONTENT))  # the check beforehand sees nothing
        with pytest.raises(AsdError, match="No space left on device"):
            download(Remote("file.bin", (url,), SHA256), folder)
        assert not visible(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_cannot_be_written(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder is wanted")
    url = server.serve("/file.bin", CONTENT)
    with pytest.raises(AsdError, match="cannot write .*choose another folder"):
        download(Remote("file.bin", (url,), SHA256), tmp_path / "file" / "below")


def test_two_processes_bring_one_file_once(server: BadServer, tmp_path: Path) -> None:
    url = server.serve("/file.bin", CONTENT, pause=0.02)
    both = [start(url, tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(out.strip() for out, _ in said) == ["", url]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_killed_download_goes_on_from_there(server: BadServer, tmp_path: Path) -> None:
    url = server.serve("/file.bin", CONTENT, halt=1_000_000)
    process, part = start(url, tmp_path), tmp_path / ".file.bin.part"
    while not (part.is_file() and part.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not visible(tmp_path)
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    server.files["/file.bin"].halt = None
    assert download(Remote("file.bin", (url,), SHA256), tmp_path) == url
    assert server.asked[-1] == ("/file.bin", f"bytes={have}-")
    assert (tmp_path / "file.bin").read_bytes() == CONTENT

"""Draw the pictures of the documentation: the page in a browser as its readers meet it, and the site's front.

usage: python -m docs.pictures DEMO SITE [CHROMIUM]

DEMO is what `make demo` made, SITE the built site. Of the demo's fan a machine "of one's own" is made,
without truth or domains, and judged. The same recordings give the same pictures but for the browser's fonts.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from cache.asd import main as asd

IMAGES = Path(__file__).parent / "images"
WIDE, PHONE = {"width": 1366, "height": 1290}, {"width": 390, "height": 844}


def own_machine(demo: Path, folder: Path) -> Path:
    """Judge the demo's fan as somebody's own: names that mean nothing, no truth; return the results."""
    source = demo / "data" / "dev_data" / "fan"
    normal = sorted((source / "train").glob("*_source_*"))
    new = sorted((source / "test").glob("*_source_*"))
    for name, clips in (("normal", normal), ("new", new)):
        (folder / "mydata" / "fan" / name).mkdir(parents=True)
        for i, clip in enumerate(clips):
            shutil.copy(clip, folder / "mydata" / "fan" / name / f"2026-05-{1 + i // 8:02d}_{i:03d}.wav")
    places = {"--data": "mydata", "--out": "results", "--cache-dir": "cache"}
    arguments = [word for flag, name in places.items() for word in (flag, str(folder / name))]
    if asd(["run", "default", "--group", "day", *arguments]):
        raise SystemExit("the machine of one's own could not be judged")
    return folder / "results"


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine: search and fonts of a site need an address."""
    handler = functools.partial(_Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def draw(browser: Browser, address: str, name: str, size: dict[str, int], scheme: str = "light") -> None:
    """Take a picture of an address."""
    page = browser.new_page(viewport=size, color_scheme=scheme)
    page.goto(address)
    page.wait_for_timeout(1500)  # spectrograms are drawn, fonts and search are there
    page.screenshot(path=IMAGES / f"{name}.png")
    page.close()


def main(demo: Path, site: Path, chromium: str) -> None:
    """Draw all of them."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright, served(site) as front:
        own = own_machine(demo.resolve(), Path(scratch)) / "report.html"
        truth = demo.resolve() / "results" / "report.html"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        draw(browser, truth.as_uri(), "report", WIDE)
        draw(browser, own.as_uri(), "own", WIDE)
        draw(browser, own.as_uri(), "dark", WIDE, "dark")
        draw(browser, own.as_uri(), "phone", PHONE)
        shutil.copytree(IMAGES, site / "images", dirs_exist_ok=True)  # the front page shows one of them
        draw(browser, f"{front}/index.html", "site", {"width": 1366, "height": 900})
        browser.close()


if __name__ == "__main__":
    found = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else found)

"""Command line that opens the page of a results folder in the browser."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from cache.base.console import console_of, parser_of
from cache.base.errors import AsdError, guarded, listing
from cache.files.places import here

_ABOUT = "Open the page of a results folder in the browser; where there is no browser, say where the page is."
_PAGE = "report.html"


def page_of(folder: Path) -> Path:
    """Find the page of a results folder.

    Parameters
    ----------
    folder
        What ``--out`` named, or the page itself.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    AsdError
        If there is none, or one for each of several runs.
    """
    if folder.is_file():
        return folder
    if not folder.is_dir():
        raise AsdError(f"{folder} is no folder; name the one that --out named when it was scored")
    if (folder / _PAGE).is_file():
        return folder / _PAGE
    pages = sorted(folder.glob(f"*/{_PAGE}"))
    if len(pages) == 1:
        return pages[0]
    if pages:
        raise AsdError(f"{folder} holds {len(pages)} pages; name one: {listing([p.parent for p in pages])}")
    raise AsdError(f"{folder} holds no {_PAGE}: score again without --no-report, or name another folder")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Open a page.

    Parameters
    ----------
    argv
        Arguments; the process's own by default.

    Returns
    -------
    int
        0, also where no browser opens; 2 for a mistake in the call.
    """
    parser = parser_of("eval.open", _ABOUT, "results")
    parser.add_argument(
        "results", type=here, nargs="?", default=Path("results"), help="its folder (default: results)"
    )
    args = parser.parse_args(argv)
    page = page_of(args.results).resolve()
    opened = webbrowser.open(page.as_uri())
    said = f"{page} is open in the browser" if opened else f"no browser here; open {page} in one"
    console_of(args).made(said, page=page, opened=opened)
    return 0


if __name__ == "__main__":
    sys.exit(main())

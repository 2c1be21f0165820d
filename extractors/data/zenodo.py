"""Zenodo's records of the challenge: their numbers, and what the public API says of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import algorithms_available
from typing import Any
from urllib.parse import quote

from cache.base.errors import AsdError
from extractors.fetching.download import Remote
from extractors.fetching.http import reason_of

VARIABLE = "ASD_ZENODO"
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and without a byte
PARTS = ("dev", "train", "eval")  # development, additional training, evaluation
# Data set -> a record a part, as the challenge's pages of the years link them.
DATASETS: Mapping[str, tuple[int, int, int]] = {
    "dcase2020": (3678171, 3727685, 3841772),
    "dcase2021": (4562016, 4660992, 4884786),
    "dcase2022": (6355122, 6462969, 6586456),
    "dcase2023": (7882613, 7830345, 7860847),
    "dcase2024": (10902294, 11259435, 11363076),
    "dcase2025": (15097779, 15392814, 15519362),
    "dcase2026": (19336329, 20151556, 20437238),
}


@dataclass(frozen=True)
class Record:
    """A record of Zenodo.

    Attributes
    ----------
    page
        For people.
    licence
        What the record states; empty where it states none.
    files
        What it holds, with sizes and MD5 as far as the API gives them.
    """

    page: str
    licence: str
    files: tuple[Remote, ...]


def is_elsewhere() -> bool:
    """Whether the user named another server than Zenodo's own, in ``$ASD_ZENODO``."""
    return bool(os.environ.get(VARIABLE))


def page_of(number: int) -> str:
    """Address of a record's page, on ``$ASD_ZENODO`` where that names another server."""
    return f"{os.environ.get(VARIABLE, 'https://zenodo.org').rstrip('/')}/records/{number}"


def ask_record(number: int) -> Record:
    """Ask what a record holds.

    Parameters
    ----------
    number
        The record.

    Raises
    ------
    AsdError
        If Zenodo does not answer, or with something else.
    """
    import requests  # noqa: PLC0415 (a fifth of a second, for fetching only)

    page = page_of(number)
    url = page.replace("/records/", "/api/records/")
    try:
        answer = requests.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
        content = answer.json()
        licence = content.get("metadata", {}).get("license") or {}
        files = tuple(_remote(page, each) for each in content["files"])
        return Record(page, str(licence.get("id", "")), files)
    except requests.JSONDecodeError as error:
        raise AsdError(f"{url} answers with something other than a record: {error}") from error
    except requests.RequestException as error:
        raise AsdError(
            f"{url} does not answer ({reason_of(error)}); try again later, or download the "
            f"archives from {page} in a browser"
        ) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AsdError(f"{url} answers with something other than a record: {error!r}") from error


def _remote(page: str, file: Mapping[str, Any]) -> Remote:
    name = str(file["key"])
    if not name or name[0] == "." or any(mark in name for mark in "/\\\0"):
        raise ValueError(f"a file called {name!r}")
    urls = (str(file["links"]["self"]), f"{page}/files/{quote(name)}")
    size, checksum = file.get("size"), file.get("checksum") or None
    if checksum is not None and checksum.partition(":")[0] not in algorithms_available:
        raise ValueError(f"{name} with checksum {checksum!r}")
    return Remote(name, urls, checksum, None if size is None else int(size))

"""Weights by name: fetched once, known again by what is in them, or brought by hand."""

from __future__ import annotations

import json
import logging
import os
import pwd
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from safetensors.torch import save_file

from cache.base.errors import AsdError, guarded
from cache.files.atomic import file_sha256
from cache.store import Store
from eval.evaluate import extract_tests
from extractors.backbone import Source
from extractors.backbones import efficientat
from extractors.fetching.offline import apply_offline, home
from extractors.run import main as extract
from extractors.weights import published as checkpoints
from extractors.weights.loading import needed
from extractors.weights.published import (
    CHECKPOINTS,
    EFFICIENTAT,
    Checkpoint,
    find,
    located,
    named,
    path_of,
    usual,
)
from extractors.weights.run import main
from extractors.weights.store import fetch, matching
from tests.helpers.bad_server import BadServer, Served
from tests.helpers.small_models import write_beats, write_mobilenet

ErrorOf = Callable[..., str]


@pytest.fixture
def tiny(server: BadServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A small network published as EfficientAT's mn01 on this machine, nothing of it here yet."""
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "my home"))
    content = write_mobilenet(tmp_path / "published.pt")
    published = replace(
        named("mn01_as_mAP_298"),
        urls=(server.serve("/mn01.pt", content.read_bytes()),),
        sha256=file_sha256(content),
        size=content.stat().st_size,
    )
    publish(monkeypatch, published)
    return published


def publish(monkeypatch: pytest.MonkeyPatch, changed: Checkpoint) -> None:
    """Put a checkpoint in the place of the one of its name."""
    known = tuple(changed if each.file == changed.file else each for each in CHECKPOINTS)
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", known)
    monkeypatch.setattr(
        efficientat, "EFFICIENTAT", tuple(each for each in known if each.backbone == "efficientat")
    )


@pytest.fixture
def command(root: Path, tmp_path: Path) -> list[str]:
    """The extraction that wants mn01."""
    where = ["--data", str(root), "--cache-dir", str(tmp_path / "a")]
    return [*where, "--backbone", "efficientat:mn01"]


def test_the_facts_are_well_formed() -> None:
    assert len({each.name for each in CHECKPOINTS}) == len(CHECKPOINTS)
    assert len({each.sha256 for each in CHECKPOINTS} - {""}) == sum(bool(each.sha256) for each in CHECKPOINTS)
    for each in CHECKPOINTS:
        assert re.fullmatch(r"([0-9a-f]{64})?", each.sha256)
        assert re.fullmatch(r"([0-9a-f]{32})?", each.md5)
        assert each.licence
        assert each.paper
        assert each.urls or each.model
        for url in each.urls:
            assert urlsplit(url).scheme == "https"
            # The hub calls the one file of every model alike; a share of Seafile has no name.
            names = (f"/{each.file}", "/resolve/main/model.safetensors", "/?dl=1")
            assert unquote(url).removesuffix("/content").endswith(names)
        assert find(each.name) is each


def test_the_size_of_the_file_at_hand(real_weights: Path) -> None:
    assert real_weights.stat().st_size == EFFICIENTAT[0].size
    assert matching(real_weights) is EFFICIENTAT[0]


def test_variants_name_their_checkpoints() -> None:
    assert usual("panns", "Cnn10", checkpoints.PANNS).file == "Cnn10_mAP=0.380.pth"
    assert usual("efficientat", "", EFFICIENTAT) is EFFICIENTAT[0]
    with pytest.raises(AsdError, match="efficientat:mn33 has no published .* --weights FILE"):
        usual("efficientat", "mn33", EFFICIENTAT)


def test_listing_needs_neither_torch_nor_network() -> None:
    code = (
        "import sys; from extractors.weights.run import main; main(['list']); "
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    listed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    for each in CHECKPOINTS:
        addresses = [url.partition("?")[0] for url in each.urls]  # a query may hold a secret
        for fact in (each.name, each.licence, each.paper, each.sha256, *addresses):
            assert fact in listed.stdout


def test_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASD_HOME", str(tmp_path))
    assert path_of(EFFICIENTAT[0]) == tmp_path / "weights" / "mn04_as_mAP_432.pt"
    assert located("mn04_as_mAP_432") == tmp_path / "weights" / "mn04_as_mAP_432.pt"
    assert located("mine.pt") == Path("mine.pt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("ASD_HOME")
    if sys.platform == "linux":
        assert home() == tmp_path / "machine-asd"


def test_the_first_use_fetches_after_saying_what(
    tiny: Checkpoint, server: BadServer, command: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert extract(command) == 0
    said = capsys.readouterr().err
    assert tiny.size is not None
    for fact in (f"{tiny.size / 1e6:.1f} MB", "MIT", tiny.source, tiny.urls[0], tiny.paper):
        assert fact in said
    assert path_of(tiny) == tmp_path / "my home" / "weights" / "mn01_as_mAP_298.pt"
    assert file_sha256(path_of(tiny)) == tiny.sha256
    assert extract(command) == 0
    assert len(server.asked) == 1
    assert "fetching" not in capsys.readouterr().err


@pytest.fixture(params=["option", "environment"])
def offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments that make a command fetch nothing, or none where the environment does."""
    monkeypatch.setenv("ASD_OFFLINE", "" if request.param == "option" else "1")
    return ["--offline"] if request.param == "option" else []


def test_offline_it_says_what_to_bring_and_where(
    tiny: Checkpoint, offline: list[str], tmp_path: Path, command: list[str], error_of: ErrorOf
) -> None:
    said = error_of(extract, *command, *offline)
    assert f"efficientat needs {tiny.file}" in said
    assert f"bring it from {tiny.urls[0]} to {path_of(tiny)}" in said
    path_of(tiny).parent.mkdir(parents=True)
    (tmp_path / "published.pt").rename(path_of(tiny))
    assert extract([*command, *offline]) == 0


@pytest.mark.usefixtures("tiny")
def test_weights_are_named_by_file_or_by_name(
    server: BadServer, command: list[str], tmp_path: Path, error_of: ErrorOf
) -> None:
    assert extract([*command, "--weights", "mn01_as_mAP_298"]) == 0
    assert extract([*command, "--weights", str(tmp_path / "published.pt")]) == 0
    assert len(server.asked) == 1
    assert len(list(Store(tmp_path / "a").recipes())) == 1  # the same file, the same recipe
    said = error_of(extract, *command, "--weights", "BEATs_iter3.pt")
    assert "BEATs_iter3.pt is a checkpoint of beats, no efficientat" in said
    said = error_of(extract, *command, "--weights", "mn77.pt")
    assert "mn77.pt: no such file" in said


def test_an_unknown_file_is_told(tiny: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "extractors")
    state = torch.load(tmp_path / "published.pt") | {"classifier.2.bias": torch.ones(3)}
    torch.save(state, tmp_path / "mine.pt")
    save_file(state, tmp_path / "mine.safetensors")
    for name, told in (("mine.pt", True), ("mine.safetensors", True), ("published.pt", False)):
        found = needed(Source(weights=tmp_path / name), "efficientat", (tiny,))
        assert (found.path, found.sha256) == (tmp_path / name, file_sha256(tmp_path / name))
        assert ("is no published checkpoint known here" in caplog.text) is told, name
        caplog.clear()


def test_a_known_name_with_other_bytes_is_refused_unless_accepted(
    tiny: Checkpoint, command: list[str], tmp_path: Path, error_of: ErrorOf
) -> None:
    other = tmp_path / tiny.file
    state = torch.load(tmp_path / "published.pt") | {"classifier.2.bias": torch.ones(3)}
    torch.save(state, other)
    sha256 = file_sha256(other)
    said = error_of(extract, *command, "--weights", other)
    assert f"has SHA-256 {sha256}, and the published {tiny.file} sha256:{tiny.sha256}" in said
    assert f"--accept-weights {sha256}" in said
    given = ["--weights", str(other), "--accept-weights", sha256.upper()]
    assert extract([*command, *given]) == 0


def test_damage_to_a_fetched_file_is_found(tiny: Checkpoint, command: list[str], error_of: ErrorOf) -> None:
    path = fetch(tiny)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = error_of(extract, *command)
    assert f"{path} has SHA-256" in said
    assert "delete it and run python -m extractors.weights fetch mn01_as_mAP_298.pt" in said
    assert "delete it and fetch it again" in error_of(main, "fetch", tiny.file)


def test_without_a_published_hash_the_first_download_counts(
    tiny: Checkpoint, server: BadServer, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], error_of: ErrorOf,
) -> None:  # fmt: skip
    publish(monkeypatch, replace(tiny, sha256="", size=None))
    assert main(["fetch", tiny.file]) == 0
    assert f"SHA-256 {tiny.sha256} is recorded in" in capsys.readouterr().err
    path = path_of(tiny)
    record = json.loads(path.with_name(f"{tiny.file}.json").read_text())
    assert record == {
        "file": tiny.file,
        "sha256": tiny.sha256,
        "size": tiny.size,
        "url": tiny.urls[0],
    }
    assert main(["verify", str(path)]) == 0
    path.unlink()
    server.serve("/mn01.pt", b"another file")
    said = error_of(main, "fetch", tiny.file)
    assert f"where {tiny.sha256} is expected" in said
    assert not path.exists()


@pytest.mark.usefixtures("tiny")
def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "published.pt")]) == 0
    assert "is the published mn01_as_mAP_298.pt (MIT)" in capsys.readouterr().out
    beats = write_beats(tmp_path / "BEATs_iter3.pt")
    assert main(["verify", str(tmp_path / "published.pt"), str(beats)]) == 1
    said = capsys.readouterr().out
    assert f"SHA-256 {file_sha256(beats)} is of no checkpoint known here; sha256:8d1b2340" in said


@pytest.fixture
def served(tiny: Checkpoint, server: BadServer) -> Served:
    """How mn01 is served."""
    return server.files[urlsplit(tiny.urls[0]).path]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"content": b"wrong"}, "has 5 bytes where"),
        ({"status": 404}, "404 Not Found"),
        ({"status": 302}, "Exceeded 30 redirects"),
        ({"cut": [9] * 9}, "IncompleteRead"),
    ],
)
def test_bad_servers_end_with_a_message(
    served: Served, command: list[str], error_of: ErrorOf, how: dict[str, object], reason: str
) -> None:
    for name, value in how.items():
        setattr(served, name, value)
    tiny = find("mn01_as_mAP_298")
    assert tiny is not None
    for said in (error_of(extract, *command), error_of(main, "fetch", tiny.file)):
        assert reason in said
        assert f"bring the file from elsewhere to {path_of(tiny)}" in said
        assert not path_of(tiny).exists()


def test_an_unknown_name(error_of: ErrorOf) -> None:
    assert "no checkpoint is called 'BEATS'; known are BEATs_iter3.pt" in error_of(main, "fetch", "BEATS")
    said = error_of(main, "fetch", "--offline", checkpoints.AST_MODEL)
    assert "offline nothing is fetched; bring config.json" in said


@pytest.mark.usefixtures("tiny")
def test_a_bank_fetches_the_file_it_was_built_with(
    server: BadServer, command: list[str], root: Path, tmp_path: Path
) -> None:
    given = ["--weights", str(tmp_path / "published.pt")]
    assert extract([*command, *given]) == 0
    (recipe,) = Store(tmp_path / "a").recipes()
    assert not server.asked
    assert extract_tests([root], recipe, Store(tmp_path / "b"), []) == []
    assert len(server.asked) == 1


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home directory: HOME is not set and the user id has no name."""

    def nobody(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "ASD_HOME", "HF_HOME", "TORCH_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_directory_a_remedy_is_named_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf
) -> None:
    assert "no home directory" in error_of(main, "list")
    monkeypatch.setenv("ASD_HOME", "~/asd")
    assert "set ASD_HOME to a folder" in error_of(main, "list")
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "asd"))
    assert main(["list"]) == 0
    apply_offline(Namespace(offline=True))
    assert os.environ["HF_HOME"] == str(tmp_path / "asd" / "huggingface")
    assert not Path("~").exists()

    @guarded
    def expands(_argv: object = None) -> int:
        return len(Path("~/x").expanduser().parts)

    assert expands() == 2


def test_a_home_directory_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    apply_offline(Namespace(offline=True))
    assert "HF_HOME" not in os.environ

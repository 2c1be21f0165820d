"""Models of the hub: fetched whole and once from a hub on this machine, refused in plain words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from extractors.backbone import Source
from extractors.backbones import ast_, hf
from extractors.weights.hub import locate
from extractors.weights.published import AST, AST_MODEL, AST_REVISION
from extractors.weights.run import main as fetch_weights
from tests.helpers.hub_models import write_ast, write_wave

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub that serves folders: id to folder, one commit each, branch ``main`` and that commit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        self.models: dict[str, Path] = {}
        self.commits: dict[str, str] = {}
        self.served: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # read when it was imported
        monkeypatch.delenv("ASD_OFFLINE")

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def find(self, path: str) -> tuple[str, Path]:
        """What a path asks for: an error code and nothing, or no error and a file."""
        model, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if model not in self.models:
            return "RepoNotFound", Path()
        if revision not in ("main", self.commits.get(model, COMMIT)):
            return "RevisionNotFound", Path()
        file = self.models[model] / name
        return ("", file) if file.is_file() else ("EntryNotFound", Path())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                error, file = hub.find(self.path)
                content = b"" if error else file.read_bytes()
                self.send_response(404 if error else 200)
                if error:
                    self.send_header("X-Error-Code", error)
                else:
                    model = self.path.strip("/").partition("/resolve/")[0]
                    self.send_header("X-Repo-Commit", hub.commits.get(model, COMMIT))
                    self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command == "GET" and not error:
                    hub.served.append(file.name)
                    self.wfile.write(content)

            def do_GET(self) -> None:
                self.do_HEAD()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub(monkeypatch, tmp_path / "cache")
    yield server
    server.stop()


def test_a_model_is_fetched_once_and_found_again_offline(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.models["maker/hubert"] = write_wave(tmp_path / "m", "Hubert")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    first = hf.load(Source(variant="maker/hubert"), CPU)
    wanted = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(hub.served) == wanted
    assert first.spec.weights == file_sha256(folder / "model.safetensors")
    assert dict(first.spec.settings) == {
        "model": "maker/hubert",
        "revision": COMMIT,
        "transformers": 5,
    }
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hf.load(Source(variant=f"maker/hubert@{COMMIT}"), CPU).spec == first.spec
    assert sorted(hub.served) == wanted


def test_shards_are_fetched_and_hashed_together(hub: Hub, tmp_path: Path) -> None:
    folder = hub.models["maker/big"] = write_wave(tmp_path / "m", "Hubert")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, where = sorted(state), {}
    for number, part in enumerate((names[:30], names[30:]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({n: state[n] for n in part}, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(part, file))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    backbone = hf.load(Source(variant="maker/big@main"), CPU)
    hashes = [file_sha256(path) for path in sorted(folder.glob("model-*.safetensors"))]
    assert backbone.spec.weights == hashlib.sha256("".join(hashes).encode()).hexdigest()
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(AsdError, match=r"lists \['\.\./\.\./secret.safetensors'\] where"):
        hf.load(Source(variant=str(folder)), CPU)


def test_what_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    folder = hub.models["maker/m"] = write_wave(tmp_path / "m", "Hubert")
    with pytest.raises(AsdError, match="the hub gave no maker/x at revision main .*check both"):
        locate("hf", Source(variant="maker/x"))
    with pytest.raises(AsdError, match="the hub gave no maker/m at revision v9 "):
        locate("hf", Source(variant="maker/m@v9"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(AsdError, match="maker/m@main has no model.safetensors; weights in another"):
        hf.load(Source(variant="maker/m"), CPU)
    assert "pytorch_model.bin" not in hub.served
    hub.models["maker/text"] = folder
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(AsdError, match="has no preprocessor_config.json: it is no audio model"):
        locate("hf", Source(variant="maker/text"))


@pytest.mark.parametrize("text", ["a/b/c", "not there", "/no/such/folder", "../up", "@main"])
def test_names_that_are_neither_folder_nor_model(text: str) -> None:
    with pytest.raises(AsdError, match="is neither a folder nor a model of the hub"):
        locate("hf", Source(variant=text))


def test_the_published_ast_is_known_by_its_hash(hub: Hub, tmp_path: Path) -> None:
    hub.models[AST_MODEL] = write_ast(tmp_path / "m")
    hub.commits[AST_MODEL] = AST_REVISION
    with pytest.raises(AsdError, match=f"the published file {AST.sha256}: delete it"):
        ast_.load(Source(), CPU)
    assert ast_.load(Source(weights=tmp_path / "m"), CPU).spec.weights != AST.sha256


def test_the_published_ast_is_fetched_by_its_id(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.models[AST_MODEL] = write_ast(tmp_path / "m")
    hub.commits[AST_MODEL] = AST_REVISION
    assert fetch_weights(["fetch", AST_MODEL]) == 0
    name, _, folder = capsys.readouterr().out.strip().partition(" -> ")
    assert name == AST_MODEL
    assert (Path(folder) / AST.file).read_bytes() == (tmp_path / "m" / AST.file).read_bytes()


def test_offline_the_message_says_what_to_bring(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AsdError) as caught:
        ast_.load(Source(), CPU)
    for part in (
        f"ast needs {AST_MODEL} at revision {AST_REVISION}",
        "offline nothing is fetched",
        "bring config.json, preprocessor_config.json and model.safetensors",
        "--weights FOLDER",
    ):
        assert part in str(caught.value)
    assert not hub.served


def test_offline_what_is_in_the_cache_is_enough(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models["maker/hubert"] = write_wave(tmp_path / "m", "Hubert")
    fetched = hf.load(Source(variant="maker/hubert"), CPU)
    hub.stop()
    monkeypatch.setenv("ASD_OFFLINE", "1")
    assert hf.load(Source(variant="maker/hubert"), CPU).spec == fetched.spec


def test_out_of_reach_the_message_says_what_to_bring(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.stop()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", pytest.fail)  # no retries
    with pytest.raises(AsdError, match="the hub cannot be reached .*refused.*--weights FOLDER"):
        ast_.load(Source(), CPU)

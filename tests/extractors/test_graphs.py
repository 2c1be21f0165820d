"""Networks as graphs of other engines: torch's numbers, kept by hash, refused where they rank otherwise."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cache.base.errors import AsdError
from cache.recipe import Recipe
from cache.select import Selection, choose
from cache.store import Store
from eval.detector import Detector
from extractors import pooling
from extractors.backbone import Backbone, Features, NetworkBackbone, Source
from extractors.embedding import formats, graphs, runners
from extractors.embedding.embedder import Forward, Output
from extractors.embedding.finetuned import load_any
from extractors.embedding.graphs import GraphBackbone
from extractors.embedding.models import recipe_forwards
from extractors.extract import extract
from extractors.request import ExtractRequest
from extractors.run import main
from index.build import BuildRequest, build
from tests.helpers.small_models import SMALL

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CPU = torch.device("cpu")
ENGINES = ("onnx", "openvino")
NETWORKS = sorted({*SMALL, "logmel:cnn"} - {"logmel", "logspec"})
LENGTHS = {"beats": (6, 10, 18), "logmel:cnn": (6, 10, 18)}  # s; of the others shorter ones, to be quick


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights, and of graphs, of the test's own."""
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cnn() -> NetworkBackbone:
    return load("logmel:cnn", Path())


def load(text: str, folder: Path) -> NetworkBackbone:
    name, _, variant = text.partition(":")
    source = Source(variant, seed=0) if variant else SMALL[name](folder)
    backbone = load_any(name, source, CPU)
    assert isinstance(backbone, NetworkBackbone)
    return backbone


def clips(backbone: Backbone, seconds: float, count: int = 1) -> torch.Tensor:
    samples = min(round(seconds * backbone.spec.sample_rate), backbone.spec.max_samples)
    noise = torch.randn(count, samples, generator=torch.Generator().manual_seed(round(10 * seconds)))
    return noise * torch.linspace(0.02, 0.2, samples)


def heard(backbone: Backbone | GraphBackbone, waveforms: torch.Tensor) -> list[Features]:
    with torch.inference_mode():
        return backbone.features(waveforms, backbone.spec.layers)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_torchs_numbers_at_every_layer_and_length(
    name: str, engine: str, tmp_path: Path
) -> None:
    pytest.importorskip(engine)
    backbone = load(name, tmp_path)
    other = GraphBackbone(backbone, engine)
    for number, seconds in enumerate(LENGTHS.get(name, (0.8, 1.1))):
        waveforms = clips(backbone, seconds, 1 if number else 2)
        for expected, found in zip(heard(backbone, waveforms), heard(other, waveforms), strict=True):
            for right, got in ((expected.frames, found.frames), (expected.native, found.native)):
                assert (right is None) == (got is None)
                if right is not None and got is not None:
                    assert got.shape == right.shape
                    assert (got - right).abs().max() <= 1e-4 * right.abs().max()
        if not number:  # a clip's numbers do not depend on its batch, to the last bit
            for both, alone in zip(heard(other, waveforms), heard(other, waveforms[1:]), strict=True):
                assert torch.equal(both.frames[1:], alone.frames)


def test_an_export_is_kept_by_network_layers_and_length(
    cnn: NetworkBackbone, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = heard(GraphBackbone(cnn, "onnx"), clips(cnn, 1))
    (kept,) = (home / "graphs").iterdir()
    heard(GraphBackbone(cnn, "onnx"), clips(cnn, 2))
    other = load("logmel:cnn", Path())
    with torch.no_grad():
        next(iter(other.network.parameters())).mul_(1.5)  # type: ignore[attr-defined]
    heard(GraphBackbone(other, "onnx"), clips(cnn, 1))
    with torch.inference_mode():
        GraphBackbone(cnn, "onnx").features(clips(cnn, 1), [2])
    assert len(list((home / "graphs").iterdir())) == 4
    monkeypatch.setattr(graphs, "exported", lambda *_: pytest.fail("exported again"))
    again = heard(GraphBackbone(cnn, "onnx"), clips(cnn, 1))
    assert all(torch.equal(one.frames, two.frames) for one, two in zip(first, again, strict=True))
    assert kept.exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: b"\0" + data[1:], lambda _: b""])
def test_a_damaged_export_is_seen_and_made_anew(
    cnn: NetworkBackbone, home: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    heard(GraphBackbone(cnn, "onnx"), clips(cnn, 1))
    (kept,) = (home / "graphs").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    heard(GraphBackbone(cnn, "onnx"), clips(cnn, 1))
    assert f"{kept} is damaged" in caplog.text
    assert kept.read_bytes() == whole


def test_numbers_unlike_torchs_are_refused_with_the_figure(
    cnn: NetworkBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = runners.RUNNERS["onnx"]

    def wrong(data: bytes, threads: int) -> runners.Run:
        run = right(data, threads)
        return lambda values: [values_ * np.float32(1.001) for values_ in run(values)]

    monkeypatch.setitem(runners.RUNNERS, "onnx", wrong)  # type: ignore[arg-type]
    with pytest.raises(AsdError, match=r"logmel differs by 1\.0e-03 .* at most 1e-04 .*--engine local"):
        heard(GraphBackbone(cnn, "onnx"), clips(cnn, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_extra_is_named(cnn: NetworkBackbone, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setitem(sys.modules, runners.LIBRARIES[engine], None)
    with pytest.raises(AsdError, match=rf"--engine {engine} needs .*pip install 'machine-asd\[{engine}\]'"):
        GraphBackbone(cnn, engine)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int8"}, "--dtype int8: torch has none; give --engine onnx or openvino too"),
        ({"engine": "ray", "dtype": "int8"}, "--dtype int8: torch has none"),
        ({"engine": "onnx", "dtype": "bfloat16"}, "--dtype bfloat16: onnx computes in float32 or int8"),
        ({"engine": "openvino", "device": "cuda"}, "--device cuda: openvino computes on the cpu"),
    ],
)
def test_mistakes(options: dict[str, str], said: str) -> None:
    with pytest.raises(AsdError, match=said):
        ExtractRequest(**options)  # type: ignore[arg-type]


def test_what_has_no_network_is_refused(root: Path, tmp_path: Path, error_of: Callable[..., str]) -> None:
    call = ["--data", root, "--cache-dir", tmp_path / "a", "--engine", "onnx", "--backbone", "logspec"]
    assert "logspec is no network that could be exported" in error_of(main, *call)


def test_the_recipe_tells_engine_and_format_and_torchs_stays_as_it_was(cnn: NetworkBackbone) -> None:
    plain = Output(cnn.spec, 4, pooling.find("mean", {}), "merge")
    assert {"engine", "dtype", "calibration"}.isdisjoint(dict(plain.recipe.settings))
    assert {replace(plain, engine=one).recipe for one in ("local", "ray")} == {plain.recipe}
    others = [
        replace(plain, engine="onnx"),
        replace(plain, engine="openvino"),
        replace(plain, engine="onnx", dtype="int8", calibration="a"),
        replace(plain, engine="onnx", dtype="int8", calibration="b"),
    ]
    assert len({each.recipe.fingerprint for each in (plain, *others)}) == 5
    assert str(others[2].recipe).endswith(" dtype=int8 engine=onnx calibration=a")


def test_tables_of_engines_are_apart_and_a_bank_is_asked_with_its_own(root: Path, tmp_path: Path) -> None:
    recipes: dict[str, Recipe] = {}
    for engine in ("local", "onnx"):
        request = ExtractRequest(
            data=(root,), backbone=("logmel:cnn",), weights=("random",), engine=engine,
            cache_dir=tmp_path / "a",
        )  # fmt: skip
        ((recipes[engine],),) = extract(request).recipes
    store = Store(tmp_path / "a")
    tables = {engine: store.tables(recipe) for engine, recipe in recipes.items()}
    assert len(tables["local"]) == len(tables["onnx"]) > 0
    one, two = (store.read(r, tables["local"][0].section, "train").embeddings for r in recipes.values())
    assert np.abs(one - two).max() <= 1e-4 * np.abs(one).max()
    (forward,) = recipe_forwards(recipes["onnx"], ["random"])
    assert isinstance(forward.backbone, GraphBackbone)
    (forward,) = recipe_forwards(recipes["local"], ["random"])
    assert not isinstance(forward.backbone, GraphBackbone)
    with pytest.raises(AsdError, match="(?s)2 recipes fit.*engine=onnx"):
        choose(store, Selection(backbones=("logmel:cnn",)))


def machine(folder: Path, *, alike: bool) -> Path:
    """Training clips: all of one noise, or ever louder tones in it, whose order nothing turns around."""
    rng = np.random.default_rng(0)
    place = folder / "fan" / "train"
    place.mkdir(parents=True)
    time = np.arange(16_000) / 16_000
    for i in range(16):
        noise = rng.normal(0, 0.1, 16_000) if alike else np.random.default_rng(1).normal(0, 0.1, 16_000)
        tone = 0 if alike or i < 8 else 0.02 * 2 ** (i - 8) * np.sin(2 * np.pi * 1000 * time)
        name = f"section_00_source_train_normal_{i:04d}.wav"
        soundfile.write(place / name, 0.2 * (noise + tone), 16_000, subtype="FLOAT")
    return folder


def integers(data: Path, cache: Path, engine: str = "onnx", dtype: str = "int8") -> Recipe:
    request = ExtractRequest(
        data=(data,), backbone=("logmel:cnn",), weights=("random",), engine=engine, dtype=dtype,
        cache_dir=cache, layers=("1",),
    )  # fmt: skip
    ((recipe,),) = extract(request).recipes
    return recipe


def test_integers_that_rank_otherwise_are_refused_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(
        AsdError, match=r"int8: scores of logmel rank otherwise .* correlation 0\.\d{5} \(at le"
    ):
        integers(machine(tmp_path / "data", alike=True), tmp_path / "a")
    assert not Store(tmp_path / "a").recipes()
    (kept,) = json.loads((tmp_path / "a" / formats.FORMATS).read_text()).values()
    assert kept["rho"] < 0.999


@pytest.mark.parametrize("engine", ENGINES)
def test_integers_are_calibrated_on_training_clips_kept_and_asked_again(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, engine: str
) -> None:
    pytest.importorskip(engine)
    caplog.set_level(logging.INFO)
    data = machine(tmp_path / "data", alike=False)
    monkeypatch.setattr(formats, "_RHO", 0.9)  # sixteen clips tell no finer
    monkeypatch.setattr(formats, "_POINTS", 25)
    recipe = integers(data, tmp_path / "a", engine)
    assert "int8 is calibrated on 8 of 16 training clips of fan/section_00" in caplog.text
    settings = dict(recipe.settings)
    assert (settings["engine"], settings["dtype"]) == (engine, "int8")
    ranges = home / "graphs" / f"ranges-{settings['calibration']}.json"
    assert all(low <= high for low, high in json.loads(ranges.read_text()).values())
    monkeypatch.setattr(graphs, "calibrated", lambda *_: pytest.fail("calibrated again"))
    assert integers(data, tmp_path / "a", engine) == recipe
    assert integers(data, tmp_path / "a", engine, "auto") == recipe  # bank and query are of one format
    (forward,) = recipe_forwards(recipe, ["random"])
    exact = Forward(load("logmel:cnn", Path()), forward.in_float32().outputs, CPU)
    exact.outputs = [replace(each, engine="local") for each in exact.outputs]
    samples = clips(exact.backbone, 2).numpy()  # type: ignore[arg-type]  # a length that nobody calibrated on
    one, two = (each(samples).values[0] for each in (forward, exact))
    wrong = np.abs(one - two).max() / np.abs(two).max()
    assert 1e-5 < wrong < 0.1
    for damage, said in ((lambda: ranges.write_text("{}"), "is damaged"), (ranges.unlink, "copy ranges-")):
        damage()
        with pytest.raises(AsdError, match=said):
            recipe_forwards(recipe, ["random"])[0](samples)


def test_a_bank_of_integers_judges_where_nothing_was_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = machine(tmp_path / "data", alike=False)
    monkeypatch.setattr(formats, "_RHO", 0.9)
    monkeypatch.setattr(formats, "_POINTS", 25)
    recipe = integers(data, tmp_path / "a")
    bank = tmp_path / "bank"
    build(BuildRequest(cache_dir=tmp_path / "a", scorer="min-distance", bank=bank))
    clip = next(data.rglob("*.wav"))
    (before,) = Detector.load(bank, weights="random").score(clip).clips
    # Another machine, with a copy of the bank and no more; then one with a copy of the cache and no more.
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "second"))
    (after,) = Detector.load(bank, weights="random").score(clip).clips
    assert after.score == before.score
    monkeypatch.setattr(graphs, "calibrated", lambda *_: pytest.fail("calibrated again"))
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "third"))
    assert integers(data, tmp_path / "a") == recipe
    (name,) = (path.name for path in bank.glob("ranges-*.json"))
    assert (tmp_path / "third" / "graphs" / name).read_bytes() == (bank / name).read_bytes()
    (bank / name).write_text("{}")
    monkeypatch.setenv("ASD_HOME", str(tmp_path / "fourth"))
    with pytest.raises(AsdError, match=f"bank/{name} is damaged: .* another place that has it"):
        Detector.load(bank, weights="random").score(clip)


def test_few_clips_are_nothing_to_calibrate_on(root: Path, tmp_path: Path) -> None:
    with pytest.raises(AsdError, match="int8: .* training clips .*16 are needed; use --dtype float32"):
        integers(root, tmp_path / "a")
    assert "dtype" not in dict(integers(root, tmp_path / "a", dtype="auto").settings)


def test_auto_takes_integers_only_where_they_pay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = machine(tmp_path / "data", alike=False)
    monkeypatch.setattr(formats, "WORTH", 16)
    monkeypatch.setattr(formats, "CLIPS", 8)
    verdicts: Sequence[formats.Verdict] = (formats.Verdict(1.1), formats.Verdict(2.0, 1.0, 0.0))
    for number, (verdict, dtype) in enumerate(zip(verdicts, (None, "int8"), strict=True)):
        monkeypatch.setattr(formats, "judged", lambda *_, told=verdict: told)
        found = integers(data, tmp_path / str(number), dtype="auto")
        assert dict(found.settings).get("dtype") == dtype

"""Experiments: one file names a whole chain, and says clearly what it cannot mean."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.base.errors import AsdError
from cache.base.options import option_names
from cache.files.atomic import file_sha256
from cache.heard import Heard
from cache.store import Store
from cache.table import SPLITS, Section
from eval.experiments.chain import build_request, extract_request, recipes_of
from eval.experiments.file import (
    BackboneChoice,
    Experiment,
    ScorerChoice,
    parse,
    read_text,
)
from eval.request import EvaluateRequest, shipped
from eval.results.submission import read_submission
from eval.run import main
from extractors.clips.listing import Clip, Listing
from extractors.extract import ExtractResult
from extractors.request import ExtractRequest
from extractors.run import main as extract
from extractors.weights.published import named, path_of
from index.run import main as build
from index.scorer import find
from tests.conftest import make_recipe, make_table, write_root
from tests.helpers.small_models import write_mobilenet

ErrorOf = Callable[..., str]
SECTION = Section("fan", 0)
GOOD = 'title = "x"\n[backbones.logmel]\n'
WANTED = EvaluateRequest(out=Path("out"), audio=(Path("dev"),), cache_dir=Path("cache"))


def write_experiment(folder: Path) -> Path:
    path = folder / "mine.toml"
    path.write_text(GOOD + 'pooling = ["mean"]\n[scorer]\nname = "min-distance"\n')
    return path


def run(tmp_path: Path, experiment: object, out: str, *options: str) -> int:
    where = ["--data", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "artifacts")]
    return main([str(experiment), *where, "--out", str(tmp_path / out), *options])


def test_one_command_does_what_three_do(tmp_path: Path, root: Path) -> None:
    assert run(tmp_path, write_experiment(tmp_path), "one") == 0
    cache = ["--cache-dir", str(tmp_path / "other")]
    chain = ["--backbone", "logmel", "--scorer", "min-distance", *cache]
    assert extract(["--backbone", "logmel", "--data", str(root), *cache]) == 0
    assert build(chain) == 0
    assert main([*chain, "--out", str(tmp_path / "three")]) == 0
    names = ("anomaly_score", "decision_result")
    for name in (f"{kind}_fan_section_00_test.csv" for kind in names):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()
    html = (tmp_path / "one" / "report.html").read_text()
    assert "data:audio/mpeg" in html
    assert '"mp3":"' in html


@pytest.mark.usefixtures("root")
def test_what_was_run_is_written_beside_the_results(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    assert run(tmp_path, path, "out", "--set", "scorer.name=ldn", "scorer.options.density_k=2") == 0
    assert (tmp_path / "out" / "experiment.toml").read_text() == path.read_text()
    record = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert record["experiment"]["scorer"]["name"] == "ldn"
    assert record["experiment"]["scorer"]["options"] == {"density_k": 2}
    (recipe,) = Store(tmp_path / "artifacts").recipes()
    assert record["fingerprint"] == recipe.fingerprint
    assert "--set scorer.name=ldn" in record["command"]
    assert set(record["versions"]) >= {"torch", "numpy", "faiss-cpu"}
    bank = json.loads(next((tmp_path / "out" / "bank").rglob("record.json")).read_text())
    assert (bank["scorer"], bank["options"]["density_k"]) == ("ldn", 2)
    facts = json.loads((tmp_path / "out" / "results.json").read_text())["facts"]
    assert facts["experiment"] == "x"


@pytest.mark.usefixtures("root")
def test_the_same_file_gives_the_same_numbers_whatever_else_the_cache_holds(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    assert run(tmp_path, path, "a") == 0
    other = write_root(tmp_path / "other", "pump")
    where = ["--data", str(other), "--cache-dir", str(tmp_path / "artifacts")]
    assert extract([*where, "--backbone", "logmel", "--pooling", "max", "mean"]) == 0
    assert run(tmp_path, path, "b") == 0
    for name in ("anomaly_score_fan_section_00_test.csv", "results.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not list((tmp_path / "b").glob("*pump*"))


@pytest.mark.usefixtures("root")
def test_two_backbones_with_weights(tmp_path: Path) -> None:
    weights = write_mobilenet(tmp_path / "tiny.pt")
    path = tmp_path / "two.toml"
    path.write_text(
        'title = "two"\n[backbones.logmel]\n[backbones.efficientat]\nweights = "missing.pt"\n'
        "layers = [4, 8]\n[scorer]\n"
    )
    own = f"backbones.efficientat.weights={weights}"
    assert run(tmp_path, path, "out", "--set", own) == 0
    record = json.loads((tmp_path / "out" / "experiment.json").read_text())
    parts = [(r["backbone"], r["layer"]) for r in record["recipes"]]
    assert parts == [("logmel", 0), ("efficientat", 4), ("efficientat", 8)]


@pytest.mark.usefixtures("root")
def test_weights_by_the_name_of_a_published_checkpoint(tmp_path: Path) -> None:
    place = path_of(named("mn01_as_mAP_298"))
    place.parent.mkdir(parents=True, exist_ok=True)
    sha256 = file_sha256(write_mobilenet(place))
    path = tmp_path / "named.toml"
    path.write_text('title = "named"\n[backbones.efficientat]\nweights = "mn01_as_mAP_298"\n[scorer]\n')
    assert run(tmp_path, path, "out") == 0
    place.unlink()
    record = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert [recipe["weights"] for recipe in record["recipes"]] == [sha256]


def test_missing_weights_are_all_named_before_the_work(tmp_path: Path, error_of: ErrorOf) -> None:
    where = ["--data", tmp_path, "--cache-dir", tmp_path / "artifacts", "--out", tmp_path / "out"]
    said = error_of(main, "min-distance", *where)
    for name in ("beats", "panns"):
        assert f"--set backbones.{name}.weights=PATH" in said
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("name", shipped())
def test_shipped_experiments_hold_what_they_must(name: str) -> None:
    text = read_text(name)
    experiment = parse(text, name)
    assert experiment.title
    assert experiment.measured
    own = {"default", "default-efficientat", "logmel"}
    assert name in own or experiment.published is not None
    if experiment.scorer is not None:
        known = option_names(find(experiment.scorer.name))
        assert set(experiment.scorer.options) <= set(known)
    keys = "title about measured published year channel length backbones finetune scorer autoencoder"
    assert tomllib.loads(text).keys() <= set(keys.split())


def test_the_published_numbers() -> None:
    numbers = {}
    for name in shipped():
        found = parse(read_text(name), name).published
        if found and found.evaluation:
            numbers[name] = (found.development, found.evaluation)
    assert numbers == {
        "asdkit-raw-beats": (60.11, 62.40),
        "autoencoder": (55.02, 59.25),
        "dcase2026-w1": (67.48, 66.84),
        "dcase2026-w1-lora": (69.53, 70.66),
        "genrep": (65.0, 73.79),
        "ldn": (64.8, 67.6),
        "lora-adacos": (62.66, 71.46),
        "rdp-varmin": (65.7, 70.8),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('titel = "x"', "unknown key titel; the nearest known key is title"),
        (GOOD + '[scorer]\nnmae = "ldn"', "unknown key scorer.nmae; the nearest known key is name"),
        (
            GOOD + 'poolings = ["mean"]',
            "unknown key backbones.logmel.poolings; the nearest known key",
        ),
        (GOOD + 'layers = ["4"]', "backbones.logmel.layers.0: Input should be a valid integer"),
        (GOOD + 'bands = "both"', "backbones.logmel.bands: Input should be 'merge' or 'keep'"),
        (GOOD + '[scorer]\nname = "ldm"', "no scorer 'ldm'; the nearest known is ldn"),
        (GOOD + "[scorer]\n[scorer.options]\nkk = 1", "has no option 'kk'"),
        (
            GOOD + "[finetune]\nepoch = 3",
            "unknown key finetune.epoch; the nearest known key is epoch",
        ),
        (GOOD + "[finetune]\nseeds = []", "finetune.seeds is empty"),
        ('title = "x"\n[autoencoder]\n[finetune]', "[finetune] means nothing to the autoencoder"),
        (GOOD + "[autoencoder]", "one of the two"),
        ('title = "x"', "one of the two"),
        ('title = "x"\n[autoencoder]\n[scorer]', "[scorer] means nothing to the autoencoder"),
        ('title = "x"\nyear = 2019\n[autoencoder]', "year 2019; known are 2020"),
        ("title", "is not TOML"),
        ("title = 'x'\nyear = 9223372036854775808", "not TOML: year is beyond the 64 bits"),
        (GOOD + "layers = [1, -9223372036854775809]", "backbones.logmel.layers is beyond the 64"),
        ("year = " + "9" * 5000, "is not TOML"),
        ("year = 0x" + "f" * 5000, "not TOML: year is beyond the 64 bits"),
        ("x = " + "[" * 5000, "nested too deep"),
    ],
)
def test_what_is_not_an_experiment(text: str, message: str) -> None:
    with pytest.raises(AsdError) as caught:
        parse(text, "x.toml")
    assert message in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_experiment_as_windows_saves_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(GOOD.replace("\n", "\r\n").encode(encoding))
    assert parse(read_text(str(path)), "x.toml") == parse(GOOD, "x.toml")
    path.write_bytes("title = 'ä'".encode("cp1252"))
    with pytest.raises(AsdError, match="x.toml: line 1 is not UTF-8 .byte 0xe4.; save the file as"):
        read_text(str(path))


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(AsdError) as caught:
        parse("title = 1\nyaer = 2023\n[backbones.logmel]\nlayer = [1]", "x.toml")
    assert len(str(caught.value).splitlines()) == 4


def test_overrides() -> None:
    changes = ["scorer.percentile=99.0", "backbones.logmel.pooling=['max']", "title=a b",
               "year=2024", "scorer.options.k=3"]  # fmt: skip
    found = parse(GOOD + '[scorer]\nname = "min-distance"', "x.toml", changes)
    assert found.scorer is not None
    assert (found.scorer.percentile, found.scorer.options) == (99.0, {"k": 3})
    assert (found.title, found.year, found.backbones["logmel"].pooling) == ("a b", 2024, ["max"])
    for bad in ("scorer", "=1", "title.x=1", "scorer..name=1"):
        with pytest.raises(AsdError, match="--set"):
            parse(GOOD, "x.toml", [bad])


def test_what_the_stages_are_asked_for() -> None:
    beats = BackboneChoice(weights="w.pt", layers=[4, 5], pooling=["rdp+gem:3,16"], bands="keep")
    both = {"beats": beats, "hf:owner/name": BackboneChoice()}
    found = extract_request(Experiment(title="two", backbones=both, channel="near"), WANTED)
    assert found == ExtractRequest(
        data=(Path("dev"),), backbone=("beats", "hf:owner/name"), weights=("beats=w.pt",),
        layers=("beats=4", "beats=5"), pooling=("beats=rdp+gem:3,16",), bands=("beats=keep",),
        heard=Heard("near"), cache_dir=Path("cache"),
    )  # fmt: skip
    clips = [Clip(f"{s}{i}", Path(f"{s}{i}"), SECTION, s) for s in SPLITS for i in range(2)]
    recipes = [[make_recipe(layer=n, settings=(("channel", c),) if c else ()) for n in (1, 2)]
               for c in ("", "near")]  # fmt: skip
    extracted = ExtractResult(Listing(tuple(clips), (), ()), tuple(map(tuple, recipes)), ())
    # Table by table, the channels of one side by side.
    order = [recipes[0][0], recipes[1][0], recipes[0][1], recipes[1][1]]
    assert recipes_of(extracted) == order
    scorer = ScorerChoice(name="ldn", options={"density_k": 2, "standardise": False})
    asked = build_request(scorer, extracted, Path("cache"), Path("bank"))
    assert asked.unfitted() == find("ldn")(density_k=2, standardise=False)  # type: ignore[call-arg]
    assert (asked.clips, asked.sections) == ({"train0", "train1"}, {SECTION})
    assert asked.tables.recipes == tuple(recipe.fingerprint for recipe in order)


def test_tables_that_it_does_not_ask_for_do_not_matter(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "open.toml"
    path.write_text(GOOD)
    Store(tmp_path / "artifacts").write(make_table([[0.0]]), make_recipe(pooling="max"))
    assert run(tmp_path, path, "out", "--no-report") == 0
    record = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert [recipe["pooling"] for recipe in record["recipes"]] == ["mean"]
    assert root.is_dir()


def test_the_autoencoder_is_a_system_of_seeds(tmp_path: Path, root: Path) -> None:
    options = ["--set", "autoencoder.seeds=[0, 1]", "autoencoder.epochs=2"]
    assert run(tmp_path, "autoencoder", "out", *options) == 0
    (system,) = json.loads((tmp_path / "out" / "ranking.json").read_text())["systems"]
    assert [Path(run).name for run in system["runs"]] == ["seed_0", "seed_1"]
    assert (tmp_path / "out" / "autoencoder" / "seed_1" / "report.html").exists()
    assert run(tmp_path, "autoencoder", "out", options[0], "autoencoder.seeds=[1]", options[2]) == 0
    assert not (tmp_path / "out" / "ranking.json").exists()
    assert not (tmp_path / "out" / "autoencoder" / "seed_0").exists()
    assert root.is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nothing"], "no experiment 'nothing': give a TOML file, or one of asdkit-raw-beats"),
        (["logmel"], "name the data roots with --data"),
        (["logmel", "--data", "d", "--backbone", "logmel"], "--backbone means nothing to an exp"),
        (["--set", "title=x"], "--set title=x changes an experiment, and none is named"),
        (["logmel", "--data", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_mistakes_in_the_call(options: list[str], message: str, capsys: pytest.CaptureFixture[str],
                              tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([*options, *(["--data", "d"] if options == ["nothing"] else [])]) == 2
    assert message in capsys.readouterr().err


def test_listing_experiments_loads_no_torch() -> None:
    code = "import sys, eval.experiments.chain; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["default"])
def test_a_shipped_experiment_on_real_recordings(real_data: Path, tmp_path: Path, name: str) -> None:
    roots = [str(real_data / part) for part in ("dev_data", "eval_data")]
    truth = ["--ground-truth", str(real_data / "ground_truth"), "--listen", "1"]
    where = ["--cache-dir", str(tmp_path / "artifacts"), "--out", str(tmp_path / "out")]
    assert main([name, "--data", *roots, *truth, *where]) == 0
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert record["official_score"] > 0.88  # see benchmarks/scorers.md
    assert len(read_submission(tmp_path / "out", Section("UavCw", 0)).files) == 198
    assert (tmp_path / "out" / "report.html").stat().st_size < 10_000_000

"""The evaluation command: without truth, with labels, with the evaluator's folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cache.store import Store
from cache.table import Section
from eval.results.submission import read_submission
from eval.run import main
from extractors.run import main as extract
from index.run import main as build
from tests.conftest import make_recipe, make_table, write_clip, write_root
from tests.helpers.small_models import write_beats, write_mobilenet

ErrorOf = Callable[..., str]
CHAIN = ["--backbone", "logmel", "--scorer", "min-distance"]


@pytest.fixture
def cache(root: Path, tmp_path: Path) -> Path:
    """Extracted and indexed development data of one machine."""
    folder = tmp_path / "artifacts"
    assert extract(["--backbone", "logmel", "--data", str(root), "--cache-dir", str(folder)]) == 0
    assert build([*CHAIN, "--cache-dir", str(folder)]) == 0
    return folder


def run(cache: Path, out: Path, *options: str) -> int:
    return main([*CHAIN, "--cache-dir", str(cache), "--out", str(out), *options])


def test_labelled_clips_are_evaluated(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cache, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "official score: " in said
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert f"{100 * record['official_score']:.2f}" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".lock",
        "SHA256SUMS",
        "anomaly_score_fan_section_00_test.csv",
        "clips_fan_section_00_test.csv",
        "decision_result_fan_section_00_test.csv",
        "map_fan_section_00_test.parquet",
        "neighbours_fan_section_00_test.parquet",
        "report.html",
        "results.csv",
        "results.json",
        "results.md",
        "system.json",
    }


def test_no_file_holds_the_secrets_of_a_url(cache: Path, tmp_path: Path) -> None:
    link = "https://user:s3cr3t@example.org/list.csv?signature=s3cr3t"
    assert run(cache, tmp_path / "results", "--note", f"data={link}") == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "results").rglob("*.*")}
    assert not [name for name, data in made.items() if b"s3cr3t" in data]
    for name in ("system.json", "results.json", "results.md", "report.html"):
        assert b"https://***@example.org/list.csv?***" in made[name], name


def test_the_report_and_its_map_can_be_left_out(cache: Path, tmp_path: Path) -> None:
    assert run(cache, tmp_path / "out", "--no-report") == 0
    suffixes = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert suffixes == ["", "", *[".csv"] * 4, *[".json"] * 2, ".md", ".parquet"]


def test_scoring_needs_neither_training_audio_nor_training_table(
    cache: Path, root: Path, tmp_path: Path
) -> None:
    run(cache, tmp_path / "one")
    shutil.rmtree(root / "fan" / "train")
    next(cache.rglob("train.parquet")).unlink()
    assert run(cache, tmp_path / "two") == 0
    name = "anomaly_score_fan_section_00_test.csv"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def anonymise(root: Path, truth: Path) -> dict[str, str]:
    """Rename the test clips as in the challenge and write the evaluator's three folders."""
    tests = sorted((root / "fan" / "test").iterdir())
    named = {f"section_00_{i:04d}.wav": path.stem for i, path in enumerate(reversed(tests))}
    rows = {
        "data": [f"{new},{int('anomaly' in old)}" for new, old in named.items()],
        "domain": [f"{new},{int('target' in old)}" for new, old in named.items()],
        "attributes": [f"{new},{old}" for new, old in named.items()],
    }
    for kind, lines in rows.items():
        folder = truth / f"ground_truth_{kind}"
        folder.mkdir(parents=True)
        file = folder / "ground_truth_fan_section_00_test.csv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for new, old in named.items():
        (root / "fan" / "test" / f"{old}.wav").rename(root / "fan" / "test" / new)
    return named


def test_anonymous_clips_with_ground_truth_give_the_labelled_clips_results(
    cache: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(cache, tmp_path / "labelled")
    anonymise(root, tmp_path / "truth")
    extract(["--backbone", "logmel", "--data", str(root), "--cache-dir", str(cache)])
    capsys.readouterr()
    assert run(cache, tmp_path / "blind") == 0
    assert "1 section scored without ground truth" in capsys.readouterr().out
    assert not (tmp_path / "blind" / "results.json").exists()
    assert run(cache, tmp_path / "told", "--ground-truth", str(tmp_path / "truth")) == 0
    results = [
        json.loads((tmp_path / which / "results.json").read_text())["official_score"]
        for which in ("labelled", "told")
    ]
    assert results[0] == results[1]


def test_no_score_or_decision_moves_with_the_labels(cache: Path, tmp_path: Path) -> None:
    run(cache, tmp_path / "one")
    path = next(cache.rglob("test.parquet"))
    store = Store(cache)
    (recipe,) = store.recipes()
    table = store.read(recipe, Section("fan", 0), "test")
    flipped = [{"normal": "anomaly", "anomaly": "normal"}[str(k.condition)] for k in table.keys]
    keys = tuple(replace(k, condition=c) for k, c in zip(table.keys, flipped, strict=True))
    assert store.write(replace(table, keys=keys), recipe) == path
    run(cache, tmp_path / "two")
    one, two = (read_submission(tmp_path / d, Section("fan", 0)) for d in ("one", "two"))
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.decisions, two.decisions)


def test_the_reasons_name_training_clips(cache: Path, tmp_path: Path) -> None:
    run(cache, tmp_path / "out")
    found = pd.read_parquet(tmp_path / "out" / "neighbours_fan_section_00_test.parquet")
    scores = read_submission(tmp_path / "out", Section("fan", 0)).scores
    assert found.source_clip.str.contains("source_train").all()
    assert found.target_clip.str.contains("target_train").all()
    nearest = np.minimum(found.source_distance, found.target_distance)
    np.testing.assert_allclose(nearest, scores)
    expected = np.where(found.source_distance <= found.target_distance, "source", "target")
    assert found.decided.tolist() == expected.tolist()


def test_sections_on_one_side_only_are_noted(
    cache: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(root / "saw" / "test" / "section_00_0000.wav", 0)
    extract(["--backbone", "logmel", "--data", str(root), "--cache-dir", str(cache)])
    assert run(cache, tmp_path / "out") == 0
    assert "saw/section_00 has test clips but is not in" in capsys.readouterr().err


def test_a_bank_by_its_folder(cache: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    bank = next(cache.glob("banks/*/*"))
    options = ["--bank", bank, "--cache-dir", cache, "--out", tmp_path / "out"]
    assert main([str(option) for option in options]) == 0
    Store(cache).write(make_table([[0.0]]), make_recipe(pooling="max"))
    said = error_of(main, *options, "--backbone", "logmel", "--pooling", "max")
    assert "not from the tables asked for" in said
    refused = {"--window": "0.5", "--channel": "0", "--bands": "keep", "--backbone": "logspec",
               "--recipe": "dead", "--scorer": "ldn", "--machine": "fam"}  # fmt: skip
    for flag, value in refused.items():  # rather than passed over
        assert value in (said := error_of(main, *options, flag, value)) or "not from the tables" in said
    fitting = {"--channel": "average", "--pooling": "mean", "--scorer": "min-distance", "--machine": "fan"}
    assert main([str(option) for pair in fitting.items() for option in pair] + list(map(str, options))) == 0
    assert "--submission" in error_of(main, *options, "--submission", tmp_path / "out")


def test_a_bank_alone_scores_new_clips_from_anywhere(
    cache: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(cache, tmp_path / "one")
    bank = shutil.move(next(cache.glob("banks/*/*")), tmp_path / "bank")
    shutil.rmtree(cache)
    new = shutil.copytree(root / "fan" / "test", tmp_path / "new" / "fan" / "test")
    shutil.rmtree(root)
    command = ["--bank", str(bank), "--data", str(new.parents[1]), "--out", str(tmp_path / "two")]
    assert main(command) == 0
    name = "anomaly_score_fan_section_00_test.csv"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    (new / "section_00_0099.wav").write_bytes(b"")
    assert main(command) == 1
    said = capsys.readouterr()
    assert "section_00_0099.wav: an empty file of 0 bytes" in said.err
    assert "1 clip left out" in said.out


def test_a_bank_of_several_backbones_scores_new_clips(root: Path, tmp_path: Path, error_of: ErrorOf) -> None:
    beats, mobilenet = write_beats(tmp_path / "beats.pt"), write_mobilenet(tmp_path / "mn01.pt")
    where = ["--cache-dir", str(tmp_path / "a")]
    weights = ["--weights", f"beats={beats}", f"efficientat={mobilenet}"]
    chain = ["--backbone", "logmel", "beats", "efficientat"]
    extract(
        [
            "--backbone",
            "logmel",
            "--data",
            str(root),
            *chain,
            *weights,
            "--bands",
            "beats=keep",
            *where,
        ]
    )
    assert build([*chain, "--scorer", "min-distance", *where]) == 0
    scored = [*chain, "--scorer", "min-distance", *where, "--out", str(tmp_path / "one")]
    assert main(scored) == 0
    bank = next((tmp_path / "a").glob("banks/*/*"))
    command = ["--bank", str(bank), "--data", str(root), "--out", str(tmp_path / "two")]
    assert main([*command, *weights]) == 0
    name = "anomaly_score_fan_section_00_test.csv"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "of 2 backbones, say which it is for" in error_of(main, *command, "--weights", beats)


def test_a_bank_that_this_installation_cannot_feed_says_why(
    cache: Path, root: Path, tmp_path: Path, error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = next(cache.glob("banks/*/*"))
    monkeypatch.setattr("extractors.embedding.embedder.RESAMPLER", "soxr-9.9")
    said = error_of(main, "--bank", bank, "--data", root, "--out", tmp_path / "out")
    assert "this installation makes other embeddings than the bank's" in said
    assert "soxr-9.9" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scorer", "domain-scale"], "no bank of domain-scale"),
        (["--ground-truth", "nowhere"], "--ground-truth nowhere is not a folder"),
        (["--bank", "nowhere"], "no bank in nowhere"),
        (["--recipe", "ffff"], "ffff: no table of that kind"),
    ],
)
def test_mistakes_in_the_call(
    cache: Path, tmp_path: Path, error_of: ErrorOf, options: list[str], message: str
) -> None:
    where = ["--cache-dir", cache, "--out", tmp_path / "out"]
    backbone = [] if "--recipe" in options else ["--backbone", "logmel"]
    assert message in error_of(main, *backbone, *where, *options)


def test_no_test_clips(tmp_path: Path, error_of: ErrorOf) -> None:
    root = write_root(tmp_path / "data")
    shutil.rmtree(root / "fan" / "test")
    where = ["--cache-dir", str(tmp_path / "a")]
    extract(["--backbone", "logmel", "--data", str(root), *where])
    build(["--backbone", "logmel", *where])
    assert "no test clips of logmel" in error_of(main, "--backbone", "logmel", *where)


def test_indexing_and_scoring_load_no_torch() -> None:
    code = "import sys, cache.run, index.run, eval.run; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_recording_that_was_swapped_is_not_scored_from_its_old_row(
    cache: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    tests = sorted((root / "fan" / "test").iterdir())
    audio = ["--audio", str(root), "--no-report"]
    assert run(cache, out, *audio) == 0
    assert len(read_submission(out, Section("fan", 0)).files) == len(tests)
    size, times = tests[0].stat().st_size, tests[0].stat()
    write_clip(tests[0], 77)
    os.utime(tests[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert tests[0].stat().st_size == size
    capsys.readouterr()
    assert run(cache, out, *audio) == 1  # a clip of the data has no score
    said = capsys.readouterr().err
    assert "1 test clips are other recordings now than those in the cache and not scored" in said
    assert f"fan/test/{tests[0].name} for one" in said
    assert set(read_submission(out, Section("fan", 0)).files) == {path.name for path in tests[1:]}
    for number, path in enumerate(tests):
        write_clip(path, 100 + number)
    assert run(cache, out, *audio) == 1  # of none at hand is there a score: as they were, and said so
    said = capsys.readouterr().err
    assert f"every other recording at hand ({len(tests)} in all)" in said
    assert len(read_submission(out, Section("fan", 0)).files) == len(tests)


@pytest.mark.parametrize("chain", [True, False])
def test_the_reason_is_told_where_every_clip_was_left_out(
    cache: Path, root: Path, tmp_path: Path, error_of: ErrorOf, chain: bool
) -> None:
    for path in (root / "fan" / "test").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    how = ["logmel"] if chain else CHAIN
    said = error_of(main, *how, "--data", root, "--cache-dir", cache, "--out", tmp_path / "out")
    assert "nothing to score" in said
    assert "4 clips could not be used" in said
    assert "section_00_source_test_anomaly_0000" in said


def test_the_reason_is_told_where_no_training_clip_is_left(
    root: Path, tmp_path: Path, error_of: ErrorOf
) -> None:
    for path in (root / "fan" / "train").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    where = ["--cache-dir", tmp_path / "empty", "--out", tmp_path / "out"]
    said = error_of(main, "logmel", "--data", root, *where)
    assert "no training clip could be used, 8 clips left out" in said
    assert "section_00_source_train_normal_0000" in said
    shutil.move(root / "fan" / "train", root / "fan" / "good")
    said = error_of(main, "logmel", "--data", root, *where)
    assert "no training clip could be used: put normal recordings into a folder normal/" in said
    assert "not read: good/" in said

"""Files of numbers as recordings: every format against NumPy, damage, and the chain to the page."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import soundfile
from nptdms import ChannelObject, TdmsWriter
from scipy.stats import spearmanr

from cache.base.errors import AsdError
from cache.heard import Signal
from cache.select import Selection, choose
from cache.store import Store
from cache.table import Section
from eval.detector import Detector
from eval.monitor.sources import FolderSource
from eval.run import main as evaluate
from extractors.audio.decode import decode_file, read_audio
from extractors.clips.listing import list_clips
from extractors.data.run import main
from extractors.run import main as extract

ErrorOf = Callable[..., str]
RATE = 25_600
X = np.random.default_rng(0).normal(0, 3, (RATE // 4, 2)) + 9.81  # (T, 2) in g
T = np.arange(len(X)) / RATE
TOLD = Signal(RATE)


def text(path: Path, values: np.ndarray, separator: str = ",", header: str = "", fmt: str = "%.17g") -> None:
    np.savetxt(path, values, delimiter=separator, header=header, comments="", fmt=fmt)


def npy(path: Path, values: np.ndarray) -> None:
    np.save(path, values)


def hdf5(path: Path, values: np.ndarray = X.T) -> None:
    with h5py.File(path, "w") as file:
        made = file.create_dataset("vibration/acc", data=values, chunks=(1, 1000), compression="gzip")
        made.attrs["sample_rate"], made.attrs["unit"] = RATE, "g"


def mat73(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("acc", data=X.T)
        file.create_dataset("fs", data=np.array([[float(RATE)]]))
    data = path.read_bytes()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + data[128:])


def tdms(path: Path) -> None:
    told = {"wf_increment": 1 / RATE, "unit_string": "g"}
    with TdmsWriter(str(path)) as writer:
        writer.write_segment([ChannelObject("rig", n, X[:, i], properties=told) for i, n in enumerate("xy")])


def parquet(path: Path) -> None:
    frame = pd.DataFrame({"Time": T, "A_x [g]": X[:, 0], "A_y [g]": X[:, 1], "note": "hello"})
    frame.to_parquet(path, row_group_size=1000)


# File name to who writes it, and whether it tells its rate.
FORMATS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "plain.csv": (lambda p: text(p, X), False),
    "head.csv": (lambda p: text(p, X, header="made by a logger\nacc_x [g],acc_y [g]"), False),
    "clock.csv": (lambda p: text(p, np.c_[T, X], ";", "Time (s);x;y"), True),
    "ms.tsv": (lambda p: text(p, np.c_[T * 1000, X], "\t", "t [ms]\tx\ty"), True),
    "counted.csv": (lambda p: text(p, np.c_[np.arange(len(X)), X]), False),
    "spaces.csv": (lambda p: text(p, X, "   ", "# sample rate: 25.6 kHz"), True),
    "rows.npy": (lambda p: npy(p, X), False),
    "columns.npy": (lambda p: npy(p, np.ascontiguousarray(X.T)), False),
    "fortran.npy": (lambda p: npy(p, np.asfortranarray(X)), False),
    "v5.mat": (lambda p: scipy.io.savemat(
        p, {"DE_time": X[:, :1], "FE_time": X[:, 1:], "fs": RATE, "rpm": [[1797]]}, do_compression=True
    ), True),
    "nested.mat": (lambda p: scipy.io.savemat(p, {"bearing": {"gs": X, "sr": RATE}}), True),
    "v73.mat": (mat73, True),
    "acc.h5": (hdf5, True),
    "acc.tdms": (tdms, True),
    "acc.parquet": (parquet, True),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_numbers(name: str, tmp_path: Path) -> None:
    write, tells = FORMATS[name]
    write(tmp_path / name)
    whole = decode_file(tmp_path / name, signal=TOLD)
    np.testing.assert_allclose(whole.samples, X.astype(np.float32), rtol=1e-6)
    assert np.abs(whole.samples).max() > 15  # nothing is clipped at 1
    part = decode_file(tmp_path / name, (0.05, 0.2), signal=TOLD)
    np.testing.assert_array_equal(part.samples, whole.samples[1280:5120])
    assert part.content_sha256 == whole.content_sha256
    centred = decode_file(tmp_path / name, signal=Signal(RATE, remove_dc=True)).samples
    np.testing.assert_allclose(centred, X - X.mean(axis=0), atol=1e-5)
    one = decode_file(tmp_path / name, signal=Signal(RATE, "1" if "plain" in name else "")).samples
    np.testing.assert_array_equal(one, whole.samples[:, 1:] if "plain" in name else whole.samples)
    if tells:
        assert decode_file(tmp_path / name).sample_rate == RATE
        with pytest.raises(AsdError, match="its own"):
            decode_file(tmp_path / name, signal=Signal(12_800))
    else:
        with pytest.raises(AsdError, match="give --rate HZ"):
            decode_file(tmp_path / name)


def test_decimal_commas_blank_ends_and_windows_line_ends(tmp_path: Path) -> None:
    text(tmp_path / "a.csv", np.c_[T, X], ";", "Zeit (s);x;y")
    plain = (tmp_path / "a.csv").read_text()
    expected = decode_file(tmp_path / "a.csv").samples
    for changed in (plain.replace(".", ","), plain.replace("\n", "\r\n"), plain + "\n\n \n", plain.rstrip()):
        (tmp_path / "b.csv").write_text(changed, newline="")
        np.testing.assert_array_equal(decode_file(tmp_path / "b.csv").samples, expected)


def test_columns_by_name_without_unit_or_by_number(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet")
    for column, chosen in (("A_y [g]", [1]), ("a_y", [1]), ("1,0", [1, 0]), ("A_x, A_y", [0, 1])):
        found = decode_file(tmp_path / "a.parquet", signal=Signal(column=column)).samples
        np.testing.assert_array_equal(found, X.astype(np.float32)[:, chosen])
    with pytest.raises(AsdError, match=r"no one column 'z'; it has A_x \[g\], A_y \[g\]"):
        decode_file(tmp_path / "a.parquet", signal=Signal(column="z"))


def test_gravity_does_not_eat_the_last_bits(tmp_path: Path) -> None:
    small = np.random.default_rng(1).normal(0, 1e-3, 4000)
    np.save(tmp_path / "a.npy", 1e6 + small)
    found = decode_file(tmp_path / "a.npy", signal=Signal(RATE, remove_dc=True)).samples[:, 0]
    np.testing.assert_allclose(found, small - small.mean(), atol=1e-8)


def test_tiny_numbers_are_no_silence_but_what_never_moves_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X[:, 0] * 1e-10)
    np.save(tmp_path / "b.npy", np.full(4000, 5))
    assert read_audio(tmp_path / "a.npy", 16_000, signal=TOLD).facts.lack == ""  # type: ignore[union-attr]
    assert read_audio(tmp_path / "b.npy", 16_000, signal=TOLD).facts.lack == "constant"  # type: ignore[union-attr]


def header(shape: tuple[int, ...], descr: str = "<f8") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def bomb(path: Path) -> None:
    """A MAT file of 1 MB with a variable of 1.2 GB of zeros."""
    packer = zlib.compressobj(9)  # each block, flushed in full, stands for itself
    first, other = (packer.compress(b"\0" * 2**24) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    data = first + 74 * other
    tag = (15).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + tag + data)


def external(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (4000,), "f4", external=[("/etc/passwd", 0, 16_000)])


def linked(path: Path) -> None:
    hdf5(path.with_name("other.h5"))
    with h5py.File(path, "w") as file:
        file["a"] = h5py.ExternalLink("other.h5", "/vibration/acc")


def sparse(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (2**40,), "f4", chunks=(1000,))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "objects.npy": (lambda p: np.save(p, np.array([{}, 1], object), allow_pickle=True), "Python objects"),
    "claims.npy": (lambda p: p.write_bytes(header((2**50,))), "cut short"),
    "cut.npy": (lambda p: p.write_bytes(header((100,)) + bytes(700)), "cut short"),
    "complex.npy": (lambda p: np.save(p, X.astype(complex)), "expected real numbers"),
    "cube.npy": (lambda p: np.save(p, np.zeros((9, 9, 9))), "expected real numbers"),
    "nan.npy": (lambda p: np.save(p, np.where(X > 12, np.nan, X)), "NaN or infinite"),
    "huge.npy": (lambda p: np.save(p, X * 1e300), "NaN or infinite"),
    "text.npy": (lambda p: p.write_bytes(b"hello" * 100), "not an NPY file"),
    "empty.csv": (lambda p: p.write_bytes(b""), "an empty file"),
    "words.csv": (lambda p: p.write_text("hello\nworld\n"), "no row of numbers"),
    "later.csv": (lambda p: p.write_text("1\n" * 50 + "broken\n" + "2\n" * 50), "not numbers throughout"),
    "gap.csv": (lambda p: p.write_text("1,2\n" * 50 + "3,\n" + "4,5\n" * 50), "NaN"),
    "binary.csv": (lambda p: p.write_bytes(bytes(range(256)) * 9), "zero bytes"),
    "wide.csv": (lambda p: p.write_text(",".join(["1"] * 5000) + "\n"), "transpose it"),
    "bomb.mat": (bomb, "bytes unpacked"),
    "cut.mat": (lambda p: (scipy.io.savemat(p, {"x": X}), p.write_bytes(p.read_bytes()[:-90])), "cut short"),
    "words.mat": (lambda p: scipy.io.savemat(p, {"x": "hello"}), "no signal in it"),
    "external.h5": (external, "another file, which is not followed"),
    "linked.h5": (linked, "no signal in it"),
    "sparse.h5": (sparse, "more than its"),
    "cut.h5": (lambda p: (hdf5(p), p.write_bytes(p.read_bytes()[:-9000])), "not an HDF5 file, or damaged"),
    "text.tdms": (lambda p: p.write_bytes(b"hello" * 100), "not a TDMS file, or damaged"),
    "cut.parquet": (lambda p: (parquet(p), p.write_bytes(p.read_bytes()[:-90])), "not a Parquet file"),
    "words.parquet": (lambda p: pd.DataFrame({"a": ["x"] * 99}).to_parquet(p), "no column of numbers"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_in_bounded_memory(name: str, tmp_path: Path) -> None:
    write, reason = DAMAGE[name]
    write(tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(AsdError, match=reason):
            decode_file(tmp_path / name, signal=TOLD)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def root_of(folder: Path, write: Callable[[Path, np.ndarray], object], suffix: str) -> Path:
    """A machine that hums at 300 Hz, and at 900 Hz too where it is abnormal."""
    for i in range(36):
        split = "normal" if i < 24 else "new"
        rng, t = np.random.default_rng(i), np.arange(RATE // 4) / RATE
        odd = (i - 30) * 0.05 if i > 30 else 0.0
        wave = 0.2 * np.sin(2 * np.pi * 300 * t) + odd * np.sin(2 * np.pi * 900 * t)
        path = folder / "pump" / split / f"{i:02d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, (wave + rng.normal(0, 0.02 + 0.001 * i, t.size)).astype(np.float32))
    return folder


def scores_of(root: Path, out: Path, *settings: str) -> dict[str, float]:
    call = ["logmel", "--data", str(root), "--out", str(out), "--cache-dir", str(out) + "-cache"]
    assert evaluate([*call, *(["--set", *settings] if settings else [])]) == 0
    (path,) = out.rglob("anomaly_score_*.csv")
    lines = [line.rsplit(",", 1) for line in path.read_text().splitlines()]
    return {name.partition(".")[0]: float(score) for name, score in lines}


def test_accelerometer_csvs_score_as_the_wavs_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waves = root_of(tmp_path / "w", lambda p, x: soundfile.write(p, x, RATE, subtype="FLOAT"), ".wav")
    table = root_of(
        tmp_path / "c", lambda p, x: text(p, np.c_[x, 5 * x], header="acc [g],other", fmt="%.9g"), ".csv"
    )
    sound = scores_of(waves, tmp_path / "sound")
    numbers = scores_of(table, tmp_path / "numbers", f"rate={RATE}", "column=acc")
    assert sound.keys() == numbers.keys()
    assert spearmanr(list(sound.values()), [numbers[n] for n in sound]).statistic == 1
    np.testing.assert_allclose([numbers[n] for n in sound], list(sound.values()), rtol=1e-3)
    page = (tmp_path / "numbers" / "report.html").read_text()
    assert "a signal, made audible: its mean removed, scaled by" in page
    assert "made audible: " not in (tmp_path / "sound" / "report.html").read_text()
    capsys.readouterr()
    assert main(["check", str(table), "--rate", str(RATE), "--column", "acc"]) == 0
    said = capsys.readouterr()
    assert "numbers, not sound: acc [g]; values up to 0." in said.err
    detector = Detector("logmel", rate=RATE, column="acc").fit(table / "pump" / "normal")
    found = detector.score(table / "pump" / "new")
    assert len(found) == 12
    assert found.clips[-1].score > found.clips[0].score
    later = Detector("logmel", column="acc").fit(table / "pump" / "normal", rate=RATE)
    again = later.score([*sorted((table / "pump" / "new").iterdir())], rate=RATE)  # files alone, no manifests
    assert [clip.score for clip in again] == [clip.score for clip in found]


def test_rate_and_column_are_part_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = root_of(tmp_path / "c", lambda p, x: np.save(p, np.c_[x, x[::-1]]), ".npy")
    call = ["--data", str(root), "--backbone", "logmel", "--cache-dir", str(tmp_path / "cache")]
    for options, expected in (
        (["--rate", str(RATE)], "36 new"), (["--rate", str(RATE)], "36 unchanged"),
        (["--rate", "12800"], "36 new"), (["--rate", str(RATE), "--column", "1"], "36 new"),
        (["--rate", str(RATE), "--remove-dc"], "36 new"),
    ):  # fmt: skip
        assert extract([*call, *options]) == 0
        assert expected in capsys.readouterr().out
    assert extract(call) != 0
    assert "give --rate HZ" in capsys.readouterr().err


def test_a_manifest_tells_rate_and_column_of_each_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", X)
    text(tmp_path / "b.csv", X)
    table = tmp_path / "list.csv"
    table.write_text("path,split,rate,column,load\na.npy,train,25600,1,3\nb.csv,test,12800,,\n")
    first, second = list_clips([table]).clips
    assert (first.signal, second.signal) == (Signal(25_600, "1", own=True), Signal(12_800, own=True))
    assert first.attributes == {"load": "3"}
    call = ["--data", str(table), "--backbone", "logmel", "--cache-dir", str(tmp_path / "cache")]
    assert extract(call) == 0
    assert extract(call) == 0
    assert "2 unchanged" in capsys.readouterr().out
    table.write_text(table.read_text().replace("12800", "6400"))  # heard in another way: made anew
    assert extract(call) == 0
    assert "1 changed" in capsys.readouterr().out
    table.write_text("path,split,rate\na.npy,train,fast\n")
    with pytest.raises(AsdError, match="rate 'fast' is not whole Hz"):
        list_clips([table])


def test_tables_beside_sound_are_not_recordings(root: Path) -> None:
    before = list_clips([root])
    (root / "fan" / "train" / "labels.csv").write_text("a,b\n1,2\n")
    after = list_clips([root])
    assert after.clips == before.clips
    assert not after.faults
    assert any("1 files that are no recordings (.csv 1)" in note for note in after.notes)


def test_hours_are_read_by_span(tmp_path: Path) -> None:
    """Ten hours of two channels, holes on the disk: a window costs a window."""
    frames, rate = 10 * 3600 * 1000, 1000
    with (tmp_path / "long.npy").open("wb") as file:
        file.write(header((frames, 2), "<f4"))
        file.truncate(file.tell() + 8 * frames)
        file.seek(-8 * 1000, io.SEEK_END)
        file.write(np.tile(np.float32([1, 2]), 1000).tobytes())
    with pytest.raises(AsdError, match="longer than 3600 s: cut it into windows"):
        decode_file(tmp_path / "long.npy", signal=Signal(rate))
    tracemalloc.start()
    try:
        found = decode_file(tmp_path / "long.npy", (35_999.0, 36_000.0), signal=Signal(rate)).samples
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found, np.tile(np.float32([1, 2]), (1000, 1)))


def test_every_channel_its_own_table_or_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = root_of(tmp_path / "c", lambda p, x: np.save(p, np.c_[x, x[::-1], 2 * x]), ".npy")
    call = ["--data", str(root), "--backbone", "logmel", "--cache-dir", str(tmp_path / "cache")]
    call += ["--rate", "25600"]
    assert extract([*call, "--channel", "all"]) == 0
    store = Store(tmp_path / "cache")
    recipes = {dict(r.settings).get("channel"): r for r in store.recipes() if not r.parents}
    assert recipes.keys() == {"0", "1", "2"}
    assert extract([*call, "--channel", "2,0"]) == 0
    assert capsys.readouterr().out.count("36 unchanged") >= 1
    section = Section("pump", 0)
    for name, recipe in recipes.items():
        table = store.read(recipe, section, "train")
        own = tmp_path / name
        assert extract([*call[:4], "--cache-dir", str(own), "--rate", "25600", "--channel", name]) == 0
        (alone,) = Store(own).recipes()
        np.testing.assert_array_equal(table.embeddings, Store(own).read(alone, section, "train").embeddings)
    both = choose(store, Selection(backbones=("logmel",), channel="0,2"))
    joined = store.read(both, section, "train").embeddings
    parts = [store.read(recipes[name], section, "train").embeddings for name in ("0", "2")]
    np.testing.assert_array_equal(joined, np.hstack(parts))
    assert extract([*call, "--channel", "0,0"]) == 2
    assert "holds one channel twice" in capsys.readouterr().err
    other = root / "pump" / "new" / "99.npy"
    np.save(other, np.load(root / "pump" / "new" / "24.npy")[:, :2])
    assert extract([*call, "--channel", "all"]) == 2
    said = capsys.readouterr().err
    assert "--channel all: clips of 3 (pump/new/24.npy), 2 (pump/new/99.npy) channels" in said


def test_a_signal_alone_is_no_manifest(tmp_path: Path, error_of: Callable[..., str]) -> None:
    text(tmp_path / "with names.csv", X[:, :1], header="acc [g]")
    text(tmp_path / "numbers alone.csv", X)
    for name in ("with names.csv", "numbers alone.csv"):
        said = error_of(main, "check", tmp_path / name)
        assert "a recording of numbers is given by its folder" in said
    with pytest.raises(AsdError, match=r"give --rate HZ \(rate= in Python\)"):
        Detector("logmel").fit(tmp_path / "with names.csv")
    with pytest.raises(AsdError, match="rate=-1: expected whole Hz above 0"):
        Detector("logmel").fit(tmp_path / "with names.csv", rate=-1)


def test_a_watched_folder_of_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "b.csv").write_text("1\n2\n")
    source = FolderSource(tmp_path, settled=0.0)
    assert [arrival.name for arrival in source.arrived()] == ["a.npy", "b.csv"]
    soundfile.write(tmp_path / "c.wav", X[:, 0] / 100, RATE)
    assert [arrival.name for arrival in source.arrived()] == ["c.wav"]


def test_what_is_told_of_numbers_is_not_passed_over_for_sound(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--backbone", "logmel", "--data", str(root), "--cache-dir", str(tmp_path / "c")]
    for flag, value in (("--rate", "8000"), ("--column", "acc")):
        assert extract([*call, flag, value]) == 2
        assert f"{flag} {value} is of files of numbers" in capsys.readouterr().err
    table = tmp_path / "list.csv"
    first = sorted((root / "fan" / "train").iterdir())[0]
    table.write_text(f"path,split\n{first},test\n")
    assert main(["check", str(table)]) == 0
    assert "add rows of split train" in capsys.readouterr().out

"""The report in a real browser: it loads, plays, sorts, filters; hostile names stay text."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from cache.base.errors import AsdError
from cache.files.atomic import file_sha256
from cache.table import Section
from eval.metrics.sections import SectionTruth, evaluate_section
from eval.page.sound import listen, make_sound, mel_levels, recordings_of, worth_hearing
from eval.page.verdict import detail, headline, verdict
from eval.page.views import ClipView, NeighbourView
from eval.results.description import SystemDescription, read_description, write_description
from eval.results.folder import ResultsFolder
from eval.results.submission import Submission, write_submission
from eval.run import main
from eval.scoring.difference import Difference
from extractors.clips.listing import Clip
from extractors.run import main as extract
from index.run import main as build
from tests.conftest import PATIENCE, write_clip, write_root

FAN = Section("fan", 0)
HOSTILE = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--mute-audio"),
]


class Opened:
    """A page in the browser, with what it said and asked for."""

    def __init__(self, page: Any) -> None:
        self.page, self.said, self.asked = page, [], []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path) -> Any:
        self.page.goto(path.as_uri())
        assert self.said == []
        assert [u for u in self.asked if not u.startswith("data:")] == [path.as_uri()]
        return self.page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=FLAGS, timeout=1000 * PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Opened]:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1000 * PATIENCE)
    page = Opened(context.new_page())
    yield page
    assert page.said == []  # nor anything after loading
    context.close()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of our own chain on two small machines, one of them without truth."""
    folder = tmp_path_factory.mktemp("page")
    root = write_root(folder / "data")
    write_root(root, "pump")
    for i, path in enumerate(sorted((root / "pump" / "test").iterdir())):
        path.rename(path.with_name(f"section_00_{i:04d}.wav"))
    cache = ["--cache-dir", str(folder / "artifacts")]
    assert extract(["--backbone", "logmel", "--data", str(root), *cache]) == 0
    assert build(["--backbone", "logmel", "--scorer", "min-distance", *cache]) == 0
    score = ["--backbone", "logmel", "--scorer", "min-distance", *cache]
    out = ["--out", str(folder / "out"), "--audio", str(root)]
    assert main([*score, *out]) == 0
    return folder


def test_the_page_of_our_own_chain(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    assert page.title() == "fan, pump \N{EN DASH} report"
    assert page.locator("#top h1").inner_text() == "fan, pump"
    assert "logmel, min-distance" in page.locator("#made").inner_text()
    assert "section_00" not in page.locator("#verdict").inner_text()
    record = json.loads((chain / "out" / "results.json").read_text())
    assert page.locator("#official").inner_text() == f"{100 * record['official_score']:.2f}"
    cards = page.locator(".verdict").all_inner_texts()
    assert len(cards) == 2
    assert "of 4 clips" in cards[0] or "All 4 clips" in cards[0]
    assert "flagged if all were normal" in cards[1]
    assert page.locator("#results tbody tr").count() == 1  # the machine whose truth is known
    assert page.locator("#scores svg.strip").count() == 2
    assert page.locator("#scores svg.roc").count() == 1
    assert page.locator(".list tbody tr").count() == 8


def until(page: Any, holds: str) -> None:
    """Wait for a condition; the page's own policy forbids the browser driver's way of polling."""
    for _ in range(20 * PATIENCE):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{holds} never came true")


def painted(page: Any, selector: str) -> int:
    """How many different pixels a canvas holds."""
    return page.eval_on_selector(
        selector,
        "c => new Set(new Uint32Array(c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.buffer)).size",
    )


def test_a_clip_beside_its_neighbours_is_seen_and_heard(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    assert page.locator("#viewer .sound").count() == 4  # clip, two neighbours, difference
    for place in range(1, 5):
        assert painted(page, f"#viewer .sound:nth-child({place}) canvas") > 20
    caption = page.locator("#viewer .caption").first.inner_text()
    assert "score " in caption
    assert "domain decided" in caption
    assert page.locator("#difference .caption b").inner_text()
    until(page, "[...document.querySelectorAll('audio')].every(a => a.readyState)")
    lengths = page.eval_on_selector_all("audio", "all => all.map(a => a.duration)")
    assert len(lengths) == 3
    assert all(0.15 < length < 0.6 for length in lengths)  # clips of 0.2 and 0.3 s; MP3 pads
    page.keyboard.press("2")
    until(page, "document.querySelectorAll('audio')[1].played.length > 0")
    played = page.eval_on_selector_all("audio", "all => all.map(a => a.played.length)")
    assert played[0] == 0
    page.locator(".play").first.click()
    until(page, "document.querySelectorAll('audio')[0].played.length > 0")


def test_keys_walk_through_the_list(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    selected = ".list tr[aria-current=true]"
    rows = page.locator(".list tbody tr").all_inner_texts()
    names = [row.split("\n")[0].split("\t")[0].removeprefix("♪ ") for row in rows]
    seen = [page.locator("#clip").inner_text()]
    for key in ("j", "j", "k"):
        page.keyboard.press(key)
        assert page.locator(selected).count() == 1
        seen.append(page.locator("#clip").inner_text())
    assert seen == [names[0], names[1], names[2], names[1]]
    page.locator("#search").focus()
    page.keyboard.press("j")  # is typed, does not walk
    assert page.locator("#search").input_value() == "j"


def test_the_list_sorts_and_filters(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    column = "() => [...document.querySelectorAll('.list tbody tr')].map(r => r.cells[{}].innerText)"
    page.locator(".list th button", has_text="clip").click()
    clips = page.evaluate(column.format(0))
    assert [c.split("\n")[0] for c in clips] == sorted(c.split("\n")[0] for c in clips)
    page.locator("#machine").select_option("fan/section_00")
    page.locator(".list th button", has_text="score").click()
    scores = [float(s) for s in page.evaluate(column.format(1))]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    page.locator(".list th button", has_text="score").click()
    assert [float(s) for s in page.evaluate(column.format(1))] == sorted(scores)
    page.locator("#search").fill("target_test anomaly")
    assert page.locator("#count").inner_text() == "1 of 8 clips"
    assert "target_test_anomaly" in page.locator("#clip").inner_text()
    page.locator("#search").fill("no such clip")
    assert page.locator(".list tbody tr").all_inner_texts() == [
        "No clip is like that: change the search or the choice beside it."
    ]


def test_the_official_table_sorts(tmp_path: Path, opened: Opened) -> None:
    page = opened.open(write_machines(tmp_path, machines=3, each=30))
    head = page.locator("#results th", has_text="AUC source")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    cells = page.eval_on_selector_all("#results tbody tr", "r => r.map(x => x.cells[2].innerText)")
    values = [float(cell.split("\n")[0]) for cell in cells]
    assert values == sorted(values, reverse=True)
    low, high = map(float, cells[0].split("\n")[1].split("\N{EN DASH}"))
    assert low <= values[0] <= high


def test_a_map_point_leads_to_its_clip(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    until(page, "document.querySelector('.map canvas').width > 300")
    assert painted(page, ".map canvas") > 5
    options = page.locator("#map select").nth(1).locator("option").all_inner_texts()
    assert options == ["domain", "condition", "train or test", "attribute: speed"]
    page.locator("#map select").nth(1).select_option(".speed")
    assert "unknown" not in page.locator("#map .legend").inner_text()


def drag(page: Any, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of an element to another, both as shares of its width and height."""
    page.locator(selector).first.evaluate("e => e.scrollIntoView({block: 'center', behavior: 'instant'})")
    box = page.locator(selector).first.bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=3)
    page.mouse.up()


def test_a_selection_is_looped_alone_and_louder(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    assert page.locator(".region-tools button", has_text="loop").is_disabled()
    drag(page, "#viewer .picture", (0.25, 0.2), (0.75, 0.6))
    told = page.locator(".region-tools [role=status]").inner_text()
    seconds = float(page.locator("#viewer .picture").first.get_attribute("aria-valuemax"))
    start, end = (float(word) for word in told.split(" s,")[0].split(" to "))
    assert start == pytest.approx(seconds / 4, abs=0.02)
    assert end == pytest.approx(3 * seconds / 4, abs=0.02)
    # 65 steps of equal width in mel to 8 kHz; the picture's lower end is half a step up.
    mel = 2595 * np.log10(1 + 8000 / 700)
    low, high = (700 * (10 ** ((64 * y + 0.5) / 65 * mel / 2595) - 1) for y in (0.4, 0.8))
    assert f"{low / 1000:.1f} kHz to {high / 1000:.1f} kHz" in told
    assert page.locator(".region:visible").count() == 3  # in all three panels
    for name in ("loop", "only these frequencies"):
        page.locator("button", has_text=name).click()
        assert page.locator("button", has_text=name).get_attribute("aria-pressed") == "true"
    page.locator("input[type=range]").fill("12")
    assert "+12 dB" in page.locator(".region-tools").inner_text()
    page.keyboard.press("Escape")
    first = "document.querySelectorAll('audio')[0]"
    page.evaluate(f"window.turns = []; {first}.onseeking = () => turns.push({first}.currentTime)")
    page.locator(".play").first.click()
    until(page, "turns.length > 3")
    _, *again = page.evaluate("turns")  # the first leads to the selection, those from its end
    assert again == pytest.approx([start] * len(again), abs=0.02)
    until(page, f"!{first}.paused")
    until(page, f"{start - 0.15} <= {first}.currentTime && {first}.currentTime <= {end + 0.15}")
    page.locator("button", has_text="clear").click()
    assert page.locator(".region:visible").count() == 0


def test_filtered_sound_is_not_silent(chain: Path, opened: Opened) -> None:
    """The filters stand between element and loudspeaker: a recorder there hears something."""
    page = opened.open(chain / "out" / "report.html")
    heard = page.evaluate(
        """async () => {
          const tap = AudioNode.prototype.connect;
          let analyser = null;
          AudioNode.prototype.connect = function (to, ...rest) {
            if (to instanceof AudioDestinationNode && !(this instanceof AnalyserNode)) {
              analyser = new AnalyserNode(this.context);
              tap.call(this, analyser);
            }
            return tap.call(this, to, ...rest);
          };
          const gain = document.querySelector("input[type=range]");
          gain.value = 6;
          gain.dispatchEvent(new Event("input"));
          document.querySelector(".play").click();
          const samples = new Float32Array(2048);
          let most = 0;
          for (const clip of document.querySelectorAll("audio")) clip.loop = true;
          for (let i = 0; most <= 0.01 && i < PATIENCE * 100; i++) {
            await new Promise((done) => setTimeout(done, 10));
            if (analyser) analyser.getFloatTimeDomainData(samples);
            most = Math.max(most, ...samples.map(Math.abs));
          }
          return most;
        }""".replace("PATIENCE", str(PATIENCE))
    )
    assert heard > 0.01


def test_a_link_leads_to_a_clip(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    assert "#" not in page.url
    page.keyboard.press("j")
    page.keyboard.press("j")
    name, link = page.locator("#clip").inner_text(), page.url
    assert "#clip=" in link
    page.goto("about:blank")
    page.goto(link)
    assert page.locator("#clip").inner_text() == name


def test_marks_and_lists_are_exported(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    page.locator("#marks").click()
    assert "nothing is marked" in page.locator(".triage").inner_text()
    page.locator("button.judge", has_text="normal after all").click()
    page.keyboard.press("j")
    page.locator("button.judge", has_text="truly abnormal").click()
    page.reload()  # marks are kept
    with page.expect_download() as begun:
        page.locator("#marks").click()
    marks = pd.read_csv(begun.value.path())
    assert list(marks["mark"]) == ["normal", "abnormal"]
    assert all((chain / "data" / clip).exists() for clip in marks["clip"])
    page.locator("#kind").select_option("marked")
    assert page.locator("#count").inner_text() == "2 of 8 clips"
    with page.expect_download() as begun:
        page.locator("#csv").click()
    table = pd.read_csv(begun.value.path())
    assert list(table["mark"]) == ["normal", "abnormal"]
    assert table["score"].notna().all()


def test_a_keyboard_reaches_everything(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    picture = page.locator("#viewer .picture").first
    picture.focus()
    page.keyboard.press("ArrowRight")
    assert float(picture.get_attribute("aria-valuenow")) > 0.1
    page.locator(".list tbody button.link").nth(2).focus()
    page.keyboard.press("Enter")
    rows = page.locator(".list tbody button.link").all_inner_texts()
    assert page.locator("#clip").inner_text() == rows[2].removeprefix("♪ ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1366, 390])
def test_accessible_by_axe(chain: Path, opened: Opened, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened.page.emulate_media(color_scheme=scheme)
    opened.page.set_viewport_size({"width": width, "height": 844})
    page = opened.open(chain / "out" / "report.html")
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (one["id"], node["target"], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []
    # Nothing sticks out: a phone scrolls one way.
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark(chain: Path, opened: Opened) -> None:
    page = opened.open(chain / "out" / "report.html")
    tone = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(tone)
    page.locator("#theme").click()
    dark = page.evaluate(tone)
    assert sum(map(int, dark[4:-1].split(","))) < 150 < sum(map(int, light[4:-1].split(",")))
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert page.evaluate(tone) == dark


def write_machines(folder: Path, machines: int, each: int) -> Path:
    """Results of another system's submission with truth, `4 * each` clips a machine."""
    rng, kinds = np.random.default_rng(0), np.arange(4 * each) % 4
    for machine in range(machines):
        names = tuple(
            f"section_00_{('source', 'target')[k // 2]}_test_{('normal', 'anomaly')[k % 2]}"
            f"_{i:04d}_speed_{i % 3}.wav"
            for i, k in enumerate(kinds)
        )
        scores = rng.normal(0, 1, len(kinds)) + (1 + machine / 4) * (kinds % 2)
        section = Section(f"machine{machine}", 0)
        write_submission(ResultsFolder(folder / "sub"), Submission(section, names, scores, scores > 1))
    assert main(["--submission", str(folder / "sub"), "--out", str(folder / "out")]) == 0
    return folder / "out" / "report.html"


def test_seven_machines_of_two_hundred_clips(tmp_path: Path, opened: Opened) -> None:
    path = write_machines(tmp_path, machines=7, each=50)
    assert path.stat().st_size < 1_000_000  # the rest of 10 MB is left to sounds
    page = opened.open(path)
    assert page.locator(".list tbody tr").count() == 1400
    assert page.locator(".verdict").count() == 7
    assert page.locator("#domains svg circle").count() == 7
    page.locator("#kind").select_option("miss")
    misses = int(page.locator("#count").inner_text().split()[0])
    assert 0 < misses < 700
    page.locator(".verdict").nth(3).click()
    assert page.locator("#count").inner_text() == "200 of 1400 clips"
    assert "No recordings were named" in page.locator("#viewer").inner_text()


def test_one_clip_without_truth(tmp_path: Path, opened: Opened) -> None:
    write_submission(ResultsFolder(tmp_path / "sub"), Submission(FAN, ("a.wav",), np.ones(1), np.ones(1)))
    assert main(["--submission", str(tmp_path / "sub"), "--out", str(tmp_path / "out")]) == 0
    page = opened.open(tmp_path / "out" / "report.html")
    assert page.locator(".head").all_inner_texts() == ["The one clip sounds abnormal"]
    assert page.locator("nav a").all_inner_texts() == ["Verdict", "Listen", "How this was made"]
    assert page.locator("#clip").inner_text() == "a.wav"
    assert page.locator("#viewer .title button, #search, .list:visible").count() == 0


def test_hostile_attributes_stay_text(tmp_path: Path, opened: Opened) -> None:
    mark = "<img src=x onerror=window.pwned=4>"
    kinds = [(domain, kind) for domain in ("source", "target") for kind in ("normal", "anomaly")]
    names = tuple(f"section_00_{d}_test_{k}_0000_speed_{mark}.wav" for d, k in kinds)
    scores = np.arange(4.0)
    write_submission(ResultsFolder(tmp_path / "sub"), Submission(FAN, names, scores, scores > 1))
    assert main(["--submission", str(tmp_path / "sub"), "--out", str(tmp_path / "out")]) == 0
    page = opened.open(tmp_path / "out" / "report.html")
    assert f"speed {mark}" in " ".join(page.locator("#viewer").inner_text().split())
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0


def test_hostile_names_stay_text(tmp_path: Path, opened: Opened) -> None:
    machine = "<b onclick=alert(1)>fan"
    section = Section(machine, 0)
    name = "<img src=x onerror=window.pwned=3>.wav"
    submission = Submission(section, (name, "b.wav", "c"), np.array([2.0, 1, 0]), np.array([1, 0, 0]))
    write_submission(ResultsFolder(tmp_path / "sub"), submission)
    facts = {"command": HOSTILE}
    described = SystemDescription(HOSTILE, False, facts, {str(section): 1.5})
    write_description(ResultsFolder(tmp_path / "sub"), described)
    reasons = {
        "clip_id": f"x/{name}", "name": name, "p_value": 0.1, "decided": "source", "part": HOSTILE,
        "source_clip": HOSTILE, "source_distance": 1.0,
        "target_clip": "", "target_distance": np.inf,
    }  # fmt: skip
    frame = pd.DataFrame([reasons])
    frame.to_parquet(tmp_path / "sub" / f"neighbours_{machine}_section_00_test.parquet")
    assert main(["--submission", str(tmp_path / "sub"), "--out", str(tmp_path / "out")]) == 0
    page = opened.open(tmp_path / "out" / "report.html")
    assert page.locator("#top h1").inner_text() == machine
    assert page.locator("#clip").inner_text() == name
    assert page.locator(".verdict .machine").inner_text() == machine
    assert HOSTILE in page.locator("#made").inner_text()
    assert HOSTILE in page.locator("#viewer").inner_text()
    page.locator("#scores circle").first.hover()
    assert page.locator("#tip").is_visible()
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, b[onclick]").count() == 0


def test_the_same_results_give_the_same_page(chain: Path, tmp_path: Path) -> None:
    again = ["--submission", str(chain / "out"), "--audio", str(chain / "data")]
    for name in ("a", "b"):
        assert main([*again, "--out", str(tmp_path / name)]) == 0
    first, second = (tmp_path / name / "report.html" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() == (chain / "out" / "report.html").read_bytes()


def test_a_recording_that_cannot_be_read_is_named(chain: Path, tmp_path: Path, opened: Opened) -> None:
    data = shutil.copytree(chain / "data", tmp_path / "data")
    for path in [*(data / "pump" / "train").iterdir(), *(data / "fan" / "test").iterdir()]:
        path.write_bytes(b"not audio")
    again = ["--submission", str(chain / "out"), "--audio", str(data)]
    assert main([*again, "--out", str(tmp_path / "out")]) == 0
    page = opened.open(tmp_path / "out" / "report.html")
    assert "not audio, or damaged" in page.locator("#made").inner_text()
    page.locator("#machine").select_option("pump/section_00")
    assert page.locator("#viewer audio").count() == 1
    assert "Nearest normal, source: pump/train/" in page.locator("#viewer").inner_text()
    page.locator("#machine").select_option("fan/section_00")
    assert page.locator("#viewer audio").count() == 0
    assert "Nearest normal, source: fan/train/" in page.locator("#viewer").inner_text()


def tone(rate: int, frequency: float, seconds: float = 2.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize(("frequency", "rate"), [(440.0, 16_000), (3000.0, 16_000), (200.0, 8_000)])
def test_a_tone_is_bright_where_it_sounds(frequency: float, rate: int) -> None:
    levels = mel_levels(tone(rate, frequency), rate)
    assert levels.shape[0] == 64
    assert levels.shape[1] <= 160
    mel = 2595 * np.log10(1 + np.array([frequency, rate / 2]) / 700)
    expected = 65 * mel[0] / mel[1] - 1  # band i is centred at (i + 1) / 65 of the range
    assert abs(int(levels[:, 5].argmax()) - expected) <= 1
    assert levels[:, 5].max() > 255 * (1 - 12 / 120)  # a full-scale sine, spread over a band
    assert np.median(levels) < 100


def test_levels_are_decibels() -> None:
    loud, soft = (mel_levels(a * tone(16_000, 1000.0), 16_000) for a in (1.0, 0.01))
    assert (int(loud.max()) - int(soft.max())) * 120 / 255 == pytest.approx(40, abs=0.5)


@pytest.mark.parametrize(("native", "kept"), [(16_000, 16_000), (48_000, 32_000), (6_000, 8_000)])
def test_a_sound_is_the_recording(tmp_path: Path, native: int, kept: int) -> None:
    soundfile.write(tmp_path / "a.wav", 0.3 * tone(native, 500.0), native)
    sound = make_sound(tmp_path / "a.wav")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound.mp3)))
    assert (sound.rate, rate) == (kept, kept)
    assert (sound.seconds, sound.cut) == (pytest.approx(2.0, abs=0.01), False)
    middle = samples[rate // 2 : rate]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * rate / len(middle) == pytest.approx(500, abs=3)


def test_a_long_recording_is_cut_and_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * tone(8_000, 500.0, 30.0), 8_000)
    sound = make_sound(tmp_path / "a.wav")
    assert (sound.seconds, sound.cut) == (12.0, True)


def view(name: str, score: float, error: str = "", near: str = "") -> ClipView:
    kinds = {"false alarm": (1, "normal"), "miss": (0, "anomaly"), "": (1, "anomaly")}
    decision, condition = kinds[error]
    clip = Clip(name, Path(name), FAN, "test")
    other = Clip(near, Path(near), FAN, "train")
    neighbours = (NeighbourView("source", near, 1.0, other),) if near else ()
    return ClipView(name, score, decision, "source", condition, recording=clip, neighbours=neighbours)


def test_what_is_worth_hearing_comes_in_turn() -> None:
    fan = [view("a", 9), view("b", 8), view("c", 7, "false alarm"), view("d", 2, "miss"),
           view("e", 1, "miss")]  # fmt: skip
    pump = [view("p", 3)]
    order = [v.name for _, v in worth_hearing({FAN: fan, Section("pump", 0): pump}, 2)]
    # Of the fan: its top, its highest false alarm, its lowest miss, its second, its other miss.
    assert order == ["a", "p", "c", "e", "b", "d"]


def test_a_page_takes_as_many_sounds_as_fit(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ["--submission", str(chain / "out"), "--audio", str(chain / "data")]
    full = (chain / "out" / "report.html").stat().st_size
    for limit in (full - 1000, 1000):
        monkeypatch.setattr("eval.page.build._LARGEST", limit)
        assert main([*again, "--out", str(tmp_path / str(limit))]) == 0
        page = (tmp_path / str(limit) / "report.html").read_text()
        assert ('"mp3":' in page) == (limit > 1000)
        assert len(page) < full


def test_sounds_keep_to_their_budget(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b", "c", "n")):
        write_clip(tmp_path / f"{name}.wav", seed, seconds=1.0)
    clips = [view(str(tmp_path / f"{n}.wav"), 3 - i, near=str(tmp_path / "n.wav"))
             for i, n in enumerate("abc")]  # fmt: skip
    size = make_sound(tmp_path / "a.wav").size
    heard = listen({FAN: clips}, {}, most=5, budget=int(3.5 * size))
    assert heard.clips[FAN] == {clips[0].name, clips[1].name}  # a, n, b; c does not fit
    assert len(heard.sounds) == 3
    assert sum(sound.size for sound in heard.sounds.values()) <= 3.5 * size
    assert [len(recordings_of(clip)) for clip in clips] == [2, 2, 2]


def test_pages_of_the_same_recordings_encode_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_clip(tmp_path / f"{name}.wav", seed) for seed, name in enumerate("an")]
    clips = {FAN: [view(str(paths[0]), 3, near=str(paths[1]))]}
    written: list[object] = []
    write = soundfile.write
    monkeypatch.setattr(soundfile, "write", lambda *a, **k: (written.append(a), write(*a, **k)))
    hashes = {str(path): file_sha256(path) for path in paths}
    first, second = (listen(clips, hashes, most=5, budget=10**6) for _ in range(2))
    assert first == second
    assert len(first.sounds) == len(written) == 2
    assert listen(clips, {}, most=5, budget=10**6) == first  # of bytes that nobody knows, nothing is kept
    assert len(written) == 4


def test_verdicts() -> None:
    clips = [view("a", 3), view("b", 2, "false alarm"), view("c", 1, "miss")]
    assert headline(clips) == "2 of 3 clips sound abnormal"
    assert headline(clips[:1]) == "The one clip sounds abnormal"
    assert headline(clips[:2]) == "All 2 clips sound abnormal"
    truth = SectionTruth(np.array([True, False, True]), np.zeros(3, dtype=bool))
    result = evaluate_section([3, 2, 1], [1, 1, 0], truth)
    said = detail(clips, result, ("auc_source",))
    # AUC: 3 > 2, 1 < 2: one pair of two.
    assert said == (
        "1 of 2 anomalies found, 1 false alarm among 1 normal clip. Scores are no better than chance."
    )
    undecided = [ClipView("a", 1.0, None), ClipView("b", 2.0, None)]
    assert headline(undecided) == "2 clips scored, not judged"
    listen_to_them = "Nothing says which clips are truly abnormal: listen."
    assert detail(undecided, None, ()) == listen_to_them
    promise = {"promised": 0.1, "promise": "about 1 in 10 is flagged"}
    some = [ClipView(str(i), 1.0, int(i < 3), p_value=0.01) for i in range(20)]
    said = detail(some, None, (), calibration=promise)
    assert said.startswith("About 2 would be flagged if all were normal. Listen to the first")
    assert "one of the expected false alarms" in said
    assert said.endswith(" About 1 in 10 is flagged.")
    none = [ClipView(str(i), 1.0, 0, p_value=0.5) for i in range(20)]
    assert "No clip stands out" in detail(none, None, (), calibration=promise)
    third = [ClipView(str(i), 1.0, int(i < 9), p_value=0.01) for i in range(20)]
    assert "too many for false alarms" in detail(third, None, (), calibration=promise)
    every = [ClipView(str(i), 1.0, 1, p_value=0.06) for i in range(20)]
    assert headline(every) == "All 20 clips sound abnormal"
    assert detail(every, None, (), ["a guess"], promise) == (
        "About 2 would be flagged if all were normal. The machine or the recording set-up is not as it "
        "was for the normal clips. Compare microphone, place and gain; if they are the same and the "
        "machine sounds as it should, record normal clips under these conditions. "
        "About 1 in 10 is flagged. A guess."
    )


def test_a_terminal_is_told_the_same_verdict() -> None:
    clips = [ClipView(f"{i}.wav", 9.0 - i, int(i < 7)) for i in range(20)]
    tone = Difference("tone", 0.0, 2.0, 2000.0, 2200.0, 12.0, "a steady tone at 2.10 kHz")
    told = verdict(FAN, "fan", clips, {(FAN, "0.wav"): tone}, {"promised": 0.1})
    lines = told.text.splitlines()
    assert lines[0] == "fan: 7 of 20 clips sound abnormal; about 2 would be if all were normal"
    assert [line.split() for line in lines[2:6]] == [[str(9 - i), f"{i}.wav"] for i in range(1, 5)]
    assert lines[1].split(maxsplit=2) == ["9", "0.wav", "a steady tone at 2.10 kHz"]
    assert lines[6:] == ["  and 2 more"]
    assert verdict(FAN, "fan", clips[:1], {}).text.splitlines()[0] == "fan: 1 of 1 clip sounds abnormal"
    undecided = verdict(FAN, "fan", [ClipView("a", 1.0, None)], {})
    assert undecided.text == "fan: 1 clip scored, not judged"


def test_a_damaged_description_says_so(tmp_path: Path) -> None:
    (tmp_path / "system.json").write_text("{}")
    with pytest.raises(AsdError, match="system.json is damaged"):
        read_description(tmp_path, "name")
    assert read_description(tmp_path / "other", "name").title == "name"


def test_clips_with_a_time_in_their_names_are_drawn_over_time(
    chain: Path, tmp_path: Path, opened: Opened
) -> None:
    root = tmp_path / "data" / "fan"
    for i in range(6):
        write_clip(root / "normal" / f"n{i}.wav", i)
        write_clip(root / "new" / f"2026-11-2{i % 2}T0{i}-30-00.wav", 10 + i)
    write_clip(root / "new" / "of no time.wav", 20)
    cache = ["--cache-dir", str(tmp_path / "a"), "--backbone", "logmel"]
    assert extract(["--data", str(root.parent), *cache]) == 0
    assert build(["--scorer", "min-distance", *cache]) == 0
    assert main([*cache, "--scorer", "min-distance", "--out", str(tmp_path / "out")]) == 0
    page = opened.open(tmp_path / "out" / "report.html")
    assert page.locator("#time svg.time circle").count() == 6
    days = page.locator("#time table.days tbody tr").all_inner_texts()
    assert [text.split()[:2] for text in days] == [["2026-11-20", "3"], ["2026-11-21", "3"]]
    plain = opened.page
    plain.goto((chain / "out" / "report.html").as_uri())
    assert plain.locator("#time").count() == 0

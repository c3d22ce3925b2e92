"""The report, its pictures, charts and interval."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episodes import make
from PIL import Image

from ami_agent.evaluation import charts
from ami_agent.evaluation.film import data_uri, filmstrip, gif
from ami_agent.evaluation.memory_map import memory_map
from ami_agent.evaluation.report import number, write_report
from ami_agent.evaluation.results import Results
from ami_agent.evaluation.statistics import wilson

VOID = {"meta", "img", "br", "link"}
HOSTILE = "<script>alert('x')</script>\"'&{{ 7 * 7 }}"


class Page(HTMLParser):
    """Parses strictly: every tag must be closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def frames(count: int = 12) -> list[np.ndarray]:
    pictures = np.full((count, 24, 32, 3), (200, 204, 208), np.uint8)
    for i, picture in enumerate(pictures):
        picture[8:12, i : i + 4] = 240, 120, 20
    return list(pictures)


def result(episodes: int = 20) -> dict[str, list]:
    rng = np.random.default_rng(0)
    success = [i % 4 != 0 for i in range(episodes)]
    return {
        "success": success,
        "returns": [float(i) - 12.5 for i in range(episodes)],
        "lengths": [40] * episodes,
        "plan_ms": [20.0] * 99 + [90.0],
        "surprise": [list(10.0 ** rng.uniform(-3, 1, 40)) for _ in range(episodes)],
    }


def write(folder: Path, run: dict | None = None, results: dict | None = None, **more: Any) -> tuple[str, Page]:
    path = write_report(folder / "deep" / "report.html", run or {}, results or result(), **more)
    text = path.read_text("utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return text, Page(text)


def test_the_page_shows_what_was_measured(tmp_path: Path) -> None:
    run = {
        "environment": "ami/Push-v0",
        "agent": "ami",
        "seed": 0,
        "start": "2026-01-02",
        "versions": {"mujoco": "4.0.0", "torch": None},
        "argv": ["/usr/bin/ami-agent", "run", "--env", "two words"],
    }
    more: dict[str, Any] = {"config": {"planner": {"samples": 64}}, "control_period": 0.04}
    more |= {"memory": (3, 23)}
    text, page = write(tmp_path, run, film=gif(frames(), 25), strip=filmstrip(frames()), **more)
    for shown in ("ami/Push-v0", "75 %", "15 of 20", "53 to 89 %", ">-3<", "20 ms", "800 steps", "3 → 23"):
        assert shown in text, shown
    for shown in (
        "seed <strong>0<",
        "2026-01-02",
        "mujoco <strong>4.0.0",
        "&#34;samples&#34;: 64",
        "log scale",
        "time in s",
    ):
        assert shown in text, shown
    assert "ami-agent run --env &#39;two words&#39;" in text and "/usr/bin" not in text and "torch" not in text
    assert page.tags.count("svg") == 2 and page.tags.count("tr") == 21 and page.tags.count("circle") == 20


def test_the_page_asks_nothing_of_the_outside(tmp_path: Path) -> None:
    text, page = write(tmp_path, film=gif(frames(), 25), strip=filmstrip(frames()))
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    assert len(page.addresses) == 2 and all(address.startswith("data:image/") for address in page.addresses)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert not {"script", "iframe", "link", "object"} & set(page.tags)


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    run: dict[str, Any] = dict.fromkeys(("environment", "agent", "seed", "start", "status"), HOSTILE)
    run |= {"versions": {HOSTILE: HOSTILE}, "argv": ["", HOSTILE], "hardware": {"processor": HOSTILE}}
    text, page = write(tmp_path, run, config={HOSTILE: [HOSTILE]}, film=b"x")
    assert "script" not in page.tags and "<script" not in text
    assert "{{ 7 * 7 }}" in text  # not evaluated
    assert "<b>" not in charts.chart([charts.Line([0, 1], [0, 1])], "<b>", '"<b>')


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e308, -1e308, 1e-320])
def test_odd_values_break_nothing(tmp_path: Path, value: float) -> None:
    results = {"success": [True, False], "returns": [value, 1.0], "lengths": [3, 0], "plan_ms": [value]}
    text, _ = write(tmp_path, {}, results, surprise=[[value, 1.0, value], []])
    assert "nan," not in text and ",nan" not in text and "inf," not in text
    write(tmp_path, {}, {"returns": [value], "success": [True]}, surprise=[[value] * 5])


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    text, _ = write(tmp_path, {}, {"success": [], "returns": []})
    assert "No episode was finished" in text and "No prediction error was recorded" in text


def test_a_long_run_stays_small(tmp_path: Path) -> None:
    surprise = np.random.default_rng(0).random((300, 1500))
    text, page = write(tmp_path, {}, {"success": [True] * 300, "returns": [0.0] * 300}, surprise=surprise)
    assert len(text) < 500_000 and page.tags.count("tr") == 301
    paths = re.findall(r'<path class="faint" d="([^"]*)"', text)
    assert 10 < len(paths) <= 100 and max(path.count(",") for path in paths) <= 400


def test_a_success_that_is_not_told_is_not_shown_as_a_failure(tmp_path: Path) -> None:
    results = Results()
    for success in (None, None):
        results.add(make(0, success=success))
    assert results.summary()["success_rate"] is None and results.summary()["success_interval"] == [None, None]
    text, page = write(tmp_path, {}, asdict(results))
    assert "success rate" not in text and "✗" not in text and "filled dot" not in text and 'class="mark"' in text
    for success in (True, False, True):
        results.add(make(0, success=success))
    facts = results.summary()
    assert facts["episodes"] == 5 and facts["success_rate"] == pytest.approx(2 / 5)  # it tells of successes alone
    text, _ = write(tmp_path, {}, asdict(results))
    assert "2 of 5" in text and text.count("✗") == 3 and "filled dot" in text


def test_charts_are_well_formed_and_inside_their_frame() -> None:
    y = np.array([1, np.nan, 3, 2, -1])
    svg = charts.chart([charts.Line(np.arange(5), y)], "x", "y", [charts.Mark(1, 2.5, True, "a & b")])
    root = ElementTree.fromstring(svg)
    path = root.find("path")
    assert path is not None and path.get("d", "").count("M") == 2  # NaN leaves a gap
    for circle in root.iter("circle"):
        assert charts.TOP <= float(circle.get("cy", "nan")) <= charts.HEIGHT - charts.BOTTOM


def test_axes_end_at_round_ticks() -> None:
    assert charts.linear(-9.86, -5.38, 0, 1).ticks == (-10, -9, -8, -7, -6, -5)
    assert charts.linear(1, 3, 0, 1, tight=True, whole=True).ticks == (1, 2, 3)
    assert charts.linear(0, 5e-324, 0, 1).ticks == charts.linear(0, 0, 0, 1).ticks
    assert charts.logarithmic(0.003, 40, 0, 1).ticks == pytest.approx((1e-3, 1e-2, 0.1, 1, 10, 100))
    assert charts.logarithmic(0.003, 40, 0, 5)(0.1) == pytest.approx(2)
    assert len(charts.logarithmic(1e-100, 1e100, 0, 1).ticks) < 10


def test_thinning_keeps_the_peaks() -> None:
    y = np.zeros(10_000)
    y[1234], y[7777] = 5, -5
    kept = charts.thin(y)
    assert len(kept) <= charts.POINTS and {0, 1234, 7777, 9999} <= set(kept.tolist())


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 0, 0, 1), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_wilson(successes: int, n: int, low: float, high: float) -> None:
    """The last two are worked in R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="3 successes in 2"):
        wilson(3, 2)


def test_numbers_read_well() -> None:
    shown = {None: "–", 0: "0", 1234: "1,234", -0.01234: "-0.0123", 12345.6: "12,346", 7.5: "7.5", float("inf"): "∞"}
    assert {value: number(value) for value in shown} == shown
    assert number(float("nan")) == "NaN"


def test_gif_keeps_colours_size_and_pace() -> None:
    film: Any = Image.open(io.BytesIO(gif(frames(), fps=25, scale=3)))
    assert film.size == (96, 72) and film.n_frames == 12 and film.info["duration"] == 40 and film.info["loop"] == 0
    film.seek(5)
    picture = np.asarray(film.convert("RGB")).astype(int)
    np.testing.assert_allclose(picture, frames()[5].repeat(3, 0).repeat(3, 1), atol=3)


def test_gif_of_many_colours_keeps_the_rare_one() -> None:
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64, 1).repeat(3, axis=2).astype(np.uint8)
    grey[:2, :2] = 250, 20, 20
    picture = np.asarray(Image.open(io.BytesIO(gif([grey], 10))).convert("RGB")).astype(int)
    assert np.abs(picture - grey).max() <= 8


def test_filmstrip_shows_first_and_last() -> None:
    strip = np.asarray(Image.open(io.BytesIO(filmstrip(frames(), count=4, gap=2))))
    assert strip.shape == (24, 4 * 32 + 3 * 2, 4)
    np.testing.assert_array_equal(strip[:, :32, :3], frames()[0])
    np.testing.assert_array_equal(strip[:, -32:, :3], frames()[-1])
    assert Image.open(io.BytesIO(filmstrip(frames(2), count=8))).size == (68, 24)


@pytest.mark.parametrize(
    "bad", [[], [np.zeros((4, 4, 3))], [np.zeros((4, 4), np.uint8)]], ids=["none", "float", "flat"]
)
def test_films_say_what_is_wrong(bad: list) -> None:
    for film in (lambda: gif(bad, 25), lambda: filmstrip(bad)):
        with pytest.raises(ValueError, match="frame"):
            film()
    with pytest.raises(ValueError, match="fps"):
        gif(frames(), 0)


def test_data_uri() -> None:
    assert data_uri(b"ami", "image/png") == "data:image/png;base64,YW1p"


def test_a_memory_is_drawn_by_what_its_moments_are_like_and_by_outcome():
    latents = np.concatenate([np.zeros((5, 8)), np.eye(8)[:1].repeat(5, 0), [np.ones(8)]])
    success = np.array([1] * 5 + [0] * 5 + [-1])
    svg = ElementTree.fromstring(memory_map(latents, success))
    dots = list(svg)
    assert [dot.get("class") for dot in dots] == ["good"] * 5 + ["bad"] * 5 + ["untold"]
    assert "11 moments: 5 good, 5 bad, 1 untold" in svg.get("aria-label")
    width, height = map(float, svg.get("viewBox").split()[2:])
    places = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in dots]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)
    assert len(set(places[:5])) == len(set(places[5:10])) == 1 and len(set(places)) == 3
    assert memory_map(latents[:2], success[:2]) == memory_map(np.ones((9, 8)), success[:9]) == ""

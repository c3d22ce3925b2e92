"""The leaderboard's page, looked at in a real browser: nothing asked of the outside, sorted, filtered, hostile text."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pieces import GIF, made_up, write

from ami_agent import cli
from ami_agent.bench import curves
from ami_agent.bench.leaderboard import View, render, write_page
from ami_agent.bench.results import load
from ami_agent.bench.standings import standings
from ami_agent.bench.suites import SUITES

HOSTILE = "<script>alert(1)</script>\"' onmouseover=alert(2) {{ 7 * 7 }}"
TASKS = [task.name for task in SUITES["core-v1"].tasks]
WORLDS = ("ami/Reach-v0", "ami/Levers-v0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two suites: ours, SAC with three seeds, an agent of another MuJoCo, the references, and a hostile reason."""
    films = {"best": {"seed": 1_000_000, "gif": GIF}}
    made = [made_up("ours", task, seed, 0.1, 0.5, 0.85) for task in TASKS for seed in range(5)]
    made[0] |= {"films": films, "hardware": {"processor": HOSTILE}, "command": ["bench", "run", HOSTILE]}
    made += [made_up("sac", task, seed, 0.1, 0.3, 0.6) for task in TASKS for seed in range(3)]
    made[-1] |= {"status": "failed", "reason": HOSTILE}
    made += [made_up("ppo", task, 0, 0.1, 0.9, mujoco="3.9.0") for task in TASKS]
    made += [made_up(agent, task, 0, s) for agent, s in (("random", 0.05), ("oracle", 1.0)) for task in TASKS]
    made += [made_up("ours", task, seed, 0.2, suite="ami-bench-v1") for task in WORLDS for seed in range(5)]
    made += [made_up("sac", task, seed, 0.4, suite="ami-bench-v1") for task in WORLDS for seed in range(5)]
    return write(tmp_path_factory.mktemp("results"), *made)


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    loaded = load([folder])
    pieces = [replace(piece, agent=HOSTILE) if piece.agent == "sac" else piece for piece in loaded.pieces]
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    write_page(path, standings([*loaded.pieces, *pieces]), {Path(f"{HOSTILE}.json"): [HOSTILE]})
    return path


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `test` has playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed: sudo apt install chromium")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def look(browser, page):
    """Opens the page; whatever it asks for, says or throws is kept in `.faults`."""
    opened = []

    def open_page(width=1280, scheme="light"):
        view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        view.set_default_timeout(10_000)
        view.faults = []
        address = page.as_uri()
        view.on("request", lambda asked: asked.url.startswith(("data:", address)) or view.faults.append(asked.url))
        for event in ("console", "pageerror", "dialog"):
            view.on(event, lambda told, event=event: view.faults.append(f"{event}: {told}"))
        view.goto(address)
        opened.append(view)
        return view

    yield open_page
    for view in opened:
        assert not view.faults
        view.close()


def column(view, table, k):
    """The visible texts of the k-th column of the first such table."""
    script = """([table, k]) => [...document.querySelector(table).tBodies[0].rows]
        .filter((row) => row.offsetParent).map((row) => row.cells[k].innerText.trim())"""
    return view.evaluate(script, [table, k])


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(look, width, scheme):
    view = look(width, scheme)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    back, ink = view.evaluate(
        "(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))"
    )
    lightness = [sum(map(int, colour.strip("rgb()").split(","))) / 765 for colour in (back, ink)]
    assert lightness[0] > 0.9 > 0.3 > lightness[1] if scheme == "light" else lightness[0] < 0.15 < 0.7 < lightness[1]
    for what in ("table.standing", ".panels svg", ".verdict", "details img"):
        assert view.locator(what).count()
    boxes = "[...document.querySelectorAll('.scroll:has(.tasks), .pair .scroll')]"
    if width == 1280:
        assert view.evaluate(f"{boxes}.every((box) => box.scrollWidth <= box.clientWidth)")
    assert view.evaluate("[...document.querySelectorAll('.tasks tr')].every((row) => [0, 1, 2].every((k) =>"
                         "row.cells[k].getBoundingClientRect().right <= innerWidth))")  # fmt: skip
    sizes = view.evaluate("[...document.querySelectorAll('svg.panel')].map((one) => 12 * one.clientWidth /"
                          "one.viewBox.baseVal.width).filter(Boolean)")  # fmt: skip
    assert min(sizes) >= 11  # pixels of a chart's letters
    view.locator("details:has(img) summary").first.click()
    deadline = time.monotonic() + 10  # wait_for_function would need `eval`, which the page's policy forbids
    while view.evaluate("document.querySelector('details img').naturalWidth") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert view.locator("details img").first.bounding_box()["width"] == 192  # a whole number of times its own


def test_heads_stand_on_one_line_and_panels_side_by_side(look):
    view = look()
    bottoms = view.evaluate("""[...document.querySelectorAll("table.standing thead tr")].map((row) =>
        [...row.cells].map((cell) => { const range = document.createRange(); range.selectNodeContents(cell);
        return range.getBoundingClientRect().bottom }))""")
    assert all(max(some) - min(some) < 0.5 for some in bottoms)
    for what in (".panels h4", ".panels figcaption"):
        view.evaluate("(what) => { document.querySelector(what).textContent = 'a long name '.repeat(9) }", what)
    tops = view.evaluate("[...document.querySelectorAll('.panels')[0].querySelectorAll('.steps svg')]"
                         ".map((one) => one.getBoundingClientRect().top)")  # fmt: skip
    assert len(tops) == len(TASKS) and max(tops) - min(tops) < 0.5


def test_an_agent_has_one_look_on_the_page(look):
    view = look()
    looks = view.evaluate("""[...document.querySelectorAll(".legend li")].map((item) => [item.innerText.trim(),
        ...["stroke", "strokeDasharray"].map((name) => getComputedStyle(item.querySelector("path"))[name])])""")
    assert len({name for name, *_ in looks}) == len({tuple(one) for one in looks}) == 5
    assert len({tuple(look) for _, *look in looks}) == 5


def test_the_well_known_have_colours_of_their_own():
    for others in ([], ["aaa", "zzz"], ["ppo", *(f"other{i}" for i in range(20))]):
        found = curves.styles(["ours", "sac", "random", *others])
        assert (found["ours"], found["sac"], found["random"]) == ("c0", "c1", "random")
        assert not {found[agent] for agent in others if agent != "ppo"} & {"c0", "c1", "c2", "c3", "c4", "random"}


def test_columns_sort_by_mouse_and_by_key(look):
    view = look()
    header = view.locator("table.standing").first.locator("th", has=view.locator("button", has_text="score"))
    scores = [0.85, 0.6, 0.6, 1.0, 0.05]

    def shown():
        return [float(text.split()[0]) for text in column(view, "table.standing", 2)]

    assert [round(score, 2) for score in shown()] == scores  # by rank, the references last
    header.locator("button").click()
    assert shown() == sorted(scores, reverse=True) and header.get_attribute("aria-sort") == "descending"
    header.locator("button").focus()
    view.keyboard.press("Enter")
    assert shown() == sorted(scores) and header.get_attribute("aria-sort") == "ascending"
    view.locator("table.standing").first.locator("th button", has_text="agent").click()
    names = column(view, "table.standing", 1)
    assert (
        names[0].startswith("<script>") and names[1].startswith("oracle") and header.get_attribute("aria-sort") is None
    )
    view.locator("table.standing").first.locator("th button", has_text="#").click()
    assert column(view, "table.standing", 0) == ["1", "2", "2", "–", "–"]  # what has no rank stays last
    view.locator("table.standing").first.locator("th button", has_text="#").click()
    assert column(view, "table.standing", 0) == ["2", "2", "1", "–", "–"]


def test_it_filters_by_suite_ability_and_words(look):
    view = look()
    assert view.locator("section.suite:visible").count() == 2
    view.select_option("#suite", "core-v1")
    assert view.locator("section.suite:visible h2").all_inner_texts() == ["core-v1"]
    view.select_option("#ability", "plan")
    assert set(column(view, "table.tasks", 0)) == {"Reach-v0"}
    assert view.locator("section.suite:visible .panels figure:visible").count() == 1
    heads = view.locator("table.standing:visible thead").first.inner_text().split()
    assert "plan" in heads and not {"control", "score", "steps"} & {*heads}  # what is over all abilities is not there
    view.fill("#find", "ours reach")
    assert column(view, "table.tasks", 1) == ["ours"]
    versus = view.locator("section.suite:visible .box", has=view.get_by_text("Ours against the best"))
    assert versus.locator("tbody tr:visible th").all_inner_texts() == ["plan"]  # no agent a row: not by words
    view.fill("#find", "random")
    empty = view.locator("section.suite:visible .none:visible")
    assert column(view, "table.tasks", 1) == [] and set(empty.all_inner_texts()) == {"Nothing matches."}
    view.fill("#find", "nobody")
    assert not view.locator("section.suite:visible").count() and view.locator("main > .none").is_visible()
    view.select_option("#suite", "")
    view.select_option("#ability", "reason")
    view.fill("#find", "")
    assert view.locator("section.suite:visible h2").all_inner_texts() == ["ami-bench-v1"]  # core-v1 has none
    view.select_option("#ability", "")
    view.select_option("#suite", "ami-bench-v1")
    assert set(view.locator("section.suite:visible table.tasks tbody th").all_inner_texts()) == {
        "Reach-v0",
        "Levers-v0",
    }


def test_curves_against_cpu_seconds(look):
    view = look()
    steps, cpu = (view.locator(f".panels .{axis} svg").first for axis in ("steps", "cpu_seconds"))
    assert steps.is_visible() and not cpu.is_visible()
    view.locator(".switch button", has_text="CPU").first.click()
    assert cpu.is_visible() and not steps.is_visible()


def test_hostile_names_stay_text(look):
    view = look()
    assert view.evaluate("document.scripts.length") == 1
    everything = view.content()
    assert "<script>alert" not in everything and "49" not in view.locator("table.standing").first.inner_text()
    assert view.evaluate("[...document.querySelectorAll('*')].every((one) => [...one.attributes]"
                         ".every(({name}) => !name.startsWith('on') && name !== 'style'))")  # fmt: skip
    assert HOSTILE in view.locator("table.standing").first.inner_text()
    for where in ("h3:text('To be known') ~ ul", "h3:text('Left out') ~ ul"):
        assert HOSTILE in view.locator(where).first.inner_text()
    view.locator("details", has_text="bench run").first.locator("summary").click()
    assert "onmouseover" in view.locator("pre:visible").first.inner_text()
    view.locator("table.standing th").nth(1).hover()


def test_its_policy_lets_nothing_else_run(look):
    view = look()
    view.evaluate("""() => { const code = document.createElement("script"); code.textContent = "window.ran = true";
        document.body.append(code); const image = new Image(); image.src = "https://example.org/a.png";
        document.body.append(image) }""")
    view.wait_for_timeout(100)
    assert view.evaluate("[window.ran, document.querySelector('body > img').naturalWidth]") == [None, 0]
    assert sum("violates" in fault for fault in view.faults) == 2
    view.faults.clear()


def test_what_is_said(folder):
    loaded = load([folder])
    text = render(standings(loaded.pieces), {})
    for said in (
        "Fewer than 5 seeds: SB3 SAC (3). These rows are no ground for a claim.",
        "ours leads the best of Stable-Baselines3 on 2 of 2 abilities: control, plan. Under 5 seeds this is no claim.",
        "ours leads the best of Stable-Baselines3 on 0 of 2 abilities. It does not on plan, reason.",
        "Made with MuJoCo 3.9.0: not ranked with the others",
        "Ours does not lead. Ours scores 0.20, SB3 SAC 0.40, over 1 task",
        "Ranks, and the scores of who has one, are over the 2 tasks that agents share.",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ):
        assert said in text, said
    assert text == render(standings(reversed(loaded.pieces)), {})  # the same results make the same page
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text


def test_success_at_the_last_step_stands_under_that_at_any_time(tmp_path):
    made = [made_up("ours", TASKS[3], seed, 0.1, 0.8) for seed in range(3)]
    for facts, share in zip(made, (0.2, 0.4, 0.6), strict=True):
        facts["points"][-1]["final_successes"] = [i < share * 20 for i in range(20)]
    text = render(standings(load([write(tmp_path, *made)]).pieces), {})
    assert ">80 % <" in text and ">40 % at the last step<" in text


def test_who_leads_by_one_seed_is_said_to(tmp_path):
    made = [made_up(agent, TASKS[3], 0, 0.1, score) for agent, score in (("ours", 0.8), ("sac", 0.5))]
    text = render(standings(load([write(tmp_path, *made)]).pieces), {})
    assert "on 1 of 1 abilities: plan (by one seed). Under 5 seeds this is no claim." in text


def test_machines_and_commands_are_told(tmp_path):
    made = [made_up("ours", task, seed, 0.1, 0.5) for task in TASKS[:2] for seed in (0, 1)]
    other = {"processor": "difference engine", "cores": 1}
    made += [made_up("ours", TASKS[0], 2, 0.1, 0.5, hardware=other, command=["bench", "run", "--seeds", "2,"])]
    text = render(standings(load([write(tmp_path, *made)]).pieces), {})
    told = "Seconds of different machines cannot be compared; learning was timed on 2: "
    assert text.count(f"{told}abacus, 2 cores; difference engine, 1 core.") == 3  # two tables and the curves
    for what, command in (("Pendulum-v1, InvertedDoublePendulum-v5: seeds 0, 1", "--suite core-v1 --agents ours"),
                          ("Pendulum-v1: seed 2", "--seeds 2,")):  # fmt: skip
        assert f"<h4>{what}</h4>\n<pre>ami-agent bench run {command}</pre>" in text
    assert "Seconds of different machines" not in render(standings(load([tmp_path]).pieces[:1]), {})


def test_what_cannot_be_drawn_is_said(tmp_path):
    idle = [made_up("noop", task, 0, 0.3) for task in TASKS]
    text = render(standings(load([write(tmp_path, made_up("ours", TASKS[3], 0, 0.1, 0.5), *idle)]).pieces), {})
    assert "No learner yet on: Pendulum-v1, InvertedDoublePendulum-v5, Reacher-v5." in text
    assert "Not drawn: it compares agents" in text and text.count("<figure ") == 1
    assert "Doing nothing scores above 0 where the floor is weak: on Pendulum-v1 (0.30), " in text
    assert ">10k</text>" in text  # the task's env steps


def test_references_alone_are_shown(tmp_path):
    folder = write(tmp_path, made_up("random", TASKS[0], 0, 0.0), made_up("oracle", TASKS[0], 0, 1.0))
    text = render(standings(load([folder]).pieces), {})
    assert "No learner yet on: Pendulum-v1." in text and "<figure" not in text
    assert "Ours and Stable-Baselines3 have no task in common yet" in text and "<h3>Tasks" not in text


@pytest.mark.parametrize(
    ("value", "told"), [(-1200, "\N{MINUS SIGN}1.2k"), (-0.5, "\N{MINUS SIGN}0.5"), (2.1e6, "2.1M"), (-1e-12, "0")]
)
def test_numbers_in_charts_are_short(value, told):
    assert curves.brief(value) == told


def test_moving_pictures_are_left_out_where_there_is_no_room(folder):
    standing = standings(load([folder]).pieces)[0]
    styles = curves.styles(row.agent for group in standing.groups for row in group.rows)
    [(task, [film])] = View(standing, styles).films.items()
    best = film.episodes["best"]
    assert (task.name, film.agent, best.address) == (TASKS[0], "ours", f"data:image/gif;base64,{GIF}")
    assert (best.width, best.height) == (192, 192)
    assert not View(standing, styles, films=10).films and View(standing, styles, films=10).films_left == 1


def test_build_leaves_out_what_is_wrong_and_says_so(folder, tmp_path, capsys):
    bad = write(tmp_path / "more", made_up("worse", TASKS[0], 0, 0.5) | {"protocol": "0" * 16})
    out = tmp_path / "a.html"
    words = ["leaderboard", "build", "--results", str(folder), str(bad), "--out", str(out), "--suite", "core-v1"]
    assert cli.main(words) == 0
    printed = capsys.readouterr()
    assert "core-v1: 4 agents, ours leads with 0.85" in printed.out and "left out: " in printed.err
    text = out.read_text()
    assert "protocol &#39;0000000000000000&#39;" in text and "ami-bench-v1" not in text


def test_no_results_are_said(tmp_path, capsys):
    out = tmp_path / "a.html"
    assert cli.main(["leaderboard", "build", "--results", str(tmp_path), "--out", str(out)]) == 0
    assert "no results in" in capsys.readouterr().err and "No results yet" in out.read_text()
    assert cli.main(["leaderboard", "build", "--results", str(tmp_path / "no")]) == 2
    assert cli.main(["leaderboard", "build", "--results", str(tmp_path), "--out", str(tmp_path)]) == 2
    write(tmp_path, made_up("ours", TASKS[0], 0, 0.5) | {"status": "unfinished"})
    assert cli.main(["leaderboard", "build", "--results", str(tmp_path), "--out", str(out)]) == 0
    assert "No result is at its end yet." in out.read_text()

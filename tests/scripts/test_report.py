"""The command on tiny runs, and its page in a headless browser that is not allowed to ask for anything."""

import contextlib
import dataclasses
import importlib.util
import shlex
import shutil

import pytest

from rl_discovery.checkpoints import load_objective, save_objective
from rl_discovery.meta.presets import PRESETS
from rl_discovery.scripts import cli, report
from tests.evaluation.report import tiny_run
from tests.meta.tiny import tiny
from tests.scripts.called import given_back

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)

needs_browser = pytest.mark.skipif(
    BROWSER is None or importlib.util.find_spec("playwright") is None,
    reason=f"needs playwright and one of {', '.join(BROWSERS)}",
)

LOW_CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("script, style, noscript, .skip") || !e.getClientRects().length) continue;
    const style = getComputedStyle(e);
    const ink = parse(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(e.tagName + " " + e.textContent.slice(0, 40));
  }
  return bad;
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a run with everything, by the real command."""
    run = tiny_run.make(tmp_path_factory.mktemp("runs") / "mine")
    assert cli.main(["report", str(run), "--levels", "2"]) == 0
    return run / "report.html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


def until(tab, condition):
    """Waits; the page's policy forbids what playwright's own waiting does."""
    for _ in range(200):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"waited in vain: {condition}")


@contextlib.contextmanager
def opened(browser, path, **settings):
    """The page as a visitor sees it; whatever goes wrong, or is asked for, fails the test."""
    wrong = []
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings))
    tab = context.new_page()
    tab.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    allowed = ("data:", "blob:", path.as_uri())
    tab.on("request", lambda request: request.url.startswith(allowed) or wrong.append(request.url))
    tab.goto(path.as_uri())
    until(tab, "[...document.querySelectorAll('.plot')].every((e) => e.querySelector('.main-svg'))")
    yield tab
    assert wrong == []
    context.close()


def surface(tab, name="analysis-0-map"):
    """The numbers that a figure shows."""
    numbers = "(name) => document.getElementById(name).data.map((trace) => trace.z || trace.y)"
    return tab.evaluate(numbers, name)


@needs_browser
def test_the_slider_and_the_choice_of_n_change_the_surface(page, browser):
    states = tiny_run.analysis("lpo").drift.surfaces
    with opened(browser, page) as tab:
        slider = tab.get_by_label("Progress n/N")
        shown = {}
        for stop, share in enumerate((0.0, 0.25, 0.5, 0.75, 1.0)):
            assert slider.get_attribute("aria-valuetext") == f"n/N = {share:g}"
            shown[share] = surface(tab)
            wanted = next(s for s in states if (s.horizon, s.progress) == (8, share))
            assert shown[share][0] == [pytest.approx(list(row), rel=1e-3) for row in wanted.slope]
            if stop < 4:
                slider.press("ArrowRight")
        assert shown[0.0] != shown[1.0]
        assert tab.locator(".explorer .now").inner_text() == "1"
        fact = f"{100 * wanted.rollback.all:.1f} %"
        assert tab.locator(".fact").nth(4).inner_text() == fact
        before = surface(tab, "analysis-0-drift-0")
        tab.get_by_label("Lifetime N").select_option("2")
        slope = next(s for s in states if (s.horizon, s.progress) == (2, 1.0)).slope
        assert surface(tab)[0] == [pytest.approx(list(row), rel=1e-3) for row in slope]
        assert surface(tab, "analysis-0-drift-0") != before


@needs_browser
def test_any_metric_can_be_drawn_over_any_axis(page, browser):
    with opened(browser, page) as tab:
        chart = "document.getElementById('curves-chart').data[0]"
        assert tab.evaluate(f"{chart}.y") == [0, 1, 2, 3, 4, 5]
        tab.get_by_label("Metric").select_option("fitness_best")
        tab.get_by_label("over", exact=True).select_option("env_steps")
        assert tab.evaluate(f"{chart}.y") == [i + 0.5 for i in range(6)]
        assert tab.evaluate(f"{chart}.x") == [1000 * (i + 1) for i in range(6)]
        assert "fitness_best over environment steps" in tab.locator("#curves-chart").get_attribute(
            "aria-label"
        )


@needs_browser
def test_agents_move_when_played_and_stand_still_for_whoever_wants_no_motion(page, browser):
    with opened(browser, page, reduced_motion="reduce") as tab:
        level = tab.locator(".level").first
        level.scroll_into_view_if_needed()
        last = level.locator(".step").get_attribute("max")
        tab.wait_for_timeout(500)
        assert level.locator(".step").input_value() == last
        assert level.get_by_role("button").inner_text() == "Play"
        level.locator(".step").fill("0")
        start = level.locator(".board .agent").first.get_attribute("transform")
        assert level.locator(".at").inner_text() == f"0 of {last}"
        trail = level.locator(".trail").first
        assert len(trail.get_attribute("points").split()) == 1
        level.get_by_role("button").click()
        until(tab, "Number(document.querySelector('.step').value) >= 2")
        level.get_by_role("button", name="Pause").click()
        at = int(level.locator(".step").input_value())
        assert len(trail.get_attribute("points").split()) == at + 1
        assert start == f"translate({trail.get_attribute('points').split()[0]})"
    with opened(browser, page, reduced_motion="no-preference") as tab:
        tab.locator(".level").first.scroll_into_view_if_needed()
        until(tab, "document.querySelector('.play').textContent === 'Pause'")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_can_be_read_in_both_schemes(page, browser, scheme):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": scheme}
    with opened(browser, page, **phone) as tab:
        tab.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        wide = tab.evaluate(
            "[...document.querySelectorAll('.card, .controls, .plot .main-svg')]"
            ".filter((e) => e.getBoundingClientRect().right > 391).length"
        )
        assert wide == 0
        assert tab.evaluate(LOW_CONTRAST) == []
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(244, 245, 247)", "dark": "rgb(18, 22, 27)"}[scheme]


@needs_browser
def test_figures_follow_the_scheme_when_it_changes(page, browser):
    ink = "getComputedStyle(document.querySelector('#curves-chart .xtitle')).fill"
    with opened(browser, page, color_scheme="light") as tab:
        light = tab.evaluate(ink)
        tab.emulate_media(color_scheme="dark")
        until(tab, f"{ink} !== '{light}'")
        assert tab.evaluate(LOW_CONTRAST) == []


@needs_browser
def test_two_runs_are_laid_over_each_other(tmp_path, browser, capsys):
    runs = tiny_run.make(tmp_path / "a"), tiny_run.make(tmp_path / "b", "lpg", seed=9, scores=(0.1, 0.2, 0.3))
    out = tmp_path / "both.html"
    assert cli.main(["report", *map(str, runs), "--out", str(out), "--levels", "0"]) == 0
    assert f"wrote {out}" in capsys.readouterr().err
    with opened(browser, out) as tab:
        assert tab.title().startswith("a and b compared")
        names = tab.evaluate("document.getElementById('curves-chart').data.map((t) => t.name)")
        assert {"a", "b"} <= set(names)
        rows = tab.locator("#evaluation table").first.locator("tbody th").all_inner_texts()
        assert rows == ["ta-lpo", "ppo", "ta-lpg"]
        assert "seed" in tab.locator("#differences tbody th").all_inner_texts()
        # Both have a slider of their own.
        before = tab.evaluate("document.getElementById('analysis-1-0').data.at(-1).y")
        tab.get_by_label("Progress n/N").nth(1).fill("4")
        assert tab.evaluate("document.getElementById('analysis-1-0').data.at(-1).y") != before
        assert tab.get_by_label("Progress n/N").first.input_value() == "0"


@pytest.mark.slow
def test_the_report_of_a_run_lies_beside_it_and_is_replaced(page, capsys):
    first = page.read_text()
    assert "<title>mine · rl-discovery report</title>" in first
    assert "rl-discovery meta-train --preset" in first
    page.write_text("old")
    assert cli.main(["report", str(page.parent), "--levels", "0"]) == 0
    assert "No agents were asked for" in page.read_text()
    assert capsys.readouterr().out == ""
    page.write_text(first)


def test_a_run_without_objective_and_metrics_has_a_report(tmp_path):
    run = tiny_run.make(tmp_path / "new", evaluated=False, analysed=False)
    (run / "objective.safetensors").unlink()
    (run / "metrics.jsonl").unlink()
    assert cli.main(["report", str(run)]) == 0
    assert "No generation has ended yet" in (run / "report.html").read_text()


@pytest.mark.parametrize("file", [False, True])
def test_a_shipped_or_exported_objective_has_a_report_of_its_card(tmp_path, monkeypatch, capsys, file):
    monkeypatch.chdir(tmp_path)
    name = "lpo"
    if file:
        name = "mine.safetensors"
        save_objective(tmp_path / name, load_objective("lpo"))
    out = tmp_path / "page.html"
    assert cli.main(["report", name, "--out", str(out), "--levels", "0"]) == 0
    page = out.read_text()
    assert "lpo reaches a normalised return of 0.76" in page
    assert "The file of an objective does not hold the metrics of its run." in page
    assert f"rl-discovery evaluate {'./' if file else ''}{name} --out" in page
    assert "rl-discovery meta-train --preset lpo-cpu --run-dir runs/" in page


def test_an_objective_without_a_configuration_has_a_report(tmp_path):
    objective = load_objective("lpo")
    card = {key: value for key, value in objective.card.items() if key not in ("config", "evaluation")}
    save_objective(tmp_path / "x.safetensors", dataclasses.replace(objective, card=card))
    out = tmp_path / "page.html"
    assert cli.main(["report", str(tmp_path / "x.safetensors"), "--out", str(out)]) == 0
    assert "card does not say on which levels it was evolved" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "which run?"),
        (("ta-lpg",), 2, "where to? give --out FILE.html for an objective"),
        (("a2c", "--out", "x.html"), 2, "a2c is hand-written"),
        (("nowhere.safetensors", "--out", "x.html"), 2, "no file or run directory nowhere.safetensors"),
        (("run", "run"), 2, "runs must differ"),
        (("run", "other"), 2, "where to? give --out FILE.html"),
        (("run", "--out", "page.txt"), 2, "--out must end in .html"),
        (("run", "--levels", "-1"), 2, "--levels must not be negative"),
        (("run", "--seed", "-1"), 2, "--seed must be from 0 to 4294967295, not -1"),
        (("run", "--seed", "4294967296"), 2, "--seed must be from 0 to 4294967295, not 4294967296"),
        (("run", "--seed", "1" + 20 * "0"), 2, "--seed must be from 0 to 4294967295"),
        (("run", "--evaluation", "a", "b"), 2, "--evaluation takes one path for each RUN: 1, not 2"),
        (("nowhere",), 1, "nowhere: no such directory"),
        (("run", "--analysis", "nowhere"), 1, "there is no nowhere"),
        (("run", "--out", "run/config.json/x.html"), 1, "cannot write to run/config.json"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    run = tiny_run.make(tmp_path / "run", analysed=False)
    before = {path.name for path in run.iterdir()}
    assert cli.main(["report", *arguments]) == status
    assert_one_line(capsys, message)
    assert {path.name for path in run.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", '{"format": 1, "config": {"seed": -1}}'),
        ("config.json", "{"),
        ("metrics.jsonl", "nonsense\n"),
        ("results.json", "{"),
        ("objective.safetensors", "nonsense"),
    ],
)
def test_a_damaged_file_is_one_line_and_the_old_report_stays(tmp_path, capsys, name, text):
    run = tiny_run.make(tmp_path / "run", analysed=False)
    (run / "report.html").write_text("old")
    (run / name).write_text(text)
    assert cli.main(["report", str(run)]) == 1
    assert_one_line(capsys, name)
    assert (run / "report.html").read_text() == "old"


def assert_one_line(capsys, message):
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_of_a_preset_is_the_preset(name):
    words = shlex.split(report.reproduce(PRESETS[name].config, "runs/x"))
    assert words == ["rl-discovery", "meta-train", "--preset", name, "--run-dir", "runs/x"]


def test_the_command_makes_the_same_configuration(capsys):
    lpo = PRESETS["lpo-many-cpu"].config
    last = lpo.also[-1]
    changed = [
        tiny(),
        dataclasses.replace(tiny(), preset="ta-lpg-cpu"),
        dataclasses.replace(
            lpo,
            agent=dataclasses.replace(lpo.agent, anneal=False, hidden=(7, 8), discount=0.9),
            also=(lpo.also[0], dataclasses.replace(last, block_size=3)),
        ),
        dataclasses.replace(
            PRESETS["groove-cpu"].config, levels=dataclasses.replace(lpo.levels, longest_horizon=None)
        ),
    ]
    for config in changed:
        _, *words = shlex.split(report.reproduce(config, "runs/x"))
        assert cli.main([*words, "--print-config"]) == 0
        made = given_back(capsys.readouterr().out)
        assert dataclasses.replace(made, preset=config.preset) == config

"""What the studies report follows from what they have on record."""

import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "docs" / "studies"


@pytest.fixture
def studies(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))


def test_tables_of_the_efficiency_study_are_those_of_its_record(studies, tmp_path):
    import efficiency
    from harness import fill, rows_of

    page = tmp_path / "page.md"
    shutil.copy(efficiency.PAGE, page)
    tables = {
        study: efficiency.table(rows_of(efficiency.RECORD / f"{study}.jsonl"), study)
        for study in efficiency.STUDIES
    }
    fill(page, tables)
    assert page.read_text() == efficiency.PAGE.read_text(), "run docs/studies/efficiency.py --report"


def test_every_arm_on_record_was_run_as_it_would_be_today(studies):
    import efficiency
    from harness import rows_of

    for study, (arms, _) in efficiency.STUDIES.items():
        flags = {arm.name: " ".join(arm.flags) for arm in arms}
        for row in rows_of(efficiency.RECORD / f"{study}.jsonl"):
            if row["arm"] not in efficiency.HAND_WRITTEN:
                assert row["flags"] == flags[row["arm"]], (study, row["arm"])


def test_a_page_is_filled_between_its_marks_and_nowhere_else(studies, tmp_path):
    from harness import fill

    page = tmp_path / "page.md"
    others = "b\n<!-- results: one of another study -->\nkept\n<!-- end -->\n"
    page.write_text(
        f"a\n<!-- results: one -->\nold\n<!-- end -->\n{others}<!-- results: two -->\n<!-- end -->\n"
    )
    for _ in range(2):
        fill(page, {"one": "1 \\1", "two": "2"})
    assert page.read_text() == (
        "a\n<!-- results: one -->\n\n1 \\1\n\n<!-- end -->\n"
        f"{others}<!-- results: two -->\n\n2\n\n<!-- end -->\n"
    )


def test_a_difference_says_yes_no_or_not_resolved(studies):
    from harness import Difference

    rng = np.random.default_rng(0)
    theirs = rng.normal(0.5, 0.01, 5)
    assert Difference.of(theirs + 0.1, theirs).verdict == "yes"
    assert Difference.of(theirs - 0.1, theirs).verdict == "no, worse"
    assert Difference.of(theirs, theirs).verdict == "not resolved"


def test_welchs_interval_is_that_of_the_textbook(studies):
    from harness import Difference

    ours, theirs = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 1.0, 3.0])
    found = Difference.of(ours, theirs)
    variances = ours.var(ddof=1) / 3, theirs.var(ddof=1) / 4
    freedom = sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 3)
    assert freedom == pytest.approx(4.15, abs=0.5)
    assert found.mean == pytest.approx(ours.mean() - theirs.mean())
    assert found.high - found.mean == pytest.approx(found.mean - found.low)
    # Student's t at .975 for 4 degrees of freedom is 2.776, for 5 2.571.
    assert 2.5 < (found.high - found.mean) / sum(variances) ** 0.5 < 2.9


def test_levels_without_a_scale_have_that_from_the_random_policy_to_a2c(studies):
    def row(arm, seed, **returns):
        return {"arm": arm, "seed": seed, "suite": "random", "score": {}, "return": returns}

    rows = [
        row("random", None, one=[[1.0], [1.0]], other=[[-10.0]]),
        row("a2c", None, one=[[3.0], [5.0]], other=[[10.0]]),
        row("ta-lpg", 1, one=[[4.0]], other=[[0.0]]),
        row("ta-lpg", 0, one=[[7.0], [float("nan")]], other=[[10.0]]),
    ]
    from results_report import means

    np.testing.assert_allclose(means(rows, "ta-lpg", "random"), [[1.5], [0.75]])
    np.testing.assert_allclose(means(rows, "a2c", "random"), [[1.0]])
    assert len(means(rows[2:], "ta-lpg", "random")) == 0


def test_a_hand_written_rule_is_one_number(studies):
    from harness import Difference

    ours = np.array([1.0, 2.0, 3.0])
    found = Difference.of(ours, np.array([0.5]))
    # t at .975 for 2 degrees of freedom is 4.303; the standard error is 1 / sqrt(3).
    assert found.mean == pytest.approx(1.5)
    assert found.high - found.mean == pytest.approx(4.303 / 3**0.5, rel=1e-3)


def test_transfer_is_told_by_budget_with_the_differences_to_a2c(studies, tmp_path):
    import transfer
    from transfer_report import budgets_table, returns_table, write_up

    def row(rule, task, budget, *returns):
        scores = [value / 10 for value in returns]
        return {"rule": rule, "task": task, "budget": budget, "return": returns, "score": scores}

    game = "Breakout-MinAtar"
    rows = [
        row("a2c", game, 5_000_000, 1.0, 2.0, 3.0),
        row("ta-lpg", game, 5_000_000, 11.0, 12.0, 13.0),
        row("ppo", game, 100_000, 4.0, 4.0),
        row("ppo", game, 300_000, 3.0, 5.0),
        row("ta-ppo", game, 100_000, 6.0, 6.0),
        row("ta-ppo", game, 300_000, 4.0, 5.0),
    ]
    rows = [row | {"step_factor": 3.0} for row in rows]
    assert "| ta-lpg | 12 (+10 [+7.73, +12.3]) | 3 |" in returns_table(rows[:2])
    first, second = budgets_table(rows[2:]).splitlines()[2:]
    assert first == f"| {game} | 100,000 | 6 | 4 | +2 [+2, +2] | yes |"
    assert second.endswith("not resolved |")
    page = tmp_path / "page.md"
    page.write_text("<!-- results: transfer games -->\n<!-- end -->\n")
    write_up({"games": rows[:2]}, rows[2:], transfer.SHOWN, page, tmp_path)
    assert "+10" in page.read_text()
    assert (tmp_path / "transfer.png").stat().st_size > 10_000


def test_the_shipped_are_told_beside_tuned_baselines_paired_by_seed(studies, tmp_path):
    import json

    import shipped_report

    generator = np.random.default_rng(0)
    luck = generator.normal(0, 0.1, (4, 2))  # of the levels' draws, shared by all
    names = {name for panel in shipped_report.PANELS.values() for name in panel}
    scores = {"a2c": 0.5 + luck, "ppo": 0.4 + luck} | dict.fromkeys(
        names, 0.6 + generator.normal(0, 0.1, (4, 2))
    )
    scores["ta-lpg-a2c"] = scores["a2c"] + [[0.01, 0.11], [0.02, 0.11], [0.03, 0.09], [0.04, 0.09]]
    found = {"horizons": [5, 1000], "scores": {name: rows.tolist() for name, rows in scores.items()}}
    (tmp_path / "shipped.json").write_text(json.dumps(found))
    page, readme = tmp_path / "page.md", tmp_path / "readme.md"
    page.write_text("<!-- results: shipped differences -->\n<!-- end -->\n")
    readme.write_text("<!-- results: shipped -->\n<!-- end -->\n")
    shipped_report.write_up(tmp_path, page, readme, tmp_path)
    # The deviation of 1, 2, 3, 4 is 1.29; the standard error of the first column half of a hundredth of it.
    assert "| `ta-lpg-a2c` | a2c | +0.025 ± 0.006 | +0.100 ± 0.006 | +0.062 ± 0.001 |" in page.read_text()
    assert "| A2C, tuned |" in readme.read_text()
    assert (tmp_path / "shipped.png").stat().st_size > 10_000


def test_the_schedule_in_the_docs_is_that_of_the_objective(studies):
    from shipped_report import schedule_code

    from rl_discovery.checkpoints import load_objective
    from rl_discovery.discovery import Progress

    file = STUDIES / "results" / "objectives" / "ta-ppo-0.safetensors"
    found, learned = {}, load_objective(file)
    exec(schedule_code(file).removeprefix("```python").removesuffix("```"), found)
    for done, horizon in [(0, 8), (3, 30), (99, 100), (500, 2000)]:
        expected = learned.schedule(Progress(jnp.float32(done), jnp.float32(horizon)))
        factors = found["schedule"](done, horizon)
        assert factors == pytest.approx({name: float(getattr(expected, name)) for name in factors}, rel=1e-4)


def test_pages_name_every_figure_that_is_there(studies):
    """No figure of a study without a page that shows it."""
    text = (
        "".join(page.read_text() for page in (ROOT / "docs").glob("**/*.md"))
        + (ROOT / "README.md").read_text()
    )
    shown = set(re.findall(r"images/([\w-]+\.png)", text))
    assert {path.name for path in (ROOT / "docs" / "images").glob("*.png")} <= shown

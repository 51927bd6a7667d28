"""Summary, differences, provenance and commands say what is in the files."""

import dataclasses
import shlex

import pytest

from rl_discovery.checkpoints import load_objective
from rl_discovery.checkpoints.fields import flatten
from rl_discovery.evaluation.report import facts
from rl_discovery.evaluation.report.files import read_card, read_run
from rl_discovery.evaluation.results import Results, Tuned
from rl_discovery.scripts.arguments import parse
from rl_discovery.scripts.evaluate_arguments import Arguments
from tests.evaluation.report import tiny_run


@pytest.fixture
def run(tmp_path):
    return read_run(tiny_run.make(tmp_path / "mine"))


def test_the_summary_counts_what_the_metrics_say(run):
    found = {fact.label: (fact.value, fact.detail) for fact in facts.summary(run)}
    assert found["Generations"] == ("6", "of 6 planned")
    assert found["Fitness"] == ("5.00", "of the last generation")
    assert found["Environment steps"][0] == "6,000"
    assert found["Wall time"] == ("6 min", "17 steps per second")
    assert found["Seed"][0] == "5"
    assert found["Normalised return"] == ("0.70", "ta-lpo on “unseen”, lifetime 8")


def test_a_run_without_generations_has_a_summary(run):
    empty = dataclasses.replace(run, rows=(), results=None)
    assert [fact.label for fact in facts.summary(empty)] == ["Generations", "Seed"]


def test_differences_are_the_fields_that_differ(run, tmp_path):
    second = read_run(tiny_run.make(tmp_path / "other", seed=7, generations=9))
    table = facts.differences([run, second])
    assert table.rows == (("seed", "5", "7"), ("generations", "6", "9"))
    assert table.head == ("Field", "mine", "other")
    assert len(facts.configuration(run).rows) == len(flatten(run.config))


def test_provenance_has_versions_seeds_steps_and_time(run):
    rows = dict(facts.provenance(run, {"generations": 4}).rows)
    assert rows["Seed of meta-training"] == "5"
    assert rows["Environment steps"] == "6,000"
    assert rows["Wall time"] == "6 min (360 s)"
    assert rows["Seeds of the evaluation"] == "0, 1, 2"
    assert rows["Environment steps of the evaluation"] == f"{2 * 3 * (200 + 800) * 4:,}"
    assert rows["Versions of meta-training"] == "jax 0.0.2"
    assert rows["Versions of analysis"] == "jax 0.0.1"
    assert "numpy" in rows["Versions of evaluation and this report"]
    assert rows["SHA-256 of objective.safetensors after 4 generations"] == run.objective_sha256


def test_commands_name_what_the_files_hold(run):
    ((suite, line),) = facts.evaluate_commands(run)
    assert suite == "unseen"
    words = shlex.split(line)
    assert words[:3] == ["rl-discovery", "evaluate", str(run.path)]
    for flag, values in (
        ("--suite", ["unseen"]),
        ("--horizons", ["2", "8"]),
        ("--seeds", ["3"]),
        ("--levels", ["4"]),
    ):
        at = words.index(flag) + 1
        assert words[at : at + len(values)] == values
    assert words[-2:] == ["--baselines", "ppo"]
    words = shlex.split(facts.analyse_command(run))
    assert words[words.index("--horizons") + 1 :] == ["2", "8"]
    bare = dataclasses.replace(run, results=None, analysis=None)
    assert facts.evaluate_commands(bare) == ()
    assert facts.analyse_command(bare) is None


def evaluations(run, results):
    """What the command would make of each line, by suite."""
    found = facts.evaluate_commands(dataclasses.replace(run, results=results))
    return {suite: parse(Arguments, shlex.split(line)[2:], "evaluate") for suite, line in found}


def test_suites_with_other_horizons_have_commands_of_their_own(run):
    cells = [*tiny_run.cells("ta-lpo", (0.1, 0.2)), *tiny_run.cells("ppo", (0.1, 0.2))]
    control = tiny_run.cells("ta-lpo", (0.1,), suite="control/easy", horizon=50_000)
    found = evaluations(run, Results.of([*cells, *control]))
    assert {suite: (a.suite, a.horizons, a.seeds) for suite, a in found.items()} == {
        "unseen": (("unseen",), (2,), 2),
        "control/easy": (("control/easy",), (50_000,), 1),
    }
    assert {a.baselines for a in found.values()} == {("ppo",)}
    # One does not overwrite the other's results.
    assert [a.out for a in found.values()] == [
        run.path / "evaluation-unseen",
        run.path / "evaluation-control-easy",
    ]


def test_without_baselines_the_command_has_none_either(run):
    (found,) = evaluations(run, Results.of(tiny_run.cells("ta-lpo", (0.1, 0.2, 0.3)))).values()
    assert found.baselines == ()
    assert (found.objectives, found.out, found.tune) == ((str(run.path),), None, False)


def test_labels_that_name_no_objective_are_left_out(run):
    labels = ("ta-lpo", "lpo (runs/b)", "closed-form-drift", "ppo", "lpo")
    cells = [cell for label in labels for cell in tiny_run.cells(label, (0.1,))]
    (found,) = evaluations(run, Results.of(cells)).values()
    assert found.baselines == ("ppo", "lpo")


@pytest.mark.parametrize(("candidates", "flag"), [(18, "tune"), (5, "tune_step_size")])
def test_what_was_tuned_is_tuned_again(run, candidates, flag):
    tuned = Tuned(
        objective="ppo", suite="unseen", environment="gridworld/all", horizon=2, step_factor=1.0,
        policy_learning_rate=0.1, entropy_coef=0.0, candidates=candidates, seeds=2,
    )  # fmt: skip
    (found,) = evaluations(run, run.results.model_copy(update={"tuned": (tuned,)})).values()
    assert [name for name in ("tune", "tune_step_size") if getattr(found, name)] == [flag]
    assert found.baselines == ("ppo",)


def test_the_verdict_is_ahead_where_the_paired_difference_is_more_than_two_standard_errors(run):
    assert facts.verdict(run) == (
        "ta-lpo is ahead of ppo on “unseen”, lifetime 8: a normalised return of 0.70 [0.60, 0.80] against "
        "0.60 [0.50, 0.70], paired difference +0.100 ± 0.000."
    )


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ((0.5, 0.6, 0.7), (0.6, 0.7, 0.8), "ta-lpo is behind ppo"),
        ((0.5, 0.6, 0.7), (0.7, 0.4, 0.7), "ta-lpo is level with ppo"),
        ((0.5, 0.6), (0.4, 0.5), "ta-lpo reaches a normalised return of 0.55 on “unseen”, lifetime 2; ppo"),
    ],
)
def test_the_verdict_claims_nothing_that_the_seeds_do_not_show(run, mine, theirs, words):
    cells = [*tiny_run.cells("ta-lpo", mine), *tiny_run.cells("ppo", theirs)]
    results = Results.of(cells, ["ppo"])
    assert facts.verdict(dataclasses.replace(run, results=results)).startswith(words)


def test_without_an_evaluation_the_verdict_is_how_fitness_went(run):
    bare = dataclasses.replace(run, results=None)
    expected = "Mean fitness went from 0.00 to 5.00 in 6 generations; not evaluated yet."
    assert facts.verdict(bare) == expected
    assert facts.verdict(dataclasses.replace(bare, rows=())) == "No result yet."


def test_a_shipped_objective_has_the_facts_and_scores_of_its_card():
    objective = load_objective("ta-lpg")
    shown = read_card("ta-lpg", "ta-lpg", objective)
    found = {fact.label: fact.value for fact in facts.summary(shown)}
    assert found["Generations"] == f"{objective.card['generations']:,}"
    assert found["Normalised return"] == "0.92"
    verdict = facts.verdict(shown)
    assert verdict.startswith(
        "ta-lpg reaches a normalised return of 0.92 [0.90, 0.94] on “unseen”, lifetime 250"
    )
    assert "a2c reaches 0.81" in verdict
    table = facts.card_scores(shown)
    assert table.head == ("Objective", "Suite", "5", "10", "25", "50", "100", "250")
    assert table.rows[0][:3] == ("ta-lpg", "unseen", "0.49 [0.44, 0.51]")


@pytest.mark.parametrize("evaluation", [None, 3, {"aggregate": 3}, {"aggregate": [{"iqm": "x"}]}])
def test_a_card_whose_scores_are_damaged_has_none(evaluation):
    objective = load_objective("ta-lpg")
    damaged = dataclasses.replace(objective, card=dict(objective.card) | {"evaluation": evaluation})
    shown = read_card("ta-lpg", "ta-lpg", damaged)
    assert facts.card_scores(shown) is None
    assert facts.verdict(shown) == "It has not been evaluated yet."

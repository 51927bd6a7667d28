import dataclasses
import io
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rl_discovery.checkpoints import read_card, read_objective
from rl_discovery.checkpoints.run_directory import BEST_OBJECTIVE
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.envs.registry import distribution
from rl_discovery.meta.build import compile_step, make_program
from rl_discovery.meta.config import EnvironmentConfig, LevelsConfig
from rl_discovery.meta.errors import ConfigError, DivergedError
from rl_discovery.meta.held_out import FOLD, HeldOut, held_out_levels
from rl_discovery.meta.keys import keys_of_generation
from rl_discovery.meta.runs.meta_train import meta_train
from tests.meta.processes import metrics
from tests.meta.tiny import tiny

HELD_OUT = {"held_out": {"every": 2, "levels": 5}}
CARTPOLE = EnvironmentConfig(
    levels=LevelsConfig(distribution="CartPole-v1", horizon=2),
    agent=AgentConfig(network="mlp", hidden=(3,), workers=1, rollout_steps=2),
)
CASES = {
    "es": {"curriculum": {"score": "frozen", "buffer_size": 20}},
    "meta_gradient": {
        "trainer": "meta_gradient",
        "meta_gradient": {"lanes": 4, "updates": 2, "learning_rate": 0.3},
    },
}
FIELDS = {"held_out_fitness", "held_out_error"}
KEY = jax.random.key(7)


def run(path, config):
    """What a run prints."""
    text = io.StringIO()
    meta_train(config, path, Console(file=text))
    return text.getvalue()


def without_evaluations(rows):
    return [{k: v for k, v in row.items() if not k.startswith("held_out_")} for row in rows]


def evaluations(path):
    return {row["generation"]: row["held_out_fitness"] for row in metrics(path) if "held_out_fitness" in row}


def checkpoints_of(path):
    return sorted(int(step.name) for step in (path / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_with_held_out_evaluations_is_the_same_run_and_resumes_to_the_same_values(case, tmp_path):
    config = tiny(**CASES[case], **HELD_OUT)
    off = dataclasses.replace(config, held_out=dataclasses.replace(config.held_out, every=0))
    run(tmp_path / "off", off)
    run(tmp_path / "on", config)
    rows = metrics(tmp_path / "on")
    assert without_evaluations(rows) == metrics(tmp_path / "off")
    assert [set(row) >= FIELDS for row in rows] == [False, True] * 3
    assert len(set(evaluations(tmp_path / "on").values())) == 3, "the objective changed"
    card = read_card(tmp_path / "on" / BEST_OBJECTIVE)
    assert card["held_out_fitness"] == max(evaluations(tmp_path / "on").values())
    if case == "es":
        run(tmp_path / "parts", dataclasses.replace(config, generations=3))
        run(tmp_path / "parts", config)
        assert metrics(tmp_path / "parts") == rows


def test_levels_are_the_same_for_every_seed_and_generation_and_no_generations():
    levels = distribution("all_vrandlife")
    root = jax.random.fold_in(jax.random.key(0), FOLD)
    sample = jax.jit(lambda key: held_out_levels(levels, key, 8))
    held_out = sample(jax.random.fold_in(root, 0))
    low, high = levels.horizon
    horizons = np.asarray(held_out.horizon)
    assert (np.diff(horizons) > 0).all(), "spread over the range"
    assert low <= horizons[0] < 1.5 * low
    assert 0.75 * high < horizons[-1] <= high
    data = {bytes(np.asarray(jax.random.key_data(jax.random.fold_in(root, 0))))}
    for seed, generation in itertools.product((0, 1, FOLD), (0, 1, 1000)):
        for key in keys_of_generation(seed, jnp.int32(generation)):
            data.add(bytes(np.asarray(jax.random.key_data(key))))
    assert len(data) == 1 + 9 * len(keys_of_generation(0, jnp.int32(0))), "no key is used twice"


@pytest.mark.slow
def test_an_evaluation_is_the_mean_over_fixed_levels_of_agents_trained_from_scratch():
    from rl_discovery.discovery.learning.lifetime import evaluate_block, train_block

    config = tiny(held_out={"every": 1, "levels": 3})
    program = make_program(config)
    held_out = HeldOut(config, program)
    state = program.place(jax.jit(program.init)())
    held_out.compile(state)
    found = held_out.evaluate(state)
    assert held_out.evaluate(state) == found
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), FOLD), 0)
    levels = held_out_levels(config.levels.build(), key, 3)
    lane_key = jax.random.fold_in(key, 1)
    learner = program.lanes[0].learner

    @jax.jit
    def fitness(number):
        params = jax.tree.map(lambda x: x[number][None], levels.params)
        keys = jax.random.fold_in(lane_key, number)[None]
        mean = jax.tree.map(lambda x: x[None], program.meta_params(state))
        train_states = train_block(learner, mean, params, levels.horizon[number][None], keys)
        return evaluate_block(learner, train_states, params, keys)[0]

    values = [float(fitness(number)) for number in range(3)]
    assert found["held_out_fitness"] == pytest.approx(np.mean(values), rel=1e-5)
    assert found["held_out_error"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(3), rel=1e-4)


@pytest.mark.slow
def test_several_environments_have_a_fitness_each_and_count_alike():
    config = tiny(es={"pairs": 4}, also=(CARTPOLE,), **HELD_OUT)
    program = make_program(config)
    held_out = HeldOut(config, program)
    state = program.place(jax.jit(program.init)())
    held_out.compile(state)
    found = held_out.evaluate(state)
    each = [value for name, value in found.items() if name.startswith("held_out_fitness.")]
    assert "held_out_fitness.1.CartPole-v1" in found
    assert found["held_out_fitness"] == pytest.approx(np.mean(each), rel=1e-6)


@pytest.mark.slow
def test_an_objective_of_nans_is_worth_nothing():
    config = tiny(**HELD_OUT)
    program = make_program(config)
    held_out = HeldOut(config, program)
    state = program.place(jax.jit(program.init)())
    state = state.replace(strategy=state.strategy.replace(mean=state.strategy.mean * jnp.nan))
    held_out.compile(state)
    assert np.isnan(held_out.evaluate(state)["held_out_fitness"])


@pytest.mark.parametrize(
    ("first", "end", "every", "expected"),
    [(0, 9, 10, False), (0, 10, 10, True), (10, 19, 10, False), (9, 10, 10, True), (0, 99, 0, False)],
)
def test_nothing_is_compiled_where_no_evaluation_is_to_come(first, end, every, expected):
    config = tiny(held_out={"every": every, "levels": 1})
    held_out = HeldOut(config, make_program(config))
    assert held_out.due_between(first, end) is expected
    assert any(held_out.due(generation) for generation in range(first, end)) is expected


class Told(HeldOut):
    """Evaluations whose results are given, by generation."""

    answers: tuple = ()

    def compile(self, state):
        pass

    def evaluate(self, state):
        return {"held_out_fitness": self.answers[int(state.generation) - 1], "held_out_error": 0.0}


@pytest.fixture
def told(monkeypatch):
    """Sets what the evaluation after each generation says."""
    monkeypatch.setattr("rl_discovery.meta.runs.loop.HeldOut", Told)
    return lambda *answers: monkeypatch.setattr(Told, "answers", answers)


def watched(on_divergence="warn", generations=6, **changes):
    settings = {"every": 1, "levels": 1, "patience": 2, "on_divergence": on_divergence}
    checkpoint = {"every": 3, "keep": 2}
    return tiny(held_out=settings, checkpoint=checkpoint, generations=generations, **changes)


@pytest.mark.slow
def test_the_best_checkpoint_and_objective_are_those_of_the_highest_held_out_fitness(told, tmp_path):
    told(1.0, 5.0, 3.0, 4.0, float("nan"), 4.5)
    run(tmp_path / "run", watched())
    assert checkpoints_of(tmp_path / "run") == [2, 3, 6]
    card = read_card(tmp_path / "run" / BEST_OBJECTIVE)
    assert (card["generations"], card["held_out_fitness"]) == (2, 5.0)
    assert read_card(tmp_path / "run" / "objective.safetensors")["generations"] == 6
    assert [row["held_out_fitness"] for row in metrics(tmp_path / "run")] == [1, 5, 3, 4, None, 4.5]
    # The objective is the one of that moment.
    run(tmp_path / "two", watched(generations=2))
    mean, best = (
        jax.tree.leaves(read_objective(tmp_path / name).meta_params)
        for name in ("two/objective.safetensors", f"run/{BEST_OBJECTIVE}")
    )
    assert all(np.array_equal(a, b) for a, b in zip(mean, best, strict=True))


@pytest.mark.slow
def test_a_resumed_run_still_knows_what_is_best(told, tmp_path):
    told(1.0, 5.0, 3.0, 4.0, 4.0, 4.0, 4.0, 5.0, 6.0)
    run(tmp_path / "run", watched(generations=5))
    run(tmp_path / "run", watched(generations=8))
    assert checkpoints_of(tmp_path / "run") == [2, 6, 8]
    assert read_card(tmp_path / "run" / BEST_OBJECTIVE)["generations"] == 2
    run(tmp_path / "run", watched(generations=9))
    assert checkpoints_of(tmp_path / "run") == [8, 9]
    assert read_card(tmp_path / "run" / BEST_OBJECTIVE)["held_out_fitness"] == 6.0


def test_without_held_out_evaluations_there_is_no_best(tmp_path):
    run(tmp_path / "run", tiny(checkpoint={"every": 1, "keep": 2}))
    assert checkpoints_of(tmp_path / "run") == [5, 6]
    assert not (tmp_path / "run" / BEST_OBJECTIVE).exists()


@pytest.mark.slow
def test_a_fall_is_one_line_and_a_line_in_the_log_and_changes_nothing(told, tmp_path):
    told(0.0, 10.0, 3.0, 4.0, 9.0, 9.0)
    text = run(tmp_path / "run", watched())
    lines = [line for line in text.splitlines() if "fallen" in line]
    assert lines == [
        "warning: generation 3: held-out fitness is 4, and has fallen for 2 evaluation(s) in a row "
        "(the best was 10 after 2 generations)"
    ]
    assert f"WARNING {lines[0]}" in (tmp_path / "run" / "train.log").read_text()
    run(tmp_path / "calm", tiny())
    assert without_evaluations(metrics(tmp_path / "run")) == metrics(tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["es", "meta_gradient"])
def test_a_fall_halves_sigma_and_learning_rate_from_there_on_and_resumes_exactly(case, told, tmp_path):
    told(0.0, 10.0, 3.0, 4.0, 9.0, 9.0)
    changes = {} if case == "es" else CASES[case]
    text = run(tmp_path / "run", watched("reduce", **changes))
    assert "steps are 0.5 times the configured ones from here on" in text
    rows = metrics(tmp_path / "run")
    run(tmp_path / "calm", tiny(**changes))
    calm = metrics(tmp_path / "calm")
    assert without_evaluations(rows)[:4] == calm[:4], "until then it is the same run"
    for name in ["learning_rate"] + ["sigma"] * (case == "es"):
        factors = [row[name] / other[name] for row, other in zip(rows, calm, strict=True)]
        np.testing.assert_allclose(factors, [1, 1, 1, 1, 0.5, 0.5], rtol=1e-6)
    assert rows[4]["update_norm"] < 0.9 * calm[4]["update_norm"]
    if case == "es":
        for stop in (3, 4, 6):  # in the middle of the fall, at the reduction, at the end
            run(tmp_path / "parts", watched("reduce", generations=stop))
        assert metrics(tmp_path / "parts") == rows


@pytest.mark.slow
def test_a_fall_stops_the_run_with_its_last_checkpoint_and_again_if_it_is_tried_again(told, tmp_path):
    told(0.0, 10.0, 3.0, 4.0, 9.0, 9.0)
    for _ in range(2):
        with pytest.raises(DivergedError) as caught:
            run(tmp_path / "run", watched("stop"))
        message = str(caught.value)
        assert message.startswith("generation 3: held-out fitness is 4, and has fallen for 2 evaluation(s)")
        assert f"the last good checkpoint is after 3 generations in {tmp_path / 'run'}" in message
        assert "the best objective in objective_best.safetensors: start again with a lower" in message
        assert "\n" not in message
        assert len(metrics(tmp_path / "run")) == 4
        assert checkpoints_of(tmp_path / "run") == [2, 3]


def test_a_strategy_that_cannot_be_reduced_is_refused_before_there_is_a_directory(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "rl_discovery.meta.build.check_reducible", lambda *_: (_ for _ in ()).throw(ValueError("no"))
    )
    with pytest.raises(ConfigError, match="no"):
        run(tmp_path / "run", watched("reduce"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_results_do_not_depend_on_when_checkpoints_fall(tmp_path):
    config = tiny(checkpoint={"every": 5, "minutes": 1e-9, "keep": 9})
    run(tmp_path / "run", dataclasses.replace(config, generations=4))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")  # as if killed after the third generation
    run(tmp_path / "run", config)
    run(tmp_path / "whole", tiny())
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert checkpoints_of(tmp_path / "run") == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_the_times_of_every_generation_add_up_to_its_wall_time(tmp_path):
    config = tiny(held_out={"every": 2, "levels": 4})
    run(tmp_path / "run", dataclasses.replace(config, generations=3))
    run(tmp_path / "run", config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        parts = sum(value for name, value in row.items() if name.startswith("time_"))
        assert parts == pytest.approx(row["wall_s"], abs=2e-3)
    last = rows[-1]
    for use in ("compile", "generations", "evaluation", "checkpoint"):
        series = [row[f"time_{use}_s"] for row in rows]
        assert series == sorted(series)
        assert last[f"time_{use}_s"] > 0, use
    assert rows[0]["time_evaluation_s"] == 0


def test_the_program_of_a_run_that_is_not_reduced_holds_no_scale():
    config = tiny(**HELD_OUT)
    program = make_program(config)
    state = program.place(jax.jit(program.init)())
    assert state.scale is None
    assert compile_step(program, state)(state)[0].scale is None

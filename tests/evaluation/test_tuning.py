import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation import EvaluationError, evaluate, lanes, tuning
from rl_discovery.evaluation.results import Outcome, Results
from rl_discovery.evaluation.tasks import Experiment, prepare
from rl_discovery.evaluation.tuning import GRID, STEP_SIZES, Settings, best, tunable, with_settings

SUITE = Suite("test", "", ("gridworld/small",), (1,), levels_per_environment=3)


def objectives(*names):
    return {name: TrainedObjective(make_objective(name), {}) for name in names}


def run(names, horizons=(5,), seeds=(0, 1), **settings):
    return evaluate(objectives(*names), SUITE, horizons, seeds, mesh=make_mesh(1), workers=4, **settings)


@pytest.fixture
def likes_longer_steps(monkeypatch):
    """Returns grow with the step size, but for horizon 2, where they fall; gives the calls."""
    calls = []

    def train(learner, mesh, block_size, meta_params, levels, keys, ends):
        rule = learner.objective
        entropy_coef, discount = (getattr(rule, name, None) for name in ("entropy_coef", "discount"))
        gradients = {"policy": jnp.ones(1), "head": jnp.ones(1)}
        step = -learner.agent.optimiser.update(gradients, learner.agent.optimiser.init(gradients))[0][
            "policy"
        ][0]
        calls.append((rule.name, entropy_coef, discount, levels, keys))
        reached = jnp.where(ends[-1] == 2, -step, step)
        return jnp.full(keys.shape[0], reached), jnp.zeros((keys.shape[0], ends.shape[0] - 1))

    monkeypatch.setattr(lanes, "train_lanes", train)
    return calls


def outcome(score, return_=0.0):
    return Outcome(return_=return_, score=score, updates=1, env_steps=1, levels=1, unscored_levels=0)


def test_the_published_settings_are_the_first_candidate_and_change_nothing():
    assert GRID[0] == STEP_SIZES[0] == Settings(1.0, 1.0)
    assert len(set(GRID)) == len(GRID) == 18
    assert len(set(STEP_SIZES)) == len(STEP_SIZES) == 5


@pytest.mark.parametrize("name", sorted(RULES))
def test_hand_written_objectives_with_an_entropy_bonus_are_tuned_and_no_others(name):
    rule = make_objective(name)
    learned = name in ("lpg", "ta-lpg", "lpo", "ta-lpo")
    meta_params = {"w": np.zeros(1)} if learned else {}
    assert tunable(TrainedObjective(rule, meta_params), GRID) is not (learned or name == "random")
    assert tunable(TrainedObjective(rule, meta_params), STEP_SIZES) is not (name == "random")


def test_the_best_mean_score_wins_the_first_of_equal_ones_and_no_run_that_failed():
    assert best([[outcome(0.1), outcome(0.3)], [outcome(0.9), outcome(0.0)], [outcome(0.2)] * 2]) == 1
    assert best([[outcome(0.5)], [outcome(0.5)]]) == 0
    assert best([[outcome(0.5)], [outcome(9.0, return_=None)]]) == 0
    assert best([[outcome(None, 3.0)], [outcome(None, 4.0)]]) == 1


@pytest.mark.slow
def test_a_baseline_gets_the_settings_that_suit_each_horizon(likes_longer_steps):
    results = run(("a2c", "random"), horizons=(2, 5), tune=("a2c",))
    assert [(found.horizon, found.step_factor) for found in results.tuned] == [(2, 1 / 3), (5, 3.0)]
    published = {cell.horizon: cell.return_ for cell in run(("a2c",), horizons=(2, 5)).cells}
    for cell in results.cells:
        if cell.objective == "a2c":
            # Behind the clip of gradients, so the factor shows in the step as it is.
            factor = {2: 1 / 3, 5: 3.0}[cell.horizon]
            assert cell.return_ == pytest.approx(factor * published[cell.horizon], rel=1e-5)


def test_a_learned_objective_gets_the_step_size_that_suits_each_horizon(likes_longer_steps):
    results = run(("lpg", "a2c"), horizons=(2, 5), tune=("lpg", "a2c"), grid=STEP_SIZES)
    chosen = {(found.objective, found.horizon): found for found in results.tuned}
    assert {key: found.step_factor for key, found in chosen.items()} == {
        ("lpg", 2): 0.1, ("lpg", 5): 10.0, ("a2c", 2): 0.1, ("a2c", 5): 10.0,
    }  # fmt: skip
    assert {found.candidates for found in chosen.values()} == {5}
    assert {found.entropy_coef for found in chosen.values()} == {None}
    assert Results.from_json(results.to_json()) == results


def test_settings_are_chosen_on_other_seeds_and_other_levels(likes_longer_steps):
    run(("a2c",), seeds=(0, 1), tune=("a2c",))
    *searched, last = likes_longer_steps
    assert len(searched) == len(GRID)
    assert {entropy for _, entropy, _, _, _ in searched} == {0.0, 0.02, 0.08}
    assert {discount for _, _, discount, _, _ in searched} == {0.99, 0.997}
    shape = {keys.shape for *_, keys in searched}
    assert shape == {(len(tuning.SEEDS) * 3,)}
    assert last[-1].shape == (2 * 3,)


def test_levels_for_tuning_are_not_those_of_the_evaluation():
    suite = dataclasses.replace(SUITE, environments=("gridworld/all",), levels_per_environment=8)
    ((_, _, evaluated),), ((_, _, tuned),) = suite.levels(0), suite.levels(tuning.LEVELS_SEED)
    pairs = zip(jax.tree.leaves(evaluated), jax.tree.leaves(tuned), strict=True)
    assert any(not np.array_equal(one, other) for one, other in pairs)


def test_progress_counts_the_search(likes_longer_steps):
    stages = []
    run(("a2c", "random"), tune=("a2c",), progress=stages.append)
    assert [stage.tuning for stage in stages] == [True] * 18 + [False] * 3
    done = [stage.done for stage in stages]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 1
    # 18 candidates with two seeds, then two objectives with two seeds.
    assert done[18] == pytest.approx(18 / 20)


@pytest.mark.parametrize(
    ("names", "tune", "grid", "message"),
    [
        (("a2c",), ("ppo",), GRID, "cannot tune 'ppo': it is not evaluated"),
        (("a2c", "random"), ("random",), GRID, "cannot tune 'random': only hand-written objectives"),
        (("a2c", "random"), ("random",), STEP_SIZES, "cannot tune 'random': it has no step size"),
    ],
)
def test_what_cannot_be_tuned_is_refused(likes_longer_steps, names, tune, grid, message):
    with pytest.raises(EvaluationError, match=message):
        run(names, tune=tune, grid=grid)
    assert not likes_longer_steps


def test_other_settings_change_steps_entropy_bonus_and_gamma_alone():
    experiment = with_settings_of("ppo", Settings(3.0, 4.0, 0.997))
    rule, published = experiment.objective.rule, make_objective("ppo")
    assert rule == dataclasses.replace(published, entropy_coef=4 * published.entropy_coef, discount=0.997)
    usual = with_settings_of("ppo", GRID[0]).agent
    assert experiment.agent == dataclasses.replace(
        usual,
        policy_learning_rate=3 * usual.policy_learning_rate,
        head_learning_rate=3 * usual.head_learning_rate,
    )


def test_the_gamma_that_is_searched_is_the_tasks_where_it_has_one():
    experiment = with_settings_of("ppo", GRID[0])
    of_task = dataclasses.replace(experiment, agent=dataclasses.replace(experiment.agent, discount=0.98))
    found = with_settings(of_task, Settings(1.0, 1.0, 0.997))
    assert (found.agent.discount, found.objective.rule.discount) == (0.997, 0.997)
    assert with_settings(experiment, Settings(1.0, 1.0, 0.997)).agent.discount is None


def with_settings_of(name, settings):
    task = prepare(*SUITE.levels(0)[0])
    (objective,) = objectives(name).values()
    return with_settings(Experiment("test", task, name, objective, task.agent_for(objective, 4)), settings)

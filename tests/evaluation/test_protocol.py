import dataclasses
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.agents.agent import AgentState
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.normalisation import Statistics
from rl_discovery.discovery.learning import rollout
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.registry import UnknownNameError
from rl_discovery.evaluation import lanes, tasks
from rl_discovery.evaluation.errors import EvaluationError
from rl_discovery.evaluation.lanes import lane_keys
from rl_discovery.evaluation.protocol import evaluate
from rl_discovery.evaluation.results import Results
from rl_discovery.evaluation.runner import efficiency, groups
from rl_discovery.evaluation.tasks import prepare, reference_returns
from tests.discovery.experience import small_grid
from tests.evaluation.small import objective, run, suite


def test_levels_with_the_largest_time_limit_that_there_is_are_trained_on():
    env, level = small_grid(max_steps_in_episode=2**31 - 1, object_rewards=[1.0, 1.0], end_probs=[1.0, 1.0])
    learner = make_learner(env, level, AgentConfig(workers=2, rollout_steps=4), A2C())
    levels = jax.tree.map(lambda leaf: leaf[None], level)
    keys = jax.random.split(jax.random.key(0), 2)
    returns, _ = lanes.train_lanes(learner, make_mesh(1), 1, {}, levels, keys, jnp.array([1, 3]))
    np.testing.assert_array_equal(returns, [1.0, 1.0])


@functools.cache
def on_small():
    # Small levels: their episodes are short.
    return run(suite("gridworld/small", levels=12), ("a2c", "random"), (2, 50), range(3), points=5)


def aggregates(results):
    return {(a.objective, a.horizon): a for a in results.aggregate}


@pytest.mark.slow
def test_the_random_policy_scores_zero_however_long_it_lives():
    found = aggregates(on_small())
    assert abs(found["random", 2].iqm) < 0.05
    assert found["random", 2].ci_low - 0.05 < 0 < found["random", 2].ci_high + 0.05
    assert found["random", 2].iqm == found["random", 50].iqm


def test_a2c_beats_the_random_policy_and_learns_with_the_length_of_its_life():
    found = aggregates(on_small())
    assert found["a2c", 50].ci_low > found["random", 50].ci_high
    assert found["a2c", 50].ci_low > found["a2c", 2].ci_high
    assert 0.4 < found["a2c", 50].iqm < 1.05


def test_every_seed_gives_another_result():
    returns = [cell.return_ for cell in on_small().cells if cell.horizon == 2]
    assert len(set(returns)) == len(returns)


ON_SOME_DEVICES = """
from rl_discovery.checkpoints import load_objective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs.suites import Suite
from rl_discovery.evaluation.protocol import evaluate

suite = Suite("test", "", ("gridworld/small",), (1,), levels_per_environment=12)
objectives = {"ta-lpo": load_objective("ta-lpo")}
print(evaluate(objectives, suite, (2, 50), range(3), mesh=make_mesh(), workers=4, points=2).to_json())
"""


@pytest.mark.slow
def test_the_same_seeds_give_the_same_results_in_another_process_on_more_devices():
    # Compiled as for a user: in the quick way of the tests XLA adds in an order that the devices decide.
    def start(devices):
        flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        command = [sys.executable, "-c", ON_SOME_DEVICES]
        return subprocess.Popen(command, env=os.environ | flags, stdout=subprocess.PIPE, text=True)

    with start(1) as one, start(3) as three:
        documents = one.stdout.read(), three.stdout.read()
    assert (one.returncode, three.returncode) == (0, 0)
    mine, theirs = (Results.from_json(document).cells for document in documents)
    assert mine == theirs


def test_scores_run_from_the_random_to_the_best_policy():
    ((name, env, levels),) = suite("gridworld/small").levels(0)
    task = prepare(name, env, levels)
    assert np.allclose(task.scores(task.random[None]), 0)
    assert np.allclose(task.scores(task.optimal[None]), 1)


def test_a_level_with_nothing_to_gain_has_no_score_and_is_counted(monkeypatch, untrained):
    optimal, random = np.array([1.0, 2.0, 3.0, np.nan]), np.array([0.0, 2.0 - 1e-7, -1.0, np.nan])
    monkeypatch.setattr(tasks, "reference_returns", lambda *_: (optimal, random))
    for cell in run(suite("gridworld/small")).cells:
        assert cell.unscored_levels == 2
        assert cell.levels == 4
        assert cell.score == pytest.approx((0 + 0.25) / 2)


@pytest.mark.parametrize("environment", ["gridworld/rand_small", "GaussianBandit-misc"])
def test_environments_without_ends_of_a_score_have_returns_alone(untrained, environment):
    results = run(suite(environment))
    assert all(cell.score is None and cell.return_ == 0 for cell in results.cells)
    assert [aggregate.iqm for aggregate in results.aggregate] == [None]


@pytest.mark.slow
def test_a_gymnax_environment_is_trained_on():
    (cell,) = run(suite("CartPole-v1", levels=1, unit="env_steps"), horizons=(200,), seeds=(0,)).cells
    assert (cell.updates, cell.env_steps) == (2, 160)
    assert 15 < cell.return_ < 30  # the random policy falls after about 22 steps


def test_bounds_are_those_of_the_levels_own_family():
    ((name, env, levels),) = suite("gridworld/small").levels(0)
    optimal, random = reference_returns(name, env, levels)
    assert np.all(optimal > random)


def test_every_objective_meets_the_same_agents_and_random_numbers(monkeypatch):
    # In place of a lifetime, a number that depends on the lane's key only.
    def train(_, mesh, size, params, levels, keys, ends):
        return jax.vmap(jax.random.uniform)(keys), jnp.zeros((keys.shape[0], ends.shape[0] - 1))

    monkeypatch.setattr(lanes, "train_lanes", train)
    cells = run(suite("gridworld/small", "gridworld/medium"), ("a2c", "random"), (1, 2)).cells
    assert len({(cell.seed, cell.return_) for cell in cells}) == 2


def test_a_lanes_key_depends_on_its_seed_and_level_only():
    many = jax.random.key_data(lane_keys(range(4), 8)).reshape(4, 8, -1)
    few = jax.random.key_data(lane_keys((3, 1), 5)).reshape(2, 5, -1)
    assert np.array_equal(few, many[np.array([3, 1]), :5])


def test_no_lane_shares_a_key_with_another_or_with_a_training_run():
    lanes = jax.random.key_data(lane_keys(range(3), 100)).reshape(-1, 2)
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    # A run's keys fold its seed with the generation first, then with other counters.
    generations = [fold(jax.random.key(seed), jnp.arange(100)) for seed in range(3)]
    counters = [fold(key, jnp.arange(100)) for keys in generations for key in keys[:10]]
    training = jax.random.key_data(jnp.concatenate([*generations, *counters])).reshape(-1, 2)
    everything = np.concatenate([lanes, training])
    assert len(np.unique(lanes, axis=0)) == len(lanes)
    assert len(np.unique(everything, axis=0)) == len(lanes) + len(np.unique(training, axis=0))


def test_each_objective_compiles_once_whatever_the_horizons(untrained):
    run(suite("gridworld/small"), ("a2c", "random"), horizons=(1, 2, 3))
    assert [learner.objective.name for learner, *_ in untrained] == ["a2c", "random"]


def test_there_is_a_cell_per_objective_environment_horizon_and_seed(untrained):
    results = run(suite("gridworld/small", "gridworld/medium"), ("a2c", "random"), (1, 2), (0, 5))
    names = {(c.objective, c.environment, c.horizon, c.seed) for c in results.cells}
    assert len(names) == len(results.cells) == 16
    assert {c.seed for c in results.cells} == {0, 5}
    assert {c.suite for c in results.cells} == {"test"}


def test_horizons_are_reported_in_both_units(untrained):
    (cell,) = run(suite("gridworld/small"), horizons=(3,), seeds=(0,)).cells
    assert (cell.updates, cell.env_steps) == (3, 3 * 4 * 20)
    (cell,) = run(suite("gridworld/small", unit="env_steps"), horizons=(250,), seeds=(0,)).cells
    assert (cell.horizon, cell.updates, cell.env_steps) == (250, 3, 240)


def test_all_agents_have_the_same_workers(untrained):
    run(suite("gridworld/small"), ("a2c", "random"), workers=7)
    assert {learner.workers for learner, *_ in untrained} == {7}
    run(suite("gridworld/small"), workers=None)
    assert untrained[-1][0].workers == 64  # the published number


def test_each_suite_has_its_own_workers(untrained):
    suites = [suite("gridworld/small"), dataclasses.replace(suite("gridworld/small"), name="other")]
    run(suites, workers={"test": 7, "other": None})
    assert [learner.workers for learner, *_ in untrained] == [7, 64]


def test_layers_are_those_that_were_asked_for_where_there_are_any(untrained):
    networks = {"network": "mlp", "hidden": (64, 64)}
    run([suite("CartPole-v1"), suite("gridworld/small")], ("lpg", "a2c"), hidden=(64, 64))
    for (learner, *_), expected in zip(untrained, [networks] * 2 + [{"network": "tabular"}] * 2, strict=True):
        assert expected.items() <= vars(learner.agent.config).items()
    with pytest.raises(EvaluationError, match=r"hidden layers must have at least 1 unit, not \(64, 0\)"):
        run(suite("CartPole-v1"), hidden=(64, 0))
    with pytest.raises(EvaluationError, match="hidden layers have no effect here: no agent has an MLP"):
        run(suite("gridworld/small"), hidden=(64,))


@pytest.mark.slow
def test_an_agent_that_diverged_is_a_failure_though_its_policy_acts():
    rule = make_objective("ta-lpg", width=4)
    meta_params = jax.tree.map(lambda leaf: leaf * jnp.nan, rule.init(jax.random.key(0)))
    objectives = {"bad": TrainedObjective(rule, meta_params), "random": objective("random")}
    levels = suite("gridworld/small")
    results = evaluate(objectives, levels, (2,), (0, 1), mesh=make_mesh(1), workers=4, points=2)
    assert [cell.failed for cell in results.cells] == [True, True, False, False]
    assert [(found.failures, found.iqm is None) for found in results.aggregate] == [(2, True), (0, False)]


@pytest.mark.slow
def test_an_episode_that_does_not_end_is_one_line_and_no_return(monkeypatch):
    monkeypatch.setattr(rollout, "LONGEST_EPISODE", 20)
    with pytest.raises(EvaluationError, match=r"^an episode of gridworld/dense did not end within 20 steps"):
        run(suite("gridworld/dense"), horizons=(1,), seeds=(0,), points=2)


def test_one_parameter_that_is_not_finite_marks_its_lane_alone():
    params = {"a": np.ones((3, 2, 2)), "b": np.ones(3)}
    params["a"][1, 0, 1] = np.inf
    states = AgentState(params=params, opt_state=(), statistics=Statistics())
    np.testing.assert_array_equal(jax.vmap(lambda state: state.is_finite)(states), [True, False, True])


def test_progress_is_told_for_each_group_of_seeds(untrained):
    stages = []
    run(suite("gridworld/small"), ("a2c",), (10,), range(4), block_size=4, progress=stages.append)
    assert [stage.done for stage in stages] == [0, 1 / 4, 2 / 4, 3 / 4, 1]


def test_progress_rises_to_one(untrained):
    stages = []
    run(suite("gridworld/small"), ("a2c", "random"), (10, 30), progress=stages.append)
    assert [stage.done for stage in stages] == [0, 10 / 80, 40 / 80, 50 / 80, 1]
    assert [stage.objective for stage in stages] == ["a2c", "a2c", "random", "random", "random"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizons": (0,)}, "horizons must be at least 1, not 0"),
        ({"horizons": (5, 5)}, "horizons must differ"),
        ({"seeds": ()}, "seeds must not be empty"),
        ({"seeds": (-1,)}, "seeds must not be negative"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"names": ()}, "objectives must not be empty"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_name(untrained, settings, message):
    with pytest.raises(EvaluationError, match=message):
        run(suite("gridworld/small"), **settings)
    assert not untrained


def test_a_horizon_shorter_than_one_update_is_refused(untrained):
    with pytest.raises(EvaluationError, match="79 env steps is less than one update, which takes 80"):
        run(suite("gridworld/small", unit="env_steps"), horizons=(79,))
    assert not untrained


@pytest.mark.parametrize("unit", ["updates", "env_steps"])
def test_a_horizon_that_cannot_be_counted_is_refused(untrained, unit):
    with pytest.raises(EvaluationError, match="a horizon of 5000000000 is too long"):
        run(suite("gridworld/small", unit=unit), horizons=(5_000_000_000,))
    assert not untrained


def test_continuous_actions_are_refused_for_a_rule_that_needs_discrete_ones(untrained):
    with pytest.raises(EvaluationError, match="lpg needs discrete actions, and those of Pendulum-v1 are"):
        run(suite("Pendulum-v1"), names=("random", "lpg"))
    assert not untrained, "something was trained before anything was refused"


def test_an_unknown_environment_is_refused():
    with pytest.raises(UnknownNameError, match="nowhere"):
        run(dataclasses.replace(suite("gridworld/small"), environments=("gridworld/nowhere",)))


def test_the_curve_ends_at_the_final_return_and_the_area_below_it_is_the_efficiency():
    cell = next(cell for cell in on_small().cells if (cell.objective, cell.horizon) == ("a2c", 50))
    steps, returns = zip(*((point.env_steps, point.return_) for point in cell.curve), strict=True)
    assert steps == tuple(np.arange(1, 6) * 10 * 4 * 20)
    assert returns[-1] == cell.return_
    assert cell.score > cell.efficiency > 0, "agents that learn are worse on the way than at the end"


def test_a_curve_of_fewer_updates_than_points_has_a_point_per_update():
    cell = next(cell for cell in on_small().cells if (cell.objective, cell.horizon) == ("a2c", 2))
    assert [point.env_steps for point in cell.curve] == [80, 160]


def test_efficiency_is_the_mean_of_the_curve_with_its_beginning_flat():
    # Held at 2 up to step 10, then rising to 4 at step 30: (20 + 60) / 30.
    assert efficiency([10, 30], np.array([2.0, 4.0])) == pytest.approx(80 / 30)


@pytest.mark.slow
def test_the_final_return_does_not_depend_on_the_points_of_the_curve():
    one = run(suite("gridworld/small"), ("a2c",), points=1).cells
    three = run(suite("gridworld/small"), ("a2c",), points=3).cells
    assert [cell.return_ for cell in one] == [cell.return_ for cell in three]
    assert [len(cell.curve) for cell in one + three] == [1, 1, 3, 3]


def test_several_suites_are_evaluated_with_their_own_horizons(untrained):
    first = dataclasses.replace(suite("gridworld/small"), name="first", horizons=(1, 2))
    second = dataclasses.replace(
        suite("CartPole-v1", levels=1, unit="env_steps"), name="second", horizons=(400,)
    )
    results = run((first, second), horizons=())
    found = dict.fromkeys((cell.suite, cell.horizon, cell.updates) for cell in results.cells)
    assert list(found) == [("first", 1, 1), ("first", 2, 2), ("second", 400, 5)]
    with pytest.raises(EvaluationError, match="count different things"):
        run((first, second), horizons=(5,))


def test_seeds_are_trained_in_groups_that_fill_the_devices_by_one_program(untrained):
    results = run(suite("gridworld/small"), ("a2c",), seeds=range(5), block_size=8)
    assert [keys.shape[0] for _, _, keys, _ in untrained] == [8]  # traced once per number of lanes
    assert [cell.seed for cell in results.cells] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (0, 4, []),
        (3, 4, [[0, 1, 2]]),
        (4, 4, [[0, 1, 2, 3]]),
        (5, 4, [[0, 1, 2], [3, 4, 4]]),
        (5, 1, [[0], [1], [2], [3], [4]]),
    ],
)
def test_groups_are_equally_long_and_leave_nobody_out(count, most, expected):
    assert groups(range(count), most) == expected

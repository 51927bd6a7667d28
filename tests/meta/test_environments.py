"""Meta-training on several environments at once."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import EnvironmentConfig, LevelsConfig
from rl_discovery.meta.evolve import generation
from rl_discovery.meta.results import LaneResults
from rl_discovery.meta.runs.meta_train import meta_train
from tests.meta.processes import metrics
from tests.meta.tiny import TINY, tiny

MANY = {"es": {"pairs": 4, "sigma": 3.0}, "agent": {"workers": 8}, "levels": {"distribution": "all"}}
SMALL = EnvironmentConfig(levels=tiny(**MANY).levels, agent=tiny(**MANY).agent)
CARTPOLE = EnvironmentConfig(
    levels=LevelsConfig(distribution="CartPole-v1", horizon=2),
    agent=AgentConfig(network="mlp", hidden=(3,), workers=1, rollout_steps=2),
)
TA_LPO = {
    "objective": {
        "kind": "lpo",
        "width": 3,
        "progress_inputs": True,
        "horizon_inputs": True,
        "longest_horizon": 3,
    },
    "agent": {"epochs": 2, "minibatches": 2, "anneal": True},
}
KEY = jax.random.key(3)


@pytest.mark.slow
def test_an_environments_lanes_are_the_ones_of_the_same_groups_in_a_run_on_one():
    one, two = make_program(tiny(**MANY)), make_program(tiny(**MANY, also=(SMALL,)))
    assert [(lanes.first_group, lanes.groups) for lanes in two.lanes] == [(0, 2), (2, 2)]

    @jax.jit
    def fitness(state):
        everywhere = jnp.ones(4, bool)
        _, level_batch = one.curriculum.serve((), KEY, jnp.int32(0), everywhere)
        whole = one.lanes[0].run(one.strategy.ask(state, KEY), level_batch, KEY).fitness
        candidates = two.strategy.ask(state, KEY)
        parts = [
            lanes.run(candidates, jax.tree.map(lambda leaf, i=i: leaf[2 * i : 2 * i + 2], level_batch), KEY)
            for i, lanes in enumerate(two.lanes)
        ]
        return whole, jnp.concatenate([part.fitness for part in parts])

    whole, parts = fitness(jax.jit(one.init)().strategy)
    assert len(np.unique(whole)) > 4, "the lanes must differ for this to tell"
    np.testing.assert_array_equal(parts, whole)


@dataclasses.dataclass(frozen=True)
class Given:
    """A task's lanes, whose fitness is given."""

    lanes: object
    answer: tuple

    def run(self, candidates, level_batch, key):
        del candidates, level_batch, key
        fitness = jnp.array(self.answer)
        return LaneResults(fitness=fitness, mean_return=fitness, score=fitness, best_return=fitness)

    def __getattr__(self, name):
        return getattr(self.lanes, name)


@dataclasses.dataclass(frozen=True)
class Told:
    """A strategy whose state is what it was told."""

    strategy: object

    def ask(self, state, key):
        return self.strategy.ask(state, key)

    def tell(self, state, key, fitness):
        return state.replace(best_fitness=fitness)

    def __getattr__(self, name):
        return getattr(self.strategy, name)


def test_fitness_is_standardised_within_each_environment_and_shown_as_it_is():
    program = make_program(tiny(es={"pairs": 4}, also=(CARTPOLE,)))
    nan = float("nan")
    answers = ((1.0, 2.0), (3.0, 6.0)), ((100.0, nan), (300.0, 200.0))
    lanes = tuple(Given(lanes, answer) for lanes, answer in zip(program.lanes, answers, strict=True))
    program = dataclasses.replace(program, lanes=lanes, strategy=Told(program.strategy))
    state, found = jax.jit(lambda state: generation(program, state))(program.init())
    expected = [(np.array(a) - np.nanmean(a)) / np.nanstd(a) for a in answers]
    np.testing.assert_allclose(state.strategy.best_fitness, np.concatenate(expected), rtol=1e-5)
    names = [f"fitness_mean.{number}.{task.name}" for number, task in enumerate(program.tasks)]
    assert names[1] == "fitness_mean.1.CartPole-v1"
    assert [float(found[name]) for name in names] == [3.0, 200.0]
    assert float(found["fitness_mean"]) == np.mean([1, 2, 3, 6, 100, 300, 200], dtype=np.float32)
    assert found["nonfinite_candidates"] == 1
    assert found["updates"].tolist() == [2 * 2 * 3, 2 * 2 * 2]


@pytest.mark.slow
def test_a_run_on_two_environments_counts_its_steps_and_goes_on_as_if_it_had_been_one_run(tmp_path):
    cartpole = dataclasses.replace(CARTPOLE, agent=dataclasses.replace(CARTPOLE.agent, epochs=2))
    config = tiny(es={"pairs": 4}, also=(cartpole,), checkpoint={"every": 1}, **TA_LPO)

    def run(path, generations):
        changed = dataclasses.replace(config, generations=generations)
        meta_train(changed, path, Console(file=io.StringIO()))
        return metrics(path)

    whole = run(tmp_path / "whole", 3)
    run(tmp_path / "parts", 2)
    assert run(tmp_path / "parts", 3) == whole
    steps = 4 * 3 * TINY.agent.steps_per_update + 4 * 2 * CARTPOLE.agent.steps_per_update
    assert [row["env_steps"] for row in whole] == [steps, 2 * steps, 3 * steps]
    assert all(row["fitness_mean.1.CartPole-v1"] > 5 for row in whole)

"""The trainings of the study of fitness noise: a generation of evolution, taken apart."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from efficiency import FREE
from harness import Arm, kept

from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.lifetime import Learner, train_block
from rl_discovery.discovery.sharding import run_blocks
from rl_discovery.envs.gridworld.planning import expected_returns
from rl_discovery.envs.gridworld.policy_evaluation import policy_returns
from rl_discovery.envs.levels import Level
from rl_discovery.meta.build import make_evolution
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import LevelBatch
from rl_discovery.meta.keys import CANDIDATES, LANES, LEVELS, keys_of_generation
from rl_discovery.meta.warm_start import starting_point

SETTINGS = {
    "A2C residual, at its start": Arm("residual-start", "ta-lpg-a2c-cpu"),
    "A2C residual, trained": Arm("residual", "ta-lpg-a2c-cpu"),
    "free, trained": dataclasses.replace(FREE[0], name="free"),
}
MANY_WORKERS = ("--agent.workers", "64", "--block-size", "2")
SEED = 1
BANDS = {"10 to 29": (10, 29), "30 to 85": (30, 85), "86 to 250": (86, 250)}
"""Bands of the horizon: thirds of its logarithm."""
TRAININGS = {16: 12, 64: 4}
"""Trainings of the same pairs on the levels of generation 0, by workers."""
LEVEL_SETS = {16: 15, 64: 6}
"""Generations whose levels the pairs are trained on; with 16 workers twice on each."""
AGAIN = 1000
"""What a lane's key is folded with for its second evaluation."""
EPISODES = (16, 64)


@dataclasses.dataclass(frozen=True)
class Repetition:
    """One training of all pairs.

    Attributes:
        workers: W of the agents.
        levels: number of the generation that the levels are from.
        luck: number of the generation that all random numbers of the lifetimes are from.
    """

    workers: int
    levels: int
    luck: int

    @property
    def file(self) -> str:
        """Where it is kept."""
        return f"w{self.workers}-levels{self.levels}-luck{self.luck}.npz"


Found = dict[Repetition, dict[str, np.ndarray]]
"""The measurements of a setting."""


def repetitions(workers: int) -> Iterator[Repetition]:
    """All trainings of agents with this many workers."""
    for luck in range(TRAININGS[workers]):
        yield Repetition(workers, 0, luck)
    for levels in range(1, LEVEL_SETS[workers]):
        yield Repetition(workers, levels, levels)
        if workers == 16:
            yield Repetition(workers, levels, 100 + levels)


def scales_of_levels() -> dict[str, np.ndarray]:
    """Optimal and random return [2, pairs] of all levels, by generation: all settings share them."""
    lab = Laboratory(next(iter(SETTINGS.values())).config())
    levels = {str(g): lab.levels(g).params for g in range(LEVEL_SETS[16])}
    return {g: np.stack(expected_returns(lab.learner.env, params)) for g, params in levels.items()}


def measured(arm: Arm, start: str | None, folder: Path) -> Found:
    """All trainings of a setting; runs those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    found: Found = {}
    for workers in (16, 64) if start else (16,):
        flags = arm.flags if workers == 16 else (*arm.flags, *MANY_WORKERS)
        config = dataclasses.replace(arm, flags=flags).config()
        laboratory = functools.cache(functools.partial(Laboratory, config, start))
        for part in repetitions(workers):
            found[part] = kept(folder / part.file, functools.partial(measure, laboratory, part))
    return found


def measure(laboratory: Callable[[], "Laboratory"], part: Repetition) -> dict[str, np.ndarray]:
    """One training, in a laboratory that is built only when it is needed."""
    return laboratory().measure(part)


class Laboratory:
    """A generation's lanes, taken apart: training, and each way of evaluating its results.

    Args:
        config: of the run.
        start: the objective around which candidates are drawn; None: the rule's own start.
    """

    def __init__(self, config: RunConfig, start: str | None = None) -> None:
        program = make_evolution(dataclasses.replace(config, seed=SEED, devices=1))
        state = program.init(None if start is None else starting_point(start, program.objective))
        key = keys_of_generation(SEED, jnp.int32(0))[CANDIDATES]
        self.candidates = program.strategy.ask(state.strategy, key)
        self.curriculum, (self.lanes,) = program.curriculum, program.lanes
        self.learner = dataclasses.replace(self.lanes.learner, sums_rewards=True)
        self._train = jax.jit(self._train_lanes)
        self._judge = jax.jit(self._judge_lanes, static_argnums=0)
        self._tables = jax.jit(self._policies)

    def measure(self, part: Repetition) -> dict[str, np.ndarray]:
        """Fitness of every candidate [pairs, 2] by each measure, and the seconds of CPU that each takes."""
        levels, key = self.levels(part.levels), keys_of_generation(SEED, jnp.int32(part.luck))[LANES]
        seconds: dict[str, np.ndarray] = {}

        def timed(name: str, run: Any, *operands: Any) -> Any:
            began = time.process_time()
            result = jax.block_until_ready(run(*operands))
            seconds[name] = np.asarray(time.process_time() - began)
            return result

        params, per_step = timed("train", self._train, self.candidates, levels, key)
        fitness = {"horizon": levels.horizon, "reward_per_step": per_step}
        for episodes in EPISODES:
            fitness[f"episodes_{episodes}"] = timed(
                f"episodes_{episodes}", self._judge, episodes, params, levels, key
            )
        again = jax.random.fold_in(key, AGAIN)
        fitness["again_16"] = self._judge(16, params, levels, again)
        fitness["exact"] = timed("exact", self._exact, params, levels)
        shape = self.lanes.groups, self.lanes.group_size
        arrays = {
            name: np.asarray(value) if name == "horizon" else np.asarray(value).reshape(shape)
            for name, value in fitness.items()
        }
        if part == Repetition(16, 0, 0):
            self._check(arrays["episodes_16"])
        return arrays | {f"seconds_{name}": value for name, value in seconds.items()}

    def _check(self, fitness: np.ndarray) -> None:
        """Checks that the first training is the one that evolution itself would have done.

        Raises:
            RuntimeError: it is not.
        """
        keys = keys_of_generation(SEED, jnp.int32(0))
        own = jax.jit(self.lanes.run)(self.candidates, self._served(0), keys[LANES]).fitness
        # Another program may round differently, which sampled actions amplify.
        same = np.mean(np.isclose(own, fitness, atol=1e-5))
        if same < 0.95:
            raise RuntimeError(
                f"only {same:.0%} of the candidates have the fitness that evolution gives them"
            )

    def _served(self, generation: int) -> LevelBatch:
        key = keys_of_generation(SEED, jnp.int32(generation))[LEVELS]
        everywhere = jnp.ones(self.lanes.groups, bool)
        return self.curriculum.serve(self.curriculum.init(), key, jnp.int32(0), everywhere)[1]

    def levels(self, generation: int) -> Level:
        """The levels that evolution would serve in that generation."""
        return self._served(generation).levels

    def _run(self, task: Any, operands: Any, levels: Any) -> Any:
        """`task` of (operands, lanes, groups), in the blocks of evolution."""
        costs = jnp.repeat(levels.horizon.astype(jnp.float32), self.lanes.group_size)

        def block(operands: Any, lanes: jax.Array) -> Any:
            return task(operands, lanes, lanes // self.lanes.group_size)

        return run_blocks(block, operands, costs, self.lanes.block_size, self.lanes.mesh)

    def _train_lanes(self, candidates: Any, levels: Any, key: jax.Array) -> Any:
        """The agents' parameters, and their mean reward per step while they learned."""

        def task(operands: Any, lanes: jax.Array, groups: jax.Array) -> Any:
            candidates, levels, key = operands
            horizons = levels.horizon[groups]
            params = jax.tree.map(lambda leaf: leaf[groups], levels.params)
            members = jax.vmap(candidates.member)(groups, lanes % self.lanes.group_size)
            train_states = train_block(self.learner, members, params, horizons, keys_of(key, groups))
            return train_states.agent.params, train_states.reward_sum / horizons

        return self._run(task, (candidates, levels, key), levels)

    def _judge_lanes(self, episodes: int, agents: Any, levels: Any, key: jax.Array) -> Any:
        """Mean return of this many episodes of each agent."""
        agent = dataclasses.replace(self.learner.agent, workers=episodes)
        examiner = dataclasses.replace(self.learner, agent=agent)

        def lane(level: Any, key: jax.Array, params: Any) -> jax.Array:
            return examiner.evaluate(level, key, with_params(examiner, key, level, params))

        def task(operands: Any, lanes: jax.Array, groups: jax.Array) -> Any:
            agents, levels, key = operands
            params = jax.tree.map(lambda leaf: leaf[groups], levels.params)
            mine = jax.tree.map(lambda leaf: leaf[lanes], agents)
            return jax.vmap(lane)(params, keys_of(key, groups), mine)

        return self._run(task, (agents, levels, key), levels)

    def _policies(self, agents: Any, level: Any) -> jax.Array:
        """Action probabilities of all agents, [lanes, S, A]."""
        states = jnp.arange(self.learner.env.cells << self.learner.env.max_objects)

        def lane(params: Any) -> jax.Array:
            train_state = with_params(self.learner, jax.random.key(0), level, params)
            return jax.nn.softmax(self.learner.agent.outputs_of(train_state.agent, states).parameters)

        return jax.vmap(lane)(agents)

    def _exact(self, agents: Any, levels: Any) -> jax.Array:
        """Exact expected return of each agent."""
        groups = np.repeat(np.arange(self.lanes.groups), self.lanes.group_size)
        params = jax.tree.map(lambda leaf: leaf[groups], levels.params)
        first = jax.tree.map(lambda leaf: leaf[0], levels.params)
        return policy_returns(self.learner.env, params, self._tables(agents, first), chunk=4)


def with_params(learner: Learner, key: jax.Array, level: Any, params: Any) -> Any:
    """A life whose agent has these parameters."""
    train_state = learner.begin(key, level)
    return dataclasses.replace(train_state, agent=dataclasses.replace(train_state.agent, params=params))

"""Agents before and after their lifetime on a few levels of a run, with an episode of each to look at.

Each is trained from scratch with the objective as it stands, for its level's own horizon unless that would
take too long. Gridworlds are recorded step by step; of other environments there are returns only.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import (
    Learner,
    TrainState,
    evaluate_block,
    run_updates,
    vmap_lanes,
)
from rl_discovery.discovery.learning.rollout import Recording, record_episode
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.types import EnvParams
from rl_discovery.envs.gridworld.env import GridLevel, GridWorld
from rl_discovery.envs.levels import Level, LevelDistribution
from rl_discovery.evaluation.tasks import reference_returns

FOLD = 0x9EB027
"""Folded into the seed first, so that no key here is one of meta-training or of `evaluate`."""

MOST_STEPS = 1_000_000
"""Environment steps that one agent may take where there is something to see, or its lifetime is cut. Seconds
on a core for tables."""

MOST_STEPS_UNSEEN = 300_000
"""The limit in environments that are not drawn. Networks take longer: about ten seconds for MinAtar's."""

POINTS = 10
"""Points of the learning curve, besides its beginning."""

EPISODE_STEPS = 100
"""Steps of an episode that are recorded: who watches has seen enough by then."""


@dataclasses.dataclass(frozen=True)
class ReportedRun:
    """The part of a run that its report trains and draws.

    Attributes:
        objective: as it stands.
        distribution: what the run's levels are drawn from.
        environment: its full name, as in "gridworld/all".
        agent: the settings of the run's agents.
    """

    objective: TrainedObjective
    distribution: LevelDistribution
    environment: str
    agent: AgentConfig

    @property
    def drawable(self) -> bool:
        """Whether its levels can be drawn."""
        return isinstance(self.distribution.env, GridWorld)

    def longest(self) -> int:
        """The longest lifetime that is trained, in agent updates."""
        most = MOST_STEPS if self.drawable else MOST_STEPS_UNSEEN
        return max(1, most // self.agent.steps_per_update)

    def levels(self, seed: int, count: int) -> Level:
        """Levels as the run draws them, but none of those that it drew."""
        keys = keys_of(jax.random.fold_in(jax.random.key(seed), FOLD), count)
        return jax.jit(jax.vmap(self.distribution.sample))(keys)


@dataclasses.dataclass(frozen=True)
class Episode:
    """The beginning of an episode, state by state; the first entry is how it begins.

    Attributes:
        cells: where the agent is.
        present: which objects can be collected, a bit each.
        places: where they are; None where they stay.
        gained: rewards so far.
        ended: `terminated`, `truncated` by the time limit, or still `running` after `EPISODE_STEPS`.
    """

    cells: tuple[int, ...]
    present: tuple[int, ...]
    places: tuple[tuple[int, ...], ...] | None
    gained: tuple[float, ...]
    ended: str


@dataclasses.dataclass(frozen=True)
class AgentHistory:
    """One agent on one level.

    Attributes:
        level: what it plays, if that can be drawn.
        horizon: N that it lived for.
        own_horizon: N of the level; larger where the lifetime was cut.
        updates, returns: its learning curve, from the untrained agent on: mean returns of W episodes.
        optimal, random: exact expected returns of the best and of the random policy, if known.
        before, after: an episode of the untrained and of the trained agent, if they can be drawn.
    """

    level: GridLevel | None
    horizon: int
    own_horizon: int
    updates: tuple[int, ...]
    returns: tuple[float, ...]
    optimal: float | None
    random: float | None
    before: Episode | None
    after: Episode | None


def train_agents(
    reported: ReportedRun, levels: Level, seed: int, progress: Callable[[str], None] = lambda stage: None
) -> list[AgentHistory]:
    """Trains an agent on each level and records it.

    Args:
        reported: the run.
        levels: a batch of them.
        seed: of all that is random in these lifetimes.
        progress: called with what is about to be done.

    Raises:
        ValueError: agents that do not fit the environment.
    """
    env = reported.distribution.env
    count = int(levels.horizon.shape[0])
    learner = make_learner(env, _one(levels.params, 0), reported.agent, reported.objective.rule)
    optimal, random = reference_returns(reported.environment, env, levels.params)
    keys = keys_of(jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), FOLD), 1), count)
    begin, go_on, measure = _lane(learner, reported.objective.meta_params)
    record = jax.jit(functools.partial(_record, learner)) if reported.drawable else None
    histories = []
    for i in range(count):
        level, key = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], levels.params), keys[i : i + 1]
        own = int(levels.horizon[i])
        horizon = min(own, reported.longest())
        progress(f"agent {i + 1} of {count}: {horizon:,} updates on {reported.environment}")
        ends = np.unique(np.linspace(0, horizon, POINTS + 1).round().astype(int))
        train_state = first = begin(key, level)
        returns = [float(measure(train_state, level, key)[0])]
        for start, end in itertools.pairwise(ends):
            train_state = go_on(
                level, jnp.full(1, horizon), key, train_state, jnp.int32(start), jnp.int32(end)
            )
            returns.append(float(measure(train_state, level, key)[0]))
        episodes = [
            None if record is None else _episode(record(_one(level, 0), key[0], _one(state, 0)))
            for state in (first, train_state)
        ]
        histories.append(
            AgentHistory(
                level=_one(level, 0) if reported.drawable else None,
                horizon=horizon,
                own_horizon=own,
                updates=tuple(map(int, ends)),
                returns=tuple(returns),
                optimal=_known(optimal[i]),
                random=_known(random[i]),
                before=episodes[0],
                after=episodes[1],
            )
        )
    return histories


def _lane(
    learner: Learner, meta_params: Any
) -> tuple[Callable[..., TrainState], Callable[..., TrainState], Callable[..., Array]]:
    shared = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], meta_params)

    def go_on(level, horizon, key, train_state, start, end):
        return run_updates(learner, shared, level, horizon, key, train_state, start, end)

    def measure(train_state, level, key):
        return evaluate_block(learner, train_state, level, key)

    return jax.jit(vmap_lanes(learner.begin)), jax.jit(go_on), jax.jit(measure)


def _record(learner: Learner, level: EnvParams, key: Key[Array, ""], train_state: TrainState) -> Recording:
    start_key, walk_key = jax.random.split(jax.random.fold_in(key, FOLD))
    start = learner.env.reset(start_key, level)
    agent_state = train_state.agent
    return record_episode(learner.agent, agent_state, learner.env, level, walk_key, start, EPISODE_STEPS)


def _episode(recording: Recording) -> Episode:
    states, reward, terminated, truncated = jax.device_get(recording)
    over = np.flatnonzero(terminated | truncated)
    steps = int(over[0]) + 1 if over.size else EPISODE_STEPS
    ended = "running" if not over.size else "terminated" if terminated[over[0]] else "truncated"
    places = states.object_cells
    return Episode(
        cells=tuple(map(int, states.cell[: steps + 1])),
        present=tuple(map(int, states.present[: steps + 1])),
        places=None if places is None else tuple(tuple(map(int, row)) for row in places[: steps + 1]),
        gained=(0.0, *map(float, np.cumsum(reward[:steps], dtype=np.float64))),
        ended=ended,
    )


def _one(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def levels_of(levels: Level) -> Sequence[Any]:
    """Parameters of every level of a batch."""
    return [_one(levels.params, i) for i in range(int(levels.horizon.shape[0]))]

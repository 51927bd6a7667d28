"""Training the agents of an evaluation: one lane per seed and level, blocks of them over the mesh.

Random numbers: a lane's key depends on (seed, level index) alone, so all objectives start from the
same agents and meet the same random numbers. The seed's key is folded with `LIFETIMES_FOLD` first.
Meta-training folds its seeds with counters (generations, lanes), which never get that far, and levels
are drawn with a third fold (`envs.suites.EVALUATION_FOLD`): no key here is a key there, whatever the
seeds. Within a lane, `discovery.learning.lifetime` keeps first agent, updates and evaluations apart; all
evaluations of a lane share their random numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import Learner, evaluate_block, run_updates, vmap_lanes
from rl_discovery.discovery.learning.rollout import UNFINISHED, no_end
from rl_discovery.discovery.sharding import run_lanes
from rl_discovery.discovery.types import EnvParams, MetaParams
from rl_discovery.evaluation.errors import EvaluationError
from rl_discovery.evaluation.tasks import Experiment, count

LIFETIMES_FOLD = 0x5EEDA6E7
"""Folded into a seed's key before anything else, see the module's docstring."""

EPISODES = 64
"""Episodes that a trained agent's return is the mean of, however many workers it learned with."""

CURVE_EPISODES = 16
"""Episodes of each earlier point of its learning curve."""

WORKERS_PER_BLOCK, LANES_PER_BLOCK = 128, 8
"""Environments and agents that run side by side on a device at most, unless told otherwise: 8 lanes of 16
workers, 2 of 64. Small blocks stay in a CPU core's cache (docs/performance.md), and where there are few
lanes, as on a control task with its one level, a large block would be padding for the most part."""


class Returns(NamedTuple):
    """Returns of the agents of some seeds.

    Attributes:
        final: at the end of the lifetime.
        updates: of the points of the curve, ascending, the last at the end.
        curve: at these points; the last is `final`.
    """

    final: Float[np.ndarray, "seeds levels"]
    updates: Int[np.ndarray, " points"]
    curve: Float[np.ndarray, "points seeds levels"]


Trainer = Callable[[int, Sequence[int]], Returns]
"""From a number of updates and seeds to returns; compiles anew for another number of seeds only."""


def make_trainer(experiment: Experiment, mesh: Mesh, block_size: int, points: int) -> Trainer:
    """A function that trains the agents of an experiment.

    Args:
        experiment: objective, environment and agents.
        mesh: the devices; results do not depend on it.
        block_size: lanes that run side by side; part of what decides results to the last bit.
        points: of the learning curve, the end included.

    Raises:
        EvaluationError: agents that do not fit the environment or the rule; when it is called: an episode
            that does not end.
    """
    task = experiment.task
    try:
        learner = make_learner(task.env, task.level, experiment.agent, experiment.objective.rule)
    except ValueError as error:  # an environment that no agent of ours fits
        raise EvaluationError(str(error)) from error
    run = jax.jit(functools.partial(train_lanes, learner, mesh, block_size))

    def train(updates: int, seeds: Sequence[int]) -> Returns:
        keys = lane_keys(seeds, task.count)
        ends = np.linspace(0, updates, points + 1).round().astype(np.int32)[1:]
        final, curve = run(experiment.objective.meta_params, task.levels, keys, jnp.asarray(ends))
        shape = len(seeds), task.count
        final = np.asarray(final, np.float64).reshape(shape)
        curve = np.moveaxis(np.asarray(curve, np.float64).reshape(*shape, points - 1), -1, 0)
        check_ended(task.name, final, curve)
        # A short lifetime has fewer updates than points: the first of equal ones stays.
        kept = np.flatnonzero(np.diff(ends, prepend=0) > 0)
        return Returns(final, ends[kept], np.concatenate([curve, final[None]])[[*kept[:-1], -1]])

    return train


def train_lanes(
    learner: Learner,
    mesh: Mesh,
    block_size: int,
    meta_params: MetaParams,
    levels: EnvParams,
    keys: Key[Array, " lanes"],
    ends: Int[Array, " points"],
) -> tuple[Float[Array, " lanes"], Float[Array, "lanes points-1"]]:
    """Returns during and at the end of one lifetime per key, in blocks over the mesh.

    Args:
        learner: the static side.
        mesh: the devices.
        block_size: lanes that run side by side.
        meta_params: of the objective, the same for all lanes.
        levels: a batch of levels; lane i plays level i modulo their number.
        keys: one per lane.
        ends: updates after which agents are evaluated, ascending; the last is N.

    Returns:
        Mean undiscounted return of `EPISODES` episodes at the end, and of `CURVE_EPISODES` at each
        earlier point; NaN where the agent is not finite.
    """
    at_end, during = (
        dataclasses.replace(learner, agent=dataclasses.replace(learner.agent, workers=episodes))
        for episodes in (EPISODES, CURVE_EPISODES)
    )
    starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    last = jnp.arange(len(ends)) == len(ends) - 1

    def run_block(shared: Any, mine: Any, alive: Bool[Array, " size"]) -> Any:
        (meta_params, starts, ends, last), (levels, keys) = shared, mine
        # Padding lanes learn nothing, and their last episode is that of a lane beside them.
        horizons = jnp.where(alive, ends[-1], 0)
        meta_params = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (block_size, *leaf.shape)), meta_params
        )

        def advance(train_states, part):
            first, end, is_last = part
            train_states = run_updates(learner, meta_params, levels, horizons, keys, train_states, first, end)
            # The end has more episodes, below; one program trains all parts.
            returns = jax.lax.cond(
                is_last,
                lambda train_states: jnp.zeros(block_size),
                lambda train_states: evaluate_block(during, train_states, levels, keys),
                train_states,
            )
            return train_states, returns

        train_states = vmap_lanes(learner.begin)(keys, levels)
        train_states, curve = jax.lax.scan(advance, train_states, (starts, ends, last))
        return evaluate_block(at_end, train_states, levels, keys), curve[:-1].T

    # Lifetimes take equally long; what differs is the last episode.
    levels = tile_levels(levels, keys.shape[0])
    # As floats: a time limit may be the largest integer.
    limit = jnp.asarray(getattr(levels, "max_steps_in_episode", 0), jnp.float32)
    costs = jnp.broadcast_to(ends[-1].astype(jnp.float32) * learner.rollout_steps + limit, keys.shape)
    shared = (meta_params, starts, ends, last)
    return run_lanes(run_block, shared, (levels, keys), costs, block_size, mesh)


def tile_levels(levels: EnvParams, lanes: int) -> EnvParams:
    """One level per lane: lane i plays level i modulo their number."""
    number = jnp.arange(lanes) % count(levels)
    return jax.tree.map(lambda leaf: leaf[number], levels)


def check_ended(environment: str, *returns: Float[np.ndarray, "..."]) -> None:
    """Refuses returns of episodes that did not end.

    Raises:
        EvaluationError: there is one.
    """
    if any((values == UNFINISHED).any() for values in returns):
        raise EvaluationError(no_end(environment))


def lane_keys(seeds: Sequence[int], levels: int) -> Key[Array, " lanes"]:
    """A key per (seed, level), seeds first; see the module's text."""
    first = [jax.random.fold_in(jax.random.key(seed), LIFETIMES_FOLD) for seed in seeds]
    return jnp.concatenate([keys_of(key, levels) for key in first])


def default_block_size(config: AgentConfig) -> int:
    """Lanes that run side by side on a device unless told otherwise."""
    return min(LANES_PER_BLOCK, max(1, WORKERS_PER_BLOCK // config.workers))

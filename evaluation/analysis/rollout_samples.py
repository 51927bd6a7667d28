"""Samples of (r, A, n/N) from agents' updates, where a drift's error matters. `study` calls this."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.learning.lifetime import UPDATES, Learner, TrainState, vmap_lanes
from rl_discovery.discovery.objectives.base import Experience, TrainedObjective
from rl_discovery.discovery.objectives.gae import normalise
from rl_discovery.discovery.sharding import run_lanes
from rl_discovery.discovery.types import EnvParams, MetaParams, Progress
from rl_discovery.evaluation.analysis.lifetimes import Setting
from rl_discovery.evaluation.lanes import default_block_size, lane_keys

PER_UPDATE = 8
"""Steps of each rollout that are kept, drawn at random."""

KEEP = 3
"""What an update's key is folded with to draw them; the update itself uses 0 to 2."""


class RolloutSamples(NamedTuple):
    """Steps of agents' rollouts.

    Attributes:
        log_ratio: log pi/pi_old after the last minibatch of the update.
        advantage: normalised over the rollout.
        share: n/N.
        agent: number of the agent that met it.
    """

    log_ratio: Float[np.ndarray, " points"]
    advantage: Float[np.ndarray, " points"]
    share: Float[np.ndarray, " points"]
    agent: Int[np.ndarray, " points"]


def sample_rollouts(objective: TrainedObjective, setting: Setting) -> RolloutSamples:
    """Trains one agent per level and samples steps from each of its updates."""
    learner = setting.learner(objective)
    levels = setting.task.levels
    lanes = setting.task.count
    size = default_block_size(setting.agent(objective))

    def run_block(meta_params: MetaParams, mine: Any, alive: Bool[Array, " size"]) -> tuple[Array, Array]:
        levels, keys = mine
        return vmap_lanes(functools.partial(_sample_lifetime, learner, setting.horizon, meta_params))(
            keys, levels
        )

    @jax.jit
    def run(meta_params: MetaParams, per_lane: Any) -> tuple[Array, Array]:
        return run_lanes(run_block, meta_params, per_lane, jnp.ones(lanes), size, setting.mesh)

    recorded = run(objective.meta_params, (levels, lane_keys(range(1), lanes)))
    log_ratio, advantage = (np.asarray(x) for x in recorded)  # agents x updates x steps
    agent, update, _ = np.indices(log_ratio.shape)
    points = (log_ratio, advantage, update / setting.horizon, agent)
    return RolloutSamples(*(x.ravel() for x in points))


def _sample_lifetime(
    learner: Learner, horizon: int, meta_params: MetaParams, key: Key[Array, ""], level: EnvParams
) -> tuple[Float[Array, "updates steps"], Float[Array, "updates steps"]]:
    """log r and A of some steps of every update of a lifetime."""

    def update(train_state: TrainState, n: Int[Array, ""]) -> tuple[TrainState, tuple[Array, Array]]:
        progress = Progress(done=n, horizon=jnp.int32(horizon))
        update_key = jax.random.fold_in(jax.random.fold_in(key, UPDATES), n)
        new, _ = learner.update_with(meta_params, level, update_key, progress, train_state)
        return new, _sample_update(learner, meta_params, level, update_key, progress, train_state, new)

    return jax.lax.scan(update, learner.begin(key, level), jnp.arange(horizon))[1]


def _sample_update(
    learner: Learner,
    meta_params: MetaParams,
    level: EnvParams,
    key: Key[Array, ""],
    progress: Progress,
    old: TrainState,
    new: TrainState,
) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
    """The update's rollout once more (the same key makes the same), seen by the agent before and after it."""
    agent = learner.agent
    _, rollout = learner.collect(level, key, old)
    rollout, _ = agent.scaling.scale(old.agent.statistics, rollout)
    before, after = (agent.apply(train_state.agent.params, rollout.observation) for train_state in (old, new))
    experience = Experience(
        rollout=rollout,
        outputs=before,
        next_head=agent.apply(old.agent.params, rollout.next_observation).head,
        last_outputs=agent.apply(old.agent.params, rollout.last_observation),
    )
    targets = learner.objective.targets(meta_params, experience, progress)
    log_ratio = after.log_prob(rollout.action) - targets.log_prob
    kept = jax.random.choice(jax.random.fold_in(key, KEEP), log_ratio.size, (PER_UPDATE,), replace=False)
    return log_ratio.ravel()[kept], normalise(targets.advantage).ravel()[kept]

"""Agents that live across meta-steps, and the meta-gradient through their updates (LPG paper, section 3).

Every lane has its own agent and its own level. One meta-step trains each agent for K updates and collects
one more rollout, on which the meta-loss is computed. An agent at the end of its lifetime is evaluated, and a
new one starts in its lane. Lanes run in blocks; each device has a contiguous share of them.
"""

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.agents.policies import Categorical
from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.lifetime import UPDATES, Learner, TrainState
from rl_discovery.discovery.objectives.gae import normalise
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.sharding import AXIS, ordered_sum, replicated
from rl_discovery.discovery.types import EnvParams, MetaParams, Progress
from rl_discovery.meta.config import MetaGradientConfig
from rl_discovery.meta.curriculum import LevelBatch, Score
from rl_discovery.meta.results import LaneResults, evaluate_lane
from rl_discovery.meta.scale import choose

MAX_CHUNKS = 64
"""Partial sums of the meta-gradient. Their number fixes the order of additions for any number of devices."""


@struct.dataclass
class Population:
    """The agents of all lanes, every leaf with leading axis L. Checkpoints know the fields by these names.

    Attributes:
        lives: agents with their critics and workers; the only large part, spread over the devices.
        served: the level of each lane.
        done: n, updates done; N or more if the lifetime has ended.
        fitness: of the last finished agent of this lane; NaN before there is one.
    """

    lives: TrainState
    served: LevelBatch
    done: Int[Array, " L"]
    fitness: Float[Array, " L"]

    @property
    def idle(self) -> Bool[Array, " L"]:
        """Lanes whose agent has finished and needs a successor."""
        return self.done >= self.served.levels.horizon


class Terms(NamedTuple):
    """The meta-loss of a lane and its terms, not yet weighted."""

    loss: Float[Array, "*lanes"]
    policy_loss: Float[Array, "*lanes"]
    policy_entropy: Float[Array, "*lanes"]
    prediction_entropy: Float[Array, "*lanes"]
    pihat_square: Float[Array, "*lanes"]
    yhat_square: Float[Array, "*lanes"]
    critic_loss: Float[Array, "*lanes"]
    reward_per_step: Float[Array, "*lanes"]


class Advanced(NamedTuple):
    """Every lane after a meta-step.

    Attributes:
        train_states: agents, critics and workers.
        done: n.
        finished: whether the lifetime ended.
        results: evaluation of the finished agents; zeros elsewhere.
        sound: whether the meta-gradient of the lane is finite; the others are left out of the sum.
        updates: rollouts collected, that of the meta-loss included.
        terms: of the meta-loss.
    """

    train_states: TrainState
    done: Int[Array, " L"]
    finished: Bool[Array, " L"]
    results: LaneResults
    sound: Bool[Array, " L"]
    updates: Int[Array, " L"]
    terms: Terms


def meta_loss(
    learner: Learner,
    config: MetaGradientConfig,
    meta_params: MetaParams,
    level: EnvParams,
    key: Key[Array, ""],
    progress: Progress,
    train_state: TrainState,
) -> tuple[Float[Array, ""], tuple[TrainState, Terms]]:
    """The meta-loss of one agent after K updates with the objective (Oh et al. 2020, equations 4 and 5).

    It is the A2C loss of the updated agent on one fresh rollout, with advantages from the critic that learns
    beside it, minus `beta0 H(pi)`, minus `beta1 H(y)`, plus `beta2 mean(pihat^2)`, plus `beta3
    mean(|yhat|^2)`; entropies on the fresh rollout, squares over the K updates. The backward pass recomputes
    the updates, so that memory holds K agents but one rollout.

    Args:
        learner: the static side, with a critic.
        config: K and the weights.
        meta_params: differentiated with respect to.
        level: the level played.
        key: of this lane and meta-step; all of its randomness, whatever n is.
        progress: n before the first of the K updates, and N. Updates from N on change nothing.
        train_state: agent, critic and workers.

    Returns:
        The loss; the train state after the updates and the fresh rollout, and the terms of the loss.
    """
    learner = dataclasses.replace(learner, keeps_outputs=False)
    assert learner.critic is not None, "meta-gradients need a critic"

    # 1. K updates of the agent with the objective.
    @jax.checkpoint
    def update(train_state: TrainState, k: Int[Array, ""]) -> tuple[TrainState, tuple[Array, Array, Array]]:
        now = Progress(done=progress.done + k, horizon=progress.horizon)
        key_now, alive = _update_key(key, k), now.done < now.horizon
        new, metrics = learner.update_with(meta_params, level, key_now, now, train_state, alive)
        return new, (alive, metrics["pihat_square"], metrics["yhat_square"])

    train_state, (alive, pihat_square, yhat_square) = jax.lax.scan(
        update, train_state, jnp.arange(config.updates)
    )
    pihat_square, yhat_square = (
        jnp.sum(jnp.where(alive, square, 0.0)) / jnp.sum(alive) for square in (pihat_square, yhat_square)
    )
    # 2. A fresh rollout of the updated agent.
    workers, rollout = learner.collect(level, _update_key(key, config.updates), train_state)
    rollout, _ = learner.agent.scaling.scale(train_state.agent.statistics, rollout)
    outputs = learner.agent.apply(train_state.agent.params, rollout.observation)
    critic, objective = cast(Any, train_state.critic), cast(LPG, learner.objective)
    # 3. A2C's policy loss on it, and the regularisers.
    advantage = jax.lax.stop_gradient(normalise(learner.critic.assess(critic.params, rollout).advantages))
    policy_loss = -jnp.mean(outputs.log_prob(rollout.action) * advantage)
    policy_entropy = jnp.mean(outputs.entropy())
    prediction = outputs.head[..., : objective.bins]
    prediction_entropy = jnp.mean(Categorical(objective.bins).entropy(prediction))
    loss = (
        policy_loss
        - config.policy_entropy_coef * policy_entropy
        - config.prediction_entropy_coef * prediction_entropy
        + config.pihat_coef * pihat_square
        + config.yhat_coef * yhat_square
    )
    terms = Terms(
        loss=loss,
        policy_loss=policy_loss,
        policy_entropy=policy_entropy,
        prediction_entropy=prediction_entropy,
        pihat_square=pihat_square,
        yhat_square=yhat_square,
        critic_loss=learner.critic.loss(critic.params, rollout),
        reward_per_step=jnp.mean(rollout.reward),
    )
    return loss, (dataclasses.replace(train_state, workers=workers), terms)


def _update_key(key: Key[Array, ""], k: int | Int[Array, ""]) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, UPDATES), k)


@dataclasses.dataclass(frozen=True)
class LivingLanes:
    """The static side of a population.

    Attributes:
        learner: environment, agent, objective and critic.
        score: what the curriculum computes of each finished lifetime.
        config: of the meta-gradient.
        block_size: lanes that one device runs together.
        mesh: the devices; their number divides `chunks`.
    """

    learner: Learner
    score: Score
    config: MetaGradientConfig
    block_size: int
    mesh: Mesh

    @property
    def chunks(self) -> int:
        """Partial sums of the meta-gradient."""
        return chunks(self.config.lanes, self.block_size)

    def init(self, level_batch: LevelBatch) -> Population:
        """A population in which all lifetimes have ended: the first meta-step starts new agents."""
        level = jax.tree.map(lambda leaf: leaf[0], level_batch.levels.params)
        like = jax.eval_shape(self.learner.begin, jax.random.key(0), level)
        count = self.config.lanes
        train_states = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), like)
        return Population(
            lives=train_states,
            served=level_batch,
            done=jnp.zeros(count, jnp.int32),
            fitness=jnp.full(count, jnp.nan),
        )

    def advance(
        self,
        meta_params: MetaParams,
        population: Population,
        begin_key: Key[Array, ""],
        lane_key: Key[Array, ""],
    ) -> tuple[Float[Array, " D"], Advanced]:
        """One meta-step of every lane.

        Args:
            meta_params: of the objective.
            population: with a level for every lane; new agents replace those of idle lanes.
            begin_key: of the new agents.
            lane_key: of everything else.

        Returns:
            Sum of the finite meta-gradients over lanes, as a flat vector, and the lanes afterwards.
        """
        lanes = {
            "train_states": population.lives,
            "level_batch": population.served,
            "done": population.done,
            "idle": population.idle,
            "begin_key": keys_of(begin_key, self.config.lanes),
            "key": keys_of(lane_key, self.config.lanes),
        }
        everywhere, by_lane = PartitionSpec(), PartitionSpec(AXIS)
        sums, advanced = jax.shard_map(
            self._on_device,
            mesh=self.mesh,
            in_specs=(everywhere, by_lane),
            out_specs=by_lane,
            check_vma=False,
        )(meta_params, lanes)
        # Everything but the agents is small: replicate it, so that all devices go on with the same numbers.
        train_states, *small = advanced
        small = jax.lax.with_sharding_constraint(small, replicated(self.mesh))
        return ordered_sum(sums, self.mesh), Advanced(train_states, *small)

    def _on_device(
        self, meta_params: MetaParams, lanes: dict[str, Any]
    ) -> tuple[Float[Array, "chunks D"], Advanced]:
        """The lanes of one device, block by block; meta-gradients are summed by chunk."""
        size = self.block_size
        blocks_per_chunk = self.config.lanes // (size * self.chunks)
        first = jax.tree.map(lambda leaf: leaf[:size], lanes)
        shapes = jax.eval_shape(self._block, meta_params, first)[1]
        local = lanes["done"].size
        everything = jax.tree.map(lambda s: jnp.zeros((local, *s.shape[1:]), s.dtype), shapes)
        sums = jnp.zeros((self.chunks // self.mesh.size, ravel_pytree(meta_params)[0].size))

        def run(i: Int[Array, ""], carry: tuple[Array, Advanced]) -> tuple[Array, Advanced]:
            sums, everything = carry
            block = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, i * size, size), lanes)
            gradient, advanced = self._block(meta_params, block)
            put = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=i * size, axis=0)
            return sums.at[i // blocks_per_chunk].add(gradient), jax.tree.map(put, everything, advanced)

        return jax.lax.fori_loop(0, local // size, run, (sums, everything))

    def _block(self, meta_params: MetaParams, lanes: dict[str, Any]) -> tuple[Float[Array, " D"], Advanced]:
        """One meta-step of the lanes of a block, and the sum of their finite meta-gradients."""
        level_batch, idle = lanes["level_batch"], lanes["idle"]
        level, horizon = level_batch.levels.params, level_batch.levels.horizon
        # 1. New agents in idle lanes.
        train_states = jax.lax.cond(
            jnp.any(idle),
            lambda: choose(
                idle, jax.vmap(self.learner.begin)(lanes["begin_key"], level), lanes["train_states"]
            ),
            lambda: lanes["train_states"],
        )
        progress = Progress(done=jnp.where(idle, 0, lanes["done"]), horizon=horizon)
        # 2. The meta-gradient of every lane; their sum leaves out what is not finite.
        loss = functools.partial(meta_loss, self.learner, self.config)
        gradient = jax.vmap(jax.grad(loss, has_aux=True), in_axes=(None, 0, 0, 0, 0))
        gradients, (train_states, terms) = gradient(meta_params, level, lanes["key"], progress, train_states)
        flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])(gradients)
        sound = jnp.all(jnp.isfinite(flat), axis=1)
        total = jnp.sum(jnp.where(sound[:, None], flat, 0.0), axis=0)
        # 3. Evaluate agents whose lifetime ends. An agent with NaN parameters cannot learn and ends, too.
        done = jnp.where(sound, jnp.minimum(progress.done + self.config.updates, horizon), horizon)
        finished = done >= horizon
        evaluate = functools.partial(
            jax.vmap(functools.partial(evaluate_lane, self.learner, self.score)),
            *(level, lanes["key"], train_states, level_batch.reference_return, level_batch.best_return),
            scale=level_batch.scale,
        )
        shapes = jax.eval_shape(evaluate)
        results = jax.lax.cond(
            jnp.any(finished),
            evaluate,
            lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes),
        )
        results = jax.tree.map(lambda result: jnp.where(finished, result, 0.0), results)
        # An agent that could not live as long as an antagonist says nothing about its level.
        results = dataclasses.replace(results, score=jnp.where(sound, results.score, jnp.nan))
        return total, Advanced(
            train_states=train_states,
            done=done,
            finished=finished,
            results=results,
            sound=sound,
            updates=1 + jnp.minimum(self.config.updates, horizon - progress.done),
            terms=terms,
        )


def chunks(lanes: int, block_size: int) -> int:
    """Number of partial sums over lanes: the largest that blocks can be split into evenly.

    Raises:
        ValueError: lanes cannot be split into blocks.
    """
    if lanes % block_size:
        raise ValueError(f"block_size ({block_size}) must divide meta_gradient.lanes ({lanes})")
    blocks = lanes // block_size
    return max(c for c in range(1, min(blocks, MAX_CHUNKS) + 1) if blocks % c == 0)


def usable_devices(chunks: int, available: int, processes: int = 1) -> int:
    """The most devices that chunks can be split over evenly, as many of each process.

    Raises:
        ValueError: more processes than chunks can be split over.
    """
    counts = [d for d in range(processes, min(chunks, available) + 1, processes) if chunks % d == 0]
    if not counts:
        raise ValueError(
            f"{chunks} pieces of lanes cannot be dealt evenly to {processes} processes: "
            f"use a divisor of {chunks}"
        )
    return max(counts)

"""Prioritised level replay, the curriculum of GROOVE (Jackson et al. 2023, arXiv 2310.02782).

Played levels stay in a buffer with a score. Each level served is, with some probability, one from the
buffer, drawn by score and staleness; otherwise it is new. New levels are sampled or, as in ACCEL
(Parker-Holder et al. 2022, arXiv 2203.01302), edited copies of levels in the buffer.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.discovery.keys import keys_of
from rl_discovery.envs.levels import Level, LevelDistribution
from rl_discovery.meta.config import CurriculumConfig
from rl_discovery.meta.curriculum import buffer as levels_buffer
from rl_discovery.meta.curriculum.base import LevelBatch, Metrics, Played, masked_mean
from rl_discovery.meta.curriculum.buffer import LevelBuffer
from rl_discovery.meta.curriculum.fresh import level_metrics
from rl_discovery.meta.curriculum.scores import Score
from rl_discovery.meta.scale import Planner, choose

REPLAY, SLOTS, NEW, EDITS = range(4)
"""What the key of a generation's levels is folded with."""


@dataclasses.dataclass(frozen=True)
class Replay:
    """Replays levels by score.

    Attributes:
        distribution: source of new levels and of edits.
        score: what levels are ranked by.
        config: buffer size, probabilities, prioritisation.
        planner: computes the levels' scales; None if neither fitness nor score reads them.
    """

    distribution: LevelDistribution
    score: Score
    config: CurriculumConfig
    planner: Planner | None = None

    def init(self) -> LevelBuffer:
        """An empty buffer."""
        example = jax.eval_shape(self.distribution.sample, jax.random.key(0))
        return levels_buffer.empty(example, self.config.buffer_size, scaled=self.planner is not None)

    def serve(
        self, state: LevelBuffer, key: Key[Array, ""], generation: Int[Array, ""], wanted: Bool[Array, " C"]
    ) -> tuple[LevelBuffer, LevelBatch]:
        """Levels from the buffer with probability `replay_probability`, if it has enough; else new ones."""
        replay_key, slot_key, new_key, edit_key = (
            jax.random.fold_in(key, use) for use in (REPLAY, SLOTS, NEW, EDITS)
        )
        count = wanted.size
        # 1. Draw slots of the buffer by score and staleness.
        probabilities = levels_buffer.replay_probabilities(state, generation, self.config)
        drawn, valid = levels_buffer.sample(probabilities, slot_key, count)
        # 2. A coin per level: replay or new. The i-th replayed level is the i-th that was drawn.
        coins = jax.random.bernoulli(replay_key, self.config.replay_probability, (count,)) & wanted
        coins &= self._holds_enough(state)
        draw = jnp.maximum(jnp.cumsum(coins) - 1, 0)
        replayed = coins & valid[draw]
        slots = jnp.where(replayed, drawn[draw], 0)
        # 3. New levels: sampled or edited, and planned where their scale is read.
        new_keys = keys_of(new_key, count)
        new, scale = self._new(state, probabilities, new_keys, edit_key), None
        if self.planner is not None:
            new, scale = self.planner.complete(new, new_keys, wanted & ~replayed)
            scale = choose(replayed, jax.tree.map(lambda leaf: leaf[slots], state.scale), scale)
        level_batch = LevelBatch(
            levels=choose(replayed, jax.tree.map(lambda leaf: leaf[slots], state.levels), new),
            slots=slots,
            replayed=replayed,
            reference_return=jnp.where(replayed, state.reference_return[slots], 0.0),
            best_return=jnp.where(replayed, state.best_return[slots], -jnp.inf),
            scale=scale,
        )
        return levels_buffer.activate(state, slots, replayed, generation), level_batch

    def _new(
        self,
        state: LevelBuffer,
        probabilities: Float[Array, " B"],
        new_keys: Key[Array, " C"],
        edit_key: Key[Array, ""],
    ) -> Level:
        sampled = jax.vmap(self.distribution.sample)(new_keys)
        if self.config.edit_probability == 0:
            return sampled

        def edit(key: Key[Array, ""]) -> tuple[Level, Bool[Array, ""]]:
            coin_key, parent_key, change_key = jax.random.split(key, 3)
            parent = jax.random.categorical(parent_key, jnp.log(probabilities))
            level = jax.tree.map(lambda leaf: leaf[parent], state.levels)
            for i in range(self.config.edits):
                level = self.distribution.edited(jax.random.fold_in(change_key, i), level)
            return level, jax.random.bernoulli(coin_key, self.config.edit_probability)

        edited, chosen = jax.vmap(edit)(keys_of(edit_key, new_keys.size))
        # With meta-gradients most levels may be active; editing needs one that is not.
        possible = self._holds_enough(state) & jnp.any(state.filled & ~state.active)
        return choose(chosen & possible, edited, sampled)

    def _holds_enough(self, state: LevelBuffer) -> Bool[Array, ""]:
        return jnp.sum(state.filled) >= self.config.levels_before_replay

    def record(
        self,
        state: LevelBuffer,
        level_batch: LevelBatch,
        played: Played,
        finished: Bool[Array, " C"],
        generation: Int[Array, ""],
    ) -> LevelBuffer:
        """Refreshes the scores of replayed levels, and inserts new levels, which may evict others."""
        measures = {
            "score": played.score,
            "agent_return": played.agent_return,
            "best_return": played.best_return,
        }
        state = levels_buffer.refresh(state, level_batch.slots, finished & level_batch.replayed, **measures)
        return levels_buffer.insert(
            state,
            level_batch.levels,
            finished & ~level_batch.replayed,
            generation,
            reference_return=level_batch.reference_return,
            scale=level_batch.scale,
            **measures,
        )

    def metrics(
        self,
        state: LevelBuffer,
        level_batch: LevelBatch,
        played: Played,
        finished: Bool[Array, " C"],
        generation: Int[Array, ""],
    ) -> Metrics:
        """Replay fraction, regret and scores of new and replayed levels, the buffer, level statistics."""
        new, again = finished & ~level_batch.replayed, finished & level_batch.replayed
        age = (generation - state.inserted).astype(jnp.float32)
        highest = jnp.max(state.score, initial=-jnp.inf, where=state.filled)
        metrics = {
            "replay_fraction": masked_mean(level_batch.replayed.astype(jnp.float32), finished),
            "score_fresh": masked_mean(played.score, new),
            "score_replayed": masked_mean(played.score, again),
            "buffer_filled": jnp.sum(state.filled),
            "buffer_age": masked_mean(age, state.filled),
            "buffer_score_mean": masked_mean(state.score, state.filled),
            "buffer_score_max": jnp.where(jnp.any(state.filled), highest, jnp.nan),
        }
        metrics |= self._regret(level_batch, played, finished)
        for mask, prefix in ((finished, "level"), (again, "replayed_level")):
            metrics |= level_metrics(self.distribution, level_batch.levels, mask, prefix)
        return metrics

    def _regret(self, level_batch: LevelBatch, played: Played, finished: Bool[Array, " C"]) -> Metrics:
        # Antagonist's return minus the agents'; NaN without an antagonist.
        regret = level_batch.reference_return - played.agent_return
        if self.score.reference != "antagonist":
            regret = jnp.full_like(regret, jnp.nan)
        masks = {
            "mean": finished,
            "fresh": finished & ~level_batch.replayed,
            "replayed": finished & level_batch.replayed,
        }
        return {f"regret_{name}": masked_mean(regret, mask) for name, mask in masks.items()}

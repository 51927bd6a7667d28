"""The level buffer of Prioritized Level Replay (Jiang et al. 2021, arXiv 2010.03934), as in GROOVE.

Pure functions from buffer to buffer, fit for `jit`. `replay_probabilities` and `sample` choose the levels to
replay; `insert` takes in new levels and evicts others. `scores` defines the scores, and the replay
curriculum calls all this.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from rl_discovery.envs.levels import Level
from rl_discovery.meta.config import Prioritisation
from rl_discovery.meta.scale import Scale


@struct.dataclass
class LevelBuffer:
    """B slots for levels; an empty slot holds zeros.

    Attributes:
        levels: one level per slot, of any environment family.
        fingerprints: hash of each level's content, see `fingerprint`.
        score: how much there is to learn on the level; always finite.
        reference_return: what the score compares with (antagonist's return or optimum), computed once per
            level.
        agent_return: return of the agents when the level was last played.
        best_return: highest return of an episode on the level so far.
        inserted: generation in which the level came in.
        played: generation in which it was last served.
        plays: 0 for an empty slot, 1 for a new level, more for a replayed one.
        active: being played; not to be served or evicted.
        scale: exact returns of the best and the random policy; None if unused.
    """

    levels: Level
    fingerprints: UInt32[Array, "B 2"]
    score: Float[Array, " B"]
    reference_return: Float[Array, " B"]
    agent_return: Float[Array, " B"]
    best_return: Float[Array, " B"]
    inserted: Int[Array, " B"]
    played: Int[Array, " B"]
    plays: Int[Array, " B"]
    active: Bool[Array, " B"]
    scale: Scale | None = None

    @property
    def filled(self) -> Bool[Array, " B"]:
        """Slots that hold a level."""
        return self.plays > 0

    @property
    def fresh(self) -> Bool[Array, " B"]:
        """Levels that were never replayed."""
        return self.plays == 1

    @property
    def seen(self) -> Bool[Array, " B"]:
        """Levels that were replayed."""
        return self.plays > 1


def empty(level_like: Level, size: int, *, scaled: bool = False) -> LevelBuffer:
    """A buffer without levels.

    Args:
        level_like: one level, or the shapes and types of one from `jax.eval_shape`.
        size: B, number of slots.
        scaled: whether it keeps the levels' scales.

    Raises:
        ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"a level buffer needs at least one slot, not {size}")
    shapes = jax.eval_shape(lambda level: level, level_like)
    numbers, counts = jnp.zeros(size, jnp.float32), jnp.zeros(size, jnp.int32)
    return LevelBuffer(
        levels=jax.tree.map(lambda leaf: jnp.zeros((size, *leaf.shape), leaf.dtype), shapes),
        fingerprints=jnp.zeros((size, 2), jnp.uint32),
        score=numbers,
        reference_return=numbers,
        agent_return=numbers,
        best_return=numbers,
        inserted=counts,
        played=counts,
        plays=counts,
        active=jnp.zeros(size, jnp.bool_),
        scale=Scale.unknown(size) if scaled else None,
    )


def fingerprint(level: Level) -> UInt32[Array, "2"]:
    """A 64-bit hash of a level's content, to find duplicates.

    Every 32-bit word is combined with a constant of its position and mixed by the finaliser of MurmurHash3;
    the sum over words is mixed again, in two streams with different constants. Levels that differ in one
    word never collide. Others collide with a probability of about 2^-64: one in 37 million for any two of a
    million levels.

    Args:
        level: one level; use `vmap` for a batch.

    Returns:
        Two words. 0.0 and -0.0 count as equal.
    """
    words = jnp.concatenate([_words(jnp.asarray(leaf)) for leaf in jax.tree.leaves(level)])
    positions = jnp.arange(words.size, dtype=jnp.uint32)
    # The golden ratio spreads positions over all bits; the seeds of the streams are digits of pi.
    constants = (_mix(positions * jnp.uint32(0x9E3779B9) + jnp.uint32(s)) for s in (0x243F6A88, 0x85A308D3))
    return jnp.stack([_mix(jnp.sum(_mix(words ^ c), dtype=jnp.uint32)) for c in constants])


def _words(leaf: Array) -> UInt32[Array, " words"]:
    flat = leaf.ravel()
    if jnp.issubdtype(flat.dtype, jnp.floating):
        flat = flat.astype(jnp.promote_types(flat.dtype, jnp.float32))
        # 0.0 and -0.0 are equal, but have different bits.
        flat = jnp.where(flat == 0, jnp.zeros_like(flat), flat)
        return jax.lax.bitcast_convert_type(flat, jnp.uint32).ravel()
    if flat.dtype.itemsize > 4:
        return jax.lax.bitcast_convert_type(flat, jnp.uint32).ravel()
    return flat.astype(jnp.uint32)


def _mix(word: UInt32[Array, "*words"]) -> UInt32[Array, "*words"]:
    """The finaliser of MurmurHash3, a bijection."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def replay_probabilities(
    buffer: LevelBuffer, generation: Int[Array, ""], settings: Prioritisation
) -> Float[Array, " B"]:
    """The distribution over slots from which the next level to replay is drawn (PLR paper).

        P = (1 - w) P_score + w P_staleness,   P_score ~ rank^(-1/T) or score^(1/T)

    Rank 1 is the highest score; ties are ordered by slot. It is computed from logarithms, so that neither
    large scores nor low temperatures overflow; a weight may underflow to 0.

    Args:
        buffer: the levels.
        generation: now, from which staleness counts.
        settings: prioritisation, temperature T and staleness weight w.

    Returns:
        Probabilities, 0 for empty and active slots; all zeros if no other slot is filled. P_score or
        P_staleness is uniform where all its weights are 0.
    """
    eligible = buffer.filled & ~buffer.active
    if settings.prioritisation == "rank":
        order = jnp.argsort(jnp.where(eligible, -buffer.score, jnp.inf), stable=True)
        ranks = jnp.zeros_like(buffer.score).at[order].set(jnp.arange(1.0, order.size + 1))
        log_weights = -jnp.log(ranks)
    else:
        log_weights = jnp.log(jnp.maximum(buffer.score, 0.0))
    staleness = jnp.maximum(generation - buffer.played, 0).astype(jnp.float32)
    by_score = _distribution(log_weights, settings.temperature, eligible)
    by_staleness = _distribution(jnp.log(staleness), 1.0, eligible)
    return (1 - settings.staleness_weight) * by_score + settings.staleness_weight * by_staleness


def _distribution(
    log_weights: Float[Array, " B"], temperature: float, eligible: Bool[Array, " B"]
) -> Float[Array, " B"]:
    """Probabilities of eligible slots, proportional to `weight^(1 / temperature)`; uniform if all weights
    are 0.
    """
    highest = jnp.max(log_weights, initial=-jnp.inf, where=eligible)
    relative = jnp.where(jnp.isfinite(highest), (log_weights - highest) / temperature, 0.0)
    weights = jnp.where(eligible, jnp.exp(relative), 0.0)
    # The highest weight is exp(0) = 1, so the sum is below 1 only if nothing is eligible.
    return weights / jnp.maximum(jnp.sum(weights), 1.0)


def sample(
    probabilities: Float[Array, " B"], key: Key[Array, ""], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Draws slots without replacement.

    The top k of log-probabilities plus Gumbel noise are such a sample, in order (Kool et al. 2019, arXiv
    1903.06059); the first of them has the distribution `probabilities`.

    Args:
        probabilities: of every slot; those with 0 are never drawn.
        key: of the noise.
        count: how many to draw.

    Returns:
        The slots, and whether each was drawn: False (and slot 0) at the end if fewer than `count` slots
        have a positive probability.
    """
    noise = jax.random.gumbel(key, probabilities.shape, probabilities.dtype)
    # `top_k` cannot return more slots than there are: pad with slots that are never drawn.
    missing = max(0, count - probabilities.size)
    perturbed = jnp.pad(jnp.log(probabilities) + noise, (0, missing), constant_values=-jnp.inf)
    highest, slots = jax.lax.top_k(perturbed, count)
    valid = highest > -jnp.inf
    return jnp.where(valid, slots, 0).astype(jnp.int32), valid


def activate(
    buffer: LevelBuffer, slots: Int[Array, " C"], mask: Bool[Array, " C"], generation: Int[Array, ""]
) -> LevelBuffer:
    """Marks levels as active from this generation on.

    Args:
        buffer: the levels.
        slots: filled slots, where `mask`.
        mask: which of `slots` are meant.
        generation: now.
    """
    slots = _masked(buffer, slots, mask)
    return dataclasses.replace(
        buffer,
        active=buffer.active.at[slots].set(True, mode="drop"),
        played=buffer.played.at[slots].set(generation, mode="drop"),
    )


def refresh(
    buffer: LevelBuffer,
    slots: Int[Array, " C"],
    mask: Bool[Array, " C"],
    *,
    score: Float[Array, " C"],
    agent_return: Float[Array, " C"],
    best_return: Float[Array, " C"],
) -> LevelBuffer:
    """Records the results of replayed levels, which are no longer active.

    Args:
        buffer: the levels.
        slots: filled slots without repetition, where `mask`.
        mask: which of `slots` are meant.
        score: the new score. If it is not finite, only the play is counted.
        agent_return: return of the agents in this play.
        best_return: highest return of an episode in this play.
    """
    played, scored = _masked(buffer, slots, mask), _masked(buffer, slots, mask & jnp.isfinite(score))
    # fmax ignores NaN.
    best = jnp.fmax(buffer.best_return[slots], best_return)
    return dataclasses.replace(
        buffer,
        score=buffer.score.at[scored].set(score, mode="drop"),
        agent_return=buffer.agent_return.at[scored].set(agent_return, mode="drop"),
        best_return=buffer.best_return.at[scored].set(best, mode="drop"),
        plays=buffer.plays.at[played].add(1, mode="drop"),
        active=buffer.active.at[played].set(False, mode="drop"),
    )


def insert(
    buffer: LevelBuffer,
    levels: Level,
    mask: Bool[Array, " C"],
    generation: Int[Array, ""],
    *,
    score: Float[Array, " C"],
    reference_return: Float[Array, " C"],
    agent_return: Float[Array, " C"],
    best_return: Float[Array, " C"],
    scale: Scale | None = None,
) -> LevelBuffer:
    """Inserts levels that were played for the first time, and evicts those with the lowest scores.

    Candidates without a finite score are dropped, and so are duplicates of a level in the buffer (active and
    just evicted ones included) or of an earlier candidate. The others come in from the highest score down:
    into an empty slot if there is one, else in place of the lowest score among the slots that are not
    active, if that is strictly lower. Ties are ordered by slot and by place in the batch.

    Args:
        buffer: the levels.
        levels: C candidates.
        mask: which candidates are meant.
        generation: now.
        score: of the candidates, as are the following.
        reference_return: what the score compares with.
        agent_return: return of the agents.
        best_return: highest return of an episode.
        scale: exact returns, if the buffer keeps them.
    """
    # 1. Drop candidates without a score, and duplicates.
    fingerprints = jax.vmap(fingerprint)(levels)
    wanted = mask & jnp.isfinite(score) & ~_in_buffer(buffer, fingerprints)
    wanted &= ~_repeats_earlier(fingerprints, wanted)
    # 2. Evict: the i-th best candidate takes the i-th weakest slot if its score is higher. Empty slots are
    # the weakest, active ones are never taken. The result is that of inserting one by one from the best down,
    # because no candidate evicts a better one that came in before it.
    bids = jnp.where(wanted, score, -jnp.inf)
    prices = jnp.where(buffer.active, jnp.inf, jnp.where(buffer.filled, buffer.score, -jnp.inf))
    rounds = min(bids.size, prices.size)
    best = jnp.argsort(-bids, stable=True)[:rounds]
    slots = jnp.argsort(prices, stable=True)[:rounds]
    slots = _masked(buffer, slots, bids[best] > prices[slots])
    # 3. Write the candidates into their slots.
    now = jnp.full(mask.shape, generation, jnp.int32)
    arrivals = LevelBuffer(
        levels=levels,
        fingerprints=fingerprints,
        score=score,
        reference_return=reference_return,
        agent_return=agent_return,
        best_return=best_return,
        inserted=now,
        played=now,
        plays=jnp.ones_like(now),
        active=jnp.zeros_like(mask),
        scale=scale,
    )
    return jax.tree.map(lambda old, new: old.at[slots].set(new[best], mode="drop"), buffer, arrivals)


def _masked(buffer: LevelBuffer, slots: Int[Array, " C"], mask: Bool[Array, " C"]) -> Int[Array, " C"]:
    # Slots beyond the end are ignored by `mode="drop"`.
    return jnp.where(mask, slots, buffer.score.size)


def _in_buffer(buffer: LevelBuffer, fingerprints: UInt32[Array, "C 2"]) -> Bool[Array, " C"]:
    first, second = (fingerprints[:, None, i] == buffer.fingerprints[None, :, i] for i in range(2))
    return jnp.any(first & second & buffer.filled, axis=1)


def _repeats_earlier(fingerprints: UInt32[Array, "C 2"], wanted: Bool[Array, " C"]) -> Bool[Array, " C"]:
    same = jnp.all(fingerprints[:, None] == fingerprints[None, :], axis=2)
    return jnp.any(jnp.tril(same, -1) & wanted[None, :], axis=1)

"""The level buffer of Prioritized Level Replay (Jiang et al. 2021, arXiv 2010.03934), as GROOVE uses it.

Pure functions from buffer to buffer, fit for `jit`: levels that were played compete for a fixed number
of slots by their scores, and replayed ones are drawn by score and staleness. The replay curriculum
calls them; what a score is, is in `scores`.
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
    """B slots for levels and what is known of them. An empty slot holds zeros.

    Attributes:
        levels: one level per slot, of any environment family.
        fingerprints: hash of each level's content, see `fingerprint`.
        score: how much there is to learn on the level; always finite.
        reference_return: what the score compares with (the antagonist's return or the optimum); it
            belongs to the level and stays as long as the level does.
        agent_return: of the objective's agents, when the level was last played.
        best_return: highest return of an episode on the level so far.
        inserted: generation that brought the level in.
        played: generation that last served it.
        plays: how often it was played. 0: the slot is empty; 1: fresh, scored but never replayed.
        active: somebody plays it right now; it is neither served nor evicted.
        scale: exact returns of the best and of the random policy; None where nobody reads them.
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
        """Levels that were played once and not replayed yet."""
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
        scaled: whether levels are kept with their scales.

    Returns:
        The buffer.

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
    """A 64-bit hash of a level's content, by which duplicates are found.

    Every 32-bit word of the level is combined with a constant of its position and put through the
    finaliser of MurmurHash3; the sum over words is finalised again, in two streams with constants of
    their own. Levels that differ in one word never collide. For others the chance is about 2^-64 a
    pair: one in 37 million that any two of a million levels collide.

    Args:
        level: one level; `vmap` for a batch of them.

    Returns:
        Two words, the same for equal levels; 0.0 and -0.0 are equal.
    """
    words = jnp.concatenate([_words(jnp.asarray(leaf)) for leaf in jax.tree.leaves(level)])
    positions = jnp.arange(words.size, dtype=jnp.uint32)
    # The golden ratio spreads positions over all bits; the seeds of the streams are digits of pi.
    constants = (_mix(positions * jnp.uint32(0x9E3779B9) + jnp.uint32(s)) for s in (0x243F6A88, 0x85A308D3))
    return jnp.stack([_mix(jnp.sum(_mix(words ^ c), dtype=jnp.uint32)) for c in constants])


def _words(leaf: Array) -> UInt32[Array, " words"]:
    """The content of an array of numbers as 32-bit words; two for each 64-bit number."""
    flat = leaf.ravel()
    if jnp.issubdtype(flat.dtype, jnp.floating):
        flat = flat.astype(jnp.promote_types(flat.dtype, jnp.float32))
        # 0.0 and -0.0 are one number with two sets of bits.
        flat = jnp.where(flat == 0, jnp.zeros_like(flat), flat)
        return jax.lax.bitcast_convert_type(flat, jnp.uint32).ravel()
    if flat.dtype.itemsize > 4:
        return jax.lax.bitcast_convert_type(flat, jnp.uint32).ravel()
    return flat.astype(jnp.uint32)


def _mix(word: UInt32[Array, "*words"]) -> UInt32[Array, "*words"]:
    """The finaliser of MurmurHash3: one to one, and every bit depends on every other."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def replay_probabilities(
    buffer: LevelBuffer, generation: Int[Array, ""], settings: Prioritisation
) -> Float[Array, " B"]:
    """How likely each slot is the next to be replayed (PLR paper).

        P = (1 - w) P_score + w P_staleness,   P_score ~ rank^(-1/T) or score^(1/T)

    Rank 1 is the highest score, ties go by slot. Computed from logarithms, so that neither large
    scores nor low temperatures overflow; a weight that underflows is 0, though.

    Args:
        buffer: the levels.
        generation: now, which staleness counts from.
        settings: prioritisation, temperature T and staleness weight w.

    Returns:
        A distribution over the slots that are filled and not active, 0 for the others; all zeros where
        there is none. A part whose weights are all 0 is uniform.
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
    """Probabilities of the eligible, proportional to `weight^(1 / temperature)`; uniform if all are 0."""
    highest = jnp.max(log_weights, initial=-jnp.inf, where=eligible)
    relative = jnp.where(jnp.isfinite(highest), (log_weights - highest) / temperature, 0.0)
    weights = jnp.where(eligible, jnp.exp(relative), 0.0)
    # The highest is exp(0), so that the sum is below 1 only where nothing is eligible.
    return weights / jnp.maximum(jnp.sum(weights), 1.0)


def sample(
    probabilities: Float[Array, " B"], key: Key[Array, ""], count: int
) -> tuple[Int[Array, " count"], Bool[Array, " count"]]:
    """Draws slots without replacement: one after the other, each from what is left.

    The highest of log-probabilities with Gumbel noise are such a sample, in order (Kool et al. 2019,
    arXiv 1903.06059); the first has exactly the distribution `probabilities`.

    Args:
        probabilities: of every slot; those with 0 are never drawn.
        key: of the noise.
        count: how many to draw.

    Returns:
        The slots, and whether each was drawn: False (and slot 0) at the end, where fewer than `count`
        had a positive probability.
    """
    noise = jax.random.gumbel(key, probabilities.shape, probabilities.dtype)
    # `top_k` cannot return more slots than there are: missing ones are added, none of them drawn.
    missing = max(0, count - probabilities.size)
    perturbed = jnp.pad(jnp.log(probabilities) + noise, (0, missing), constant_values=-jnp.inf)
    highest, slots = jax.lax.top_k(perturbed, count)
    valid = highest > -jnp.inf
    return jnp.where(valid, slots, 0).astype(jnp.int32), valid


def activate(
    buffer: LevelBuffer, slots: Int[Array, " C"], mask: Bool[Array, " C"], generation: Int[Array, ""]
) -> LevelBuffer:
    """Marks levels as being played from now on.

    Args:
        buffer: the levels.
        slots: filled ones, where `mask`.
        mask: which of `slots` are meant.
        generation: now.

    Returns:
        The buffer after that.
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
    """Records how levels went that were replayed, and releases them.

    Args:
        buffer: the levels.
        slots: filled ones without repetition, where `mask`.
        mask: which of `slots` are meant.
        score: the new score. Where it is not finite the play counts, but nothing else of it.
        agent_return: of the objective's agents, in this play.
        best_return: highest return of an episode in this play.

    Returns:
        The buffer after that.
    """
    played, scored = _masked(buffer, slots, mask), _masked(buffer, slots, mask & jnp.isfinite(score))
    # fmax: a best return that is not a number never replaces one.
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
    """Lets levels that were played for the first time compete for the slots.

    Dropped are candidates without a finite score, and duplicates of a level in the buffer (active and
    just evicted ones included) or of an earlier candidate. The others come in from the highest score
    down: into an empty slot as long as there is one, then in place of the lowest score among the slots
    that are not active, if that is strictly lower. Ties go by slot and by order in the batch.

    Args:
        buffer: the levels.
        levels: C candidates, batched.
        mask: which candidates are meant.
        generation: now.
        score: of the candidates, as the following.
        reference_return: what the score compares with.
        agent_return: of the objective's agents.
        best_return: highest return of an episode.
        scale: of the levels, where the buffer keeps it.

    Returns:
        The buffer after that.
    """
    fingerprints = jax.vmap(fingerprint)(levels)
    wanted = mask & jnp.isfinite(score) & ~_known(buffer, fingerprints)
    wanted &= ~_repeated(fingerprints, wanted)
    # One by one from the best comes to this: the i-th best candidate challenges the i-th weakest slot.
    # Earlier candidates are in nobody's way, because a later one beats none of them.
    bids = jnp.where(wanted, score, -jnp.inf)
    prices = jnp.where(buffer.active, jnp.inf, jnp.where(buffer.filled, buffer.score, -jnp.inf))
    rounds = min(bids.size, prices.size)
    best = jnp.argsort(-bids, stable=True)[:rounds]
    slots = jnp.argsort(prices, stable=True)[:rounds]
    slots = _masked(buffer, slots, bids[best] > prices[slots])
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
    """The slots to write to; beyond the end, which `mode="drop"` ignores, where not `mask`."""
    return jnp.where(mask, slots, buffer.score.size)


def _known(buffer: LevelBuffer, fingerprints: UInt32[Array, "C 2"]) -> Bool[Array, " C"]:
    """Which candidates are in the buffer already."""
    first, second = (fingerprints[:, None, i] == buffer.fingerprints[None, :, i] for i in range(2))
    return jnp.any(first & second & buffer.filled, axis=1)


def _repeated(fingerprints: UInt32[Array, "C 2"], wanted: Bool[Array, " C"]) -> Bool[Array, " C"]:
    """Which candidates equal an earlier wanted one."""
    same = jnp.all(fingerprints[:, None] == fingerprints[None, :], axis=2)
    return jnp.any(jnp.tril(same, -1) & wanted[None, :], axis=1)

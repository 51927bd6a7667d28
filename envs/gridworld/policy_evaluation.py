"""Exact evaluation of tabular gridworld policies, and the best policies under a discount.

A policy is a table of action probabilities over the tabular observations `cell + cells * mask`, as an
agent on them has it. `policy_returns` is what sampled episodes estimate; `policy_statistics` says besides
how episodes go. `discounted_policies` are what an agent with a discount and without a clock can at best
become. Like `planning`, all of it needs fixed placement and enumerates every state.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rl_discovery.envs.gridworld.env import GridLevel, GridWorld
from rl_discovery.envs.gridworld.planning import Model, count_steps, in_chunks, model_of, move_targets

SETTLED = 1e-6
"""Value iteration ends where a turn changes no value by more than this share of the largest."""


class EpisodeStatistics(NamedTuple):
    """Expectations over one episode.

    Attributes:
        returns: undiscounted return.
        steps: length.
        terminated: probability that an object ends the episode, before or at the time limit.
        collected: how often each object is collected.
    """

    returns: Float[Array, " levels"]
    steps: Float[Array, " levels"]
    terminated: Float[Array, " levels"]
    collected: Float[Array, "levels objects"]


def policy_returns(
    env: GridWorld, levels: GridLevel, policies: Float[Array, "levels S A"], *, chunk: int = 16
) -> Float[Array, " levels"]:
    """Expected undiscounted return of one episode, one policy per level.

    Args:
        env: the environment, with fixed placement.
        levels: a batch of levels, leading axis first.
        policies: probabilities of actions.
        chunk: levels evaluated at a time; a chunk takes as many steps as its longest level.

    Raises:
        ValueError: objects are placed at random.
    """
    _check(env)
    return _evaluate(env, levels, policies, _return_only, chunk)[:, 0]


def policy_statistics(
    env: GridWorld, levels: GridLevel, policies: Float[Array, "levels S A"] | None, *, chunk: int = 16
) -> EpisodeStatistics:
    """How episodes go in expectation, one policy per level.

    Args:
        env: as for `policy_returns`.
        levels: as there.
        policies: as there; None: the best policy, which knows how many steps are left.
        chunk: as there.

    Raises:
        ValueError: objects are placed at random.
    """
    _check(env)
    expected = _evaluate(env, levels, policies, _everything, chunk)
    return EpisodeStatistics(expected[:, 0], expected[:, 1], expected[:, 2], expected[:, 3:])


def discounted_policies(
    env: GridWorld,
    levels: GridLevel,
    discount: float,
    *,
    allowed: Bool[Array, "levels S A"] | None = None,
    otherwise: Float[Array, "levels S A"] | None = None,
    chunk: int = 16,
) -> Float[Array, "levels S A"]:
    """The policies of highest discounted value where no time limit is in sight, by value iteration.

    Args:
        env: the environment, with fixed placement.
        levels: a batch of levels.
        discount: gamma, below 1.
        allowed: actions to choose among; all where None.
        otherwise: action probabilities in states where none is allowed; needed with `allowed`.
        chunk: levels solved at a time.

    Returns:
        Probabilities of actions: one is 1 where there is a choice.

    Raises:
        ValueError: objects are placed at random, the discount is not in [0, 1), or `allowed` comes without
            `otherwise`.
    """
    _check(env)
    if not 0 <= discount < 1:
        raise ValueError(f"discount must be at least 0 and below 1, not {discount}")
    if (allowed is None) != (otherwise is None):
        raise ValueError("`allowed` and `otherwise` belong together")
    return _solve_discounted(env, levels, discount, allowed, otherwise, chunk)


def _check(env: GridWorld) -> None:
    if env.random_placement:
        raise ValueError("exact evaluation needs fixed placement: this environment places objects at random")


Rewards = Callable[[GridWorld, GridLevel, Model], Float[Array, "Q objects masks"]]
"""What each of Q quantities gains on arriving on an object's cell, by the mask before."""


class _Tables(NamedTuple):
    """What the recursion needs of a level.

    Attributes:
        model: of the level.
        rewards: see `Rewards`.
        step_rewards: what each quantity gains at every step.
        can_move: for each action that moves, whether its target is open.
    """

    model: Model
    rewards: Float[Array, "Q objects masks"]
    step_rewards: Float[Array, " Q"]
    can_move: Bool[Array, "moves cells 1"]


def _return_only(env: GridWorld, level: GridLevel, model: Model) -> Float[Array, "1 objects masks"]:
    del env, level
    return model.reward[None]


def _everything(env: GridWorld, level: GridLevel, model: Model) -> Float[Array, "Q objects masks"]:
    """Return, length (which grows at every step instead), termination, each object's collections."""
    masks = jnp.arange(1 << env.max_objects)
    present = ((masks[None] >> jnp.arange(env.max_objects)[:, None]) & 1 == 1) & level.object_active[:, None]
    same_cell = level.object_cells[:, None] == level.object_cells[None]
    collected = (same_cell[:, :, None] & present[:, None]).astype(jnp.float32)
    return jnp.concatenate([jnp.stack([model.reward, 0 * model.reward, 1 - model.goes_on]), collected])


def _tables(env: GridWorld, level: GridLevel, rewards: Rewards) -> _Tables:
    model = model_of(env, level)
    gains = rewards(env, level, model)
    step_rewards = jnp.zeros(len(gains)).at[1:2].set(1.0)
    open_cells = jnp.where(level.walls, 0.0, 1.0)[:, None]
    can_move = jnp.stack(list(move_targets(env, open_cells, 0.0))) > 0
    return _Tables(model, gains, step_rewards, can_move)


def _action_values(
    env: GridWorld, tables: _Tables, values: Float[Array, "Q cells masks"], discount: float = 1.0
) -> list[Float[Array, "Q cells masks"]]:
    """Values of each action, from the values with one step less."""
    model = tables.model
    exact = functools.partial(jnp.einsum, precision="highest")  # no reduced precision on accelerators
    arriving = discount * exact("qcn,mn->qcm", values, model.respawn)
    at_objects = values.at[:, model.object_cells].get(mode="clip")
    after = discount * exact("qkn,kmn->qkm", at_objects, model.collect)
    collecting = tables.rewards + model.goes_on[None] * after
    arriving = arriving.at[:, model.object_cells].set(collecting, mode="drop")
    arriving += tables.step_rewards[:, None, None]
    by_quantity = jax.vmap(lambda table: jnp.stack(list(move_targets(env, table, 0.0))))(arriving)
    moved = iter(jnp.where(tables.can_move[None], by_quantity, arriving[:, None]).swapaxes(0, 1))
    return [arriving if move == (0, 0) else next(moved) for move in env.moves]


def _weighted(
    weights: Float[Array, "A cells masks"], values: list[Float[Array, "Q cells masks"]]
) -> Float[Array, "Q cells masks"]:
    return functools.reduce(jnp.add, [w[None] * value for w, value in zip(weights, values, strict=True)])


def _best(values: Float[Array, "A cells masks"]) -> Float[Array, "A cells masks"]:
    """1 for the first best action, 0 for the others."""
    return jax.nn.one_hot(jnp.argmax(values, axis=0), values.shape[0], axis=0)


def _by_cell(env: GridWorld, table: Array) -> Array:
    """From [S, A] to [A, cells, masks]."""
    return jnp.transpose(table.reshape(1 << env.max_objects, env.cells, env.num_actions), (2, 1, 0))


def _by_state(env: GridWorld, table: Array) -> Array:
    """From [A, cells, masks] to [S, A]."""
    return jnp.transpose(table, (2, 1, 0)).reshape(-1, env.num_actions)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _evaluate(
    env: GridWorld,
    levels: GridLevel,
    policies: Float[Array, "levels S A"] | None,
    rewards: Rewards,
    chunk: int,
) -> Float[Array, "levels Q"]:
    def solve(levels: GridLevel, policies: Array | None) -> Float[Array, "chunk Q"]:
        tables = jax.vmap(lambda level: _tables(env, level, rewards))(levels)
        weights = None if policies is None else jax.vmap(functools.partial(_by_cell, env))(policies)

        def back_up(
            tables: _Tables, weights: Array | None, values: Float[Array, "Q cells masks"]
        ) -> Float[Array, "Q cells masks"]:
            actions = _action_values(env, tables, values)
            if weights is None:
                weights = _best(jnp.stack([value[0] for value in actions]))
            return _weighted(weights, actions)

        back_up_all = jax.vmap(back_up)
        return count_steps(
            env, levels, tables.rewards.shape[1], lambda values: back_up_all(tables, weights, values)
        )

    return in_chunks(solve, levels, chunk, policies)


@functools.partial(jax.jit, static_argnums=(0, 2, 5))
def _solve_discounted(
    env: GridWorld,
    levels: GridLevel,
    discount: float,
    allowed: Bool[Array, "levels S A"] | None,
    otherwise: Float[Array, "levels S A"] | None,
    chunk: int,
) -> Float[Array, "levels S A"]:
    turns = math.ceil(math.log(SETTLED) / math.log(discount)) if discount > 0 else 1

    def solve(levels: GridLevel, allowed: Array | None, otherwise: Array | None) -> Float[Array, "chunk S A"]:
        tables = jax.vmap(lambda level: _tables(env, level, _return_only))(levels)
        by_cell = jax.vmap(functools.partial(_by_cell, env))
        choice = None if allowed is None or otherwise is None else (by_cell(allowed), by_cell(otherwise))

        def improve(
            tables: _Tables, choice: tuple[Array, Array] | None, values: Float[Array, "1 cells masks"]
        ) -> tuple[Float[Array, "A cells masks"], Float[Array, "1 cells masks"]]:
            actions = _action_values(env, tables, values, discount)
            mine = jnp.stack([value[0] for value in actions])
            if choice is None:
                weights = _best(mine)
            else:
                may, default = choice
                weights = jnp.where(jnp.any(may, axis=0), _best(jnp.where(may, mine, -jnp.inf)), default)
            return weights, _weighted(weights, actions)

        improve_all = jax.vmap(improve)

        def turn(carry):
            i, values, _ = carry
            new = improve_all(tables, choice, values)[1]
            settled = jnp.max(jnp.abs(new - values)) <= SETTLED * jnp.max(jnp.abs(new))
            return i + 1, new, settled

        values = jnp.zeros((levels.start.shape[0], 1, env.cells, 1 << env.max_objects))
        values = jax.lax.while_loop(
            lambda carry: (carry[0] < turns) & ~carry[2], turn, (jnp.int32(0), values, jnp.bool_(False))
        )[1]
        policies = improve_all(tables, choice, values)[0]
        return jax.vmap(functools.partial(_by_state, env))(policies)

    return in_chunks(solve, levels, chunk, allowed, otherwise)

"""The delayed chains of the LPG paper (Oh et al. 2020, appendix B): a family of environments.

The first action of an episode decides the reward of +1 or -1 that its last step pays; the actions in
between do nothing. With chains longer than a rollout, no rollout holds both the decision and its
reward: credit can only travel through the agent's predictions for the states on the way.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from jaxtyping import Array, Bool, Float, Int, Key

from rl_discovery.envs.levels import Family, LevelDistribution, sample_one
from rl_discovery.envs.suites import Suite

DISTRACTIONS = 20
"""Random bits beside the two that matter (LPG paper)."""


@struct.dataclass(kw_only=True)
class ChainLevel(environment.EnvParams):
    """One chain.

    Attributes:
        max_steps_in_episode: the chain's length: the number of steps of every episode.
        good_action: the first action, 0 or 1, that earns +1; the other one earns -1. It differs
            from level to level, so that no fixed policy is right.
    """

    good_action: Int[Array, "*levels"]

    @property
    def length(self) -> Int[Array, "*levels"]:
        """The number of steps of every episode."""
        return self.max_steps_in_episode


@struct.dataclass
class ChainState(environment.EnvState):
    """What changes within an episode.

    Attributes:
        time: steps taken.
        pays: the first action was the good one; False before it.
    """

    pays: Bool[Array, ""]


class DelayedChain(environment.Environment[ChainState, ChainLevel]):
    """A chain of states with two actions, of which only the first of an episode has a consequence.

    An episode ends with its last step, by `terminated`; no time limit ever truncates it.

    Args:
        max_length: length of the longest chain, which fixes the number of tabular states.
        noisy: every step but the last pays +1 or -1, equally likely, whatever the action.
        distraction: observe 22 bits in place of one integer.

    Raises:
        ValueError: chains without a step.
    """

    def __init__(self, max_length: int, *, noisy: bool = False, distraction: bool = False) -> None:
        super().__init__()
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, not {max_length}")
        self.max_length = max_length
        self.noisy = noisy
        self.distraction = distraction
        # Uniform draws that one step and one reset consume: the random reward, the random bits.
        self.reset_noise_size = DISTRACTIONS if distraction else 0
        self.step_noise_size = int(noisy) + self.reset_noise_size

    def step_from(
        self,
        noise: Float[Array, " step_noise"],
        state: ChainState,
        action: Int[Array, ""],
        level: ChainLevel,
    ) -> tuple[Array, ChainState, Float[Array, ""], Bool[Array, ""]]:
        """One transition, without reset at the episode's end.

        Args:
            noise: uniform draws in [0, 1), `step_noise_size` of them.
            state: the state before the step.
            action: 0 or 1.
            level: the level.

        Returns:
            observation, state, reward, terminated.
        """
        pays = jnp.where(state.time == 0, action == level.good_action, state.pays)
        new_state = ChainState(time=state.time + 1, pays=pays)
        terminated = new_state.time >= level.length
        on_the_way = _sign(noise[0] < 0.5) if self.noisy else jnp.float32(0.0)
        reward = jnp.where(terminated, _sign(pays), on_the_way)
        return self._observe(noise[int(self.noisy) :], new_state, level), new_state, reward, terminated

    def reset_from(self, noise: Float[Array, " reset_noise"], level: ChainLevel) -> tuple[Array, ChainState]:
        """A new episode from `reset_noise_size` uniform draws: observation and state."""
        state = ChainState(time=jnp.int32(0), pays=jnp.bool_(False))
        return self._observe(noise, state, level), state

    def _observe(self, noise, state, level):
        if self.distraction:
            relevant = jnp.stack([state.time == 0, state.pays])
            return jnp.concatenate([relevant, noise < 0.5]).astype(jnp.float32)
        # After the last step the agent is still at the last position, so that every state is in the table.
        return jnp.minimum(state.time, level.length - 1) + self.max_length * state.pays

    # The gymnax 1.0 interface.

    @property
    def default_params(self) -> ChainLevel:
        """The longest chain."""
        return ChainLevel(max_steps_in_episode=jnp.int32(self.max_length), good_action=jnp.int32(1))

    def step_env(
        self, key: jax.Array, state: ChainState, action: Any, params: ChainLevel
    ) -> tuple[Array, ChainState, Array, Array, dict[Any, Any]]:
        """gymnax's transition: draws the uniform numbers from `key` and calls `step_from`."""
        noise = jax.random.uniform(key, (self.step_noise_size,))
        obs, state, reward, terminated = self.step_from(noise, state, action, params)
        return obs, state, reward, terminated, {"discount": 1.0 - terminated}

    def reset_env(self, key: jax.Array, params: ChainLevel) -> tuple[Array, ChainState]:
        """gymnax's reset: draws the uniform numbers from `key` and calls `reset_from`."""
        return self.reset_from(jax.random.uniform(key, (self.reset_noise_size,)), params)

    def is_truncated(self, state: ChainState, params: ChainLevel) -> Bool[Array, ""]:
        """Never: the chain's last step terminates the episode."""
        return jnp.zeros_like(state.pays)

    @property
    def name(self) -> str:
        """gymnax's name of this environment."""
        return "DelayedChain"

    @property
    def num_actions(self) -> int:
        """The number of actions."""
        return 2

    def action_space(self, params: ChainLevel | None = None) -> spaces.Discrete:
        """Two actions; which of them is good depends on the level."""
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: ChainLevel | None = None) -> spaces.Discrete | spaces.Box:
        """`position + max_length * pays`, or bits: first step, `pays`, and 20 that are random at every step.

        Position 0 comes with `pays` = 0 only, so one of the `2 * max_length` states never occurs.
        """
        if self.distraction:
            return spaces.Box(0.0, 1.0, (2 + DISTRACTIONS,))
        return spaces.Discrete(2 * self.max_length)


def expected_returns(
    env: DelayedChain, levels: ChainLevel
) -> tuple[Float[Array, " levels"], Float[Array, " levels"]]:
    """Expected undiscounted return of one episode under the best and under the random policy.

    The rewards on the way have expectation 0 whatever the actions are. The last one is +1 for the good
    first action and -1 for the other: 1 under the best policy, (1 - 1) / 2 = 0 under the random one.
    Neither depends on the length or on which action is good.

    Args:
        env: the environment.
        levels: a batch of levels, leading axis first.

    Returns:
        The optimal and the uniformly random policy's return, one number per level.
    """
    del env
    shape = levels.good_action.shape
    return jnp.ones(shape), jnp.zeros(shape)


def sample_level(lengths: tuple[int, int], key: Key[Array, ""]) -> ChainLevel:
    """A chain: length uniform between both bounds, included; either action is the good one."""
    length_key, action_key = jax.random.split(key)
    return ChainLevel(
        max_steps_in_episode=jax.random.randint(length_key, (), lengths[0], lengths[1] + 1, jnp.int32),
        good_action=jax.random.randint(action_key, (), 0, 2, jnp.int32),
    )


def statistics(level: ChainLevel) -> dict[str, Array]:
    """Statistics for metrics: the length."""
    return {"length": level.length}


def _sign(positive: Bool[Array, ""]) -> Float[Array, ""]:
    return jnp.where(positive, jnp.float32(1.0), jnp.float32(-1.0))


def _distribution(
    name: str, extra: str, lengths: tuple[int, int], updates: int, **options: bool
) -> LevelDistribution:
    return LevelDistribution(
        name=name,
        description=f"chains of {lengths[0]} to {lengths[1]} steps, paid at the end{extra}",
        env=DelayedChain(lengths[1], **options),
        sample_params=functools.partial(sample_level, lengths),
        horizon=(updates, updates),
        statistics=statistics,
    )


# Lengths are the paper's; horizons, in agent updates, are our choice.
SHORT, SHORT_UPDATES = (5, 30), 250
LONG, LONG_UPDATES = (5, 50), 500
NOISY = ", with random rewards on the way"
BITS = ", observed as 22 bits of which 2 matter"

DISTRIBUTIONS = {
    distribution.name: distribution
    for distribution in (
        _distribution("short", "", SHORT, SHORT_UPDATES),
        _distribution("long", "", LONG, LONG_UPDATES),
        _distribution("short_noisy", NOISY, SHORT, SHORT_UPDATES, noisy=True),
        _distribution("long_noisy", NOISY, LONG, LONG_UPDATES, noisy=True),
        _distribution("state_distraction", BITS, SHORT, SHORT_UPDATES, distraction=True),
        _distribution("state_distraction_long", BITS, LONG, LONG_UPDATES, distraction=True),
    )
}

FAMILY = Family(
    name="chain",
    description="delayed chains: the first action decides the last reward (Oh et al. 2020)",
    distributions=DISTRIBUTIONS,
    make=lambda name, seed: sample_one(DISTRIBUTIONS[name], seed),
    expected_returns=expected_returns,
)

SUITES = (
    Suite(
        name="chains",
        description="the tabular delayed chains of the LPG paper: credit over long waits",
        environments=tuple(f"chain/{name}" for name in ("short", "long", "short_noisy", "long_noisy")),
        horizons=(250,),
        levels_per_environment=8,
    ),
)

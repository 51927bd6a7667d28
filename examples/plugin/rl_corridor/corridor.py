"""Corridors with a good end and a bad one: a very small family of levels."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from jaxtyping import Array, Bool, Int, Key

from rl_discovery.envs.levels import Family, LevelDistribution, sample_one
from rl_discovery.envs.suites import Suite

LONGEST = 6


@struct.dataclass(kw_only=True)
class CorridorLevel(environment.EnvParams):
    """One corridor: what differs from level to level."""

    length: Int[Array, "*levels"]
    good_right: Bool[Array, "*levels"]


@struct.dataclass
class CorridorState(environment.EnvState):
    """The agent's position; `time`, steps so far, is gymnax's."""

    position: Int[Array, ""]


class Corridor(environment.Environment[CorridorState, CorridorLevel]):
    """Two actions, left and right; either end terminates, the time limit truncates."""

    @property
    def default_params(self) -> CorridorLevel:
        """The longest corridor."""
        return CorridorLevel(
            max_steps_in_episode=jnp.int32(20), length=jnp.int32(LONGEST), good_right=jnp.bool_(True)
        )

    def step_env(self, key, state, action, params):
        """One step. The time limit is not checked here: gymnax's `is_truncated` does that."""
        del key
        position = state.position + jnp.where(action == 1, 1, -1)
        terminated = jnp.abs(position) >= params.length
        good = (position > 0) == params.good_right
        reward = jnp.where(terminated, jnp.where(good, 1.0, -1.0), 0.0)
        state = CorridorState(time=state.time + 1, position=position)
        return position + LONGEST, state, reward, terminated, {}

    def reset_env(self, key, params):
        """The agent starts in the middle."""
        del key, params
        return jnp.int32(LONGEST), CorridorState(time=jnp.int32(0), position=jnp.int32(0))

    @property
    def num_actions(self) -> int:
        """The number of actions."""
        return 2

    def action_space(self, params=None) -> spaces.Discrete:
        """Left and right."""
        return spaces.Discrete(2)

    def observation_space(self, params=None) -> spaces.Discrete:
        """Cells of the longest corridor. `Discrete`, so agents are tables."""
        return spaces.Discrete(2 * LONGEST + 1)


def sample_level(key: Key[Array, ""]) -> CorridorLevel:
    """One random level; pure, for `jit` and `vmap`."""
    length_key, end_key = jax.random.split(key)
    return CorridorLevel(
        max_steps_in_episode=jnp.int32(20),
        length=jax.random.randint(length_key, (), 2, LONGEST + 1, jnp.int32),
        good_right=jax.random.bernoulli(end_key),
    )


def expected_returns(env: Corridor, levels: CorridorLevel) -> tuple[Array, Array]:
    """Returns of the best policy, which walks to the good end, and of the random one, 0 by symmetry."""
    del env
    best = (levels.length <= levels.max_steps_in_episode).astype(jnp.float32)
    return best, jnp.zeros_like(best)


DISTRIBUTIONS = {
    "short": LevelDistribution(
        name="short",
        description=f"2 to {LONGEST} cells to either end",
        env=Corridor(),
        sample_params=sample_level,
        horizon=(10, 100),
        statistics=lambda level: {"length": level.length},
    )
}

FAMILY = Family(
    name="corridor",
    description="a good end and a bad one",
    distributions=DISTRIBUTIONS,
    make=lambda name, seed: sample_one(DISTRIBUTIONS[name], seed),
    expected_returns=expected_returns,
)

SUITE = Suite(
    name="corridors",
    description="corridors that no training run draws",
    environments=("corridor/short",),
    horizons=(10, 50),
    levels_per_environment=16,
)

"""Five tiny environments whose values are known by looking at them; what an agent gets wrong tells where.

Each asks for one thing more than the one before it. All are levels of one environment, so that one
compilation trains an agent on each. Two actions, observations 0 and 1; episodes of one step, but for
the delayed reward, which has two.
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces
from jaxtyping import Array, Int

NAMES = ("constant", "observed", "delayed", "action", "both")
"""Reward of 1 whatever happens; told by the observation; one step late; told by the action; by both."""

CONSTANT, OBSERVED, DELAYED, ACTION, BOTH = range(5)


@struct.dataclass(kw_only=True)
class Probe(environment.EnvParams):
    """Which of the five; an episode may not be cut short."""

    kind: Int[Array, "*levels"]


@struct.dataclass
class ProbeState(environment.EnvState):
    """What was observed last; `time` is gymnax's."""

    seen: Int[Array, ""]


class Probes(environment.Environment[ProbeState, Probe]):
    """The five of them, by their level."""

    @property
    def default_params(self):
        return Probe(max_steps_in_episode=jnp.int32(9), kind=jnp.int32(CONSTANT))

    def reset_env(self, key, params):
        random = (params.kind == OBSERVED) | (params.kind == BOTH)
        seen = jnp.where(random, jax.random.bernoulli(key).astype(jnp.int32), 0)
        return seen, ProbeState(time=jnp.int32(0), seen=seen)

    def step_env(self, key, state, action, params):
        del key
        late = state.time == 1
        right = action == state.seen
        rewards = (1.0, 2.0 * state.seen - 1.0, late, 2.0 * action - 1.0, 2.0 * right - 1.0)
        reward = jnp.stack([jnp.float32(reward) for reward in rewards])[params.kind]
        terminated = (params.kind != DELAYED) | late
        return jnp.int32(1), ProbeState(time=state.time + 1, seen=jnp.int32(1)), reward, terminated, {}

    @property
    def num_actions(self):
        return 2

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Discrete(2)


LEVELS = Probe(max_steps_in_episode=jnp.full(5, 9, jnp.int32), kind=jnp.arange(5))
"""All five."""

BEST = (1.0, 0.0, 1.0, 1.0, 1.0)
"""Expected return of the best policy."""

BY_CHANCE = (1.0, 0.0, 1.0, 0.0, 0.0)
"""Of the uniformly random one."""

"""Time limits bootstrap and terminations do not: a chain of two states whose values are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from rl_discovery import discovery
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.ppo import PPO

GAMMA, REWARDS = 0.8, (1.0, 2.0)


@struct.dataclass
class State(environment.EnvState):
    """The state is the time since the last reset."""


class TwoStates(environment.Environment):
    """0, then 1, then the episode is over, either by termination or by its time limit, whatever is done.

    A time limit cuts short a life that would go on from state 0.
    """

    def __init__(self, *, terminates):
        super().__init__()
        self.terminates = terminates

    name = "two-states"
    default_params = environment.EnvParams(max_steps_in_episode=2)

    def reset_env(self, key, params):
        return jnp.int32(0), State(time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        reward = jnp.asarray(REWARDS)[state.time]
        time = state.time + 1
        over = time >= params.max_steps_in_episode
        return time % 2, State(time=time), reward, over & self.terminates, {}

    def is_truncated(self, state, params):
        return (state.time >= params.max_steps_in_episode) & (not self.terminates)

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Discrete(2)


VALUES = {
    # V(1) = 2, V(0) = 1 + gamma V(1)
    True: (REWARDS[0] + GAMMA * REWARDS[1], REWARDS[1]),
    # V(1) = 2 + gamma V(0), V(0) = 1 + gamma V(1)
    False: tuple((REWARDS[i] + GAMMA * REWARDS[1 - i]) / (1 - GAMMA**2) for i in range(2)),
}


@pytest.mark.parametrize("terminates", [True, False], ids=["terminated", "truncated"])
@pytest.mark.parametrize(
    "rule", [A2C(discount=GAMMA), PPO(discount=GAMMA, value_clip=1e9)], ids=["a2c", "ppo"]
)
def test_the_learned_values_are_the_known_ones(rule, terminates):
    env = TwoStates(terminates=terminates)
    config = AgentConfig(workers=4, rollout_steps=5, head_learning_rate=0.5, max_grad_norm=1e9)
    trained, _ = discovery.train(rule, env, env.default_params, 300, config=config, evaluations=1)
    values = trained.agent.outputs_of(trained.state, jnp.arange(2)).head[:, 0]
    np.testing.assert_allclose(values, VALUES[terminates], rtol=1e-3)

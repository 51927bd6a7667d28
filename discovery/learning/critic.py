"""A state-value critic that learns beside an agent, without any effect on it.

An LPG agent has no value estimate: the meaning of its second head is learned. This critic learns values from
the same rollouts: as the baseline of the meta-gradient (Oh et al. 2020, section 3.2), and for the level
scores that read values (PVL, MaxMC, L1).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from gymnax.environments.environment import Environment
from jaxtyping import Array, Float, Key

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.networks import NETWORKS, Observations
from rl_discovery.discovery.agents.optimisers import make_optimiser
from rl_discovery.discovery.agents.spaces import observation_space
from rl_discovery.discovery.objectives.gae import advantages
from rl_discovery.discovery.types import EnvParams, Rollout


@struct.dataclass
class CriticState:
    """Parameters and optimiser state of one critic."""

    params: Any
    opt_state: optax.OptState


class Assessment(NamedTuple):
    """V(s_t) and generalised advantage estimates of a rollout, not normalised."""

    values: Float[Array, "T W"]
    advantages: Float[Array, "T W"]


@dataclasses.dataclass(frozen=True)
class Critic:
    """The static side of a critic; build it with `make_critic`.

    Attributes:
        network: flax module from observation to one value.
        optimiser: optax transformation for its parameters.
        observations: shape and type of the observations.
        discount: gamma (LPG and GROOVE's code: 0.99), or that of the agent's settings.
        gae_lambda: lambda of the advantage estimate (GROOVE's code: 0.95).
        value_coef: weight of the squared error (as A2C).
    """

    network: nn.Module
    optimiser: optax.GradientTransformation
    observations: Observations
    discount: float = 0.99
    gae_lambda: float = 0.95
    value_coef: float = 0.5

    def init(self, key: Key[Array, ""]) -> CriticState:
        """A new critic."""
        params = self.network.init(key, self.observations.example())["params"]
        return CriticState(params=params, opt_state=self.optimiser.init(params))

    def values(self, params: Any, observation: Array) -> Float[Array, "*batch"]:
        """V of observations of any leading shape."""
        output: Any = self.network.apply({"params": params}, observation)
        return output[..., 0]

    def assess(self, params: Any, rollout: Rollout) -> Assessment:
        """Values and advantages of a rollout; time limits bootstrap, terminations do not."""
        values = self.values(params, rollout.observation)
        following = self.values(params, rollout.next_observation)
        advantage = advantages(rollout, values, following, self.discount, self.gae_lambda)
        return Assessment(values=values, advantages=advantage)

    def loss(self, params: Any, rollout: Rollout) -> Float[Array, ""]:
        """Weighted mean squared error to the GAE value targets, which are constants."""
        values, advantage = self.assess(params, rollout)
        targets = jax.lax.stop_gradient(advantage + values)
        return self.value_coef * jnp.mean((values - targets) ** 2)

    def step(self, state: CriticState, rollout: Rollout) -> CriticState:
        """One optimiser step on `loss`."""
        gradient = jax.grad(self.loss)(state.params, rollout)
        updates, opt_state = self.optimiser.update(gradient, state.opt_state, state.params)
        return CriticState(params=optax.apply_updates(state.params, updates), opt_state=opt_state)


def make_critic(config: AgentConfig, env: Environment, level: EnvParams) -> Critic:
    """A critic with the network and the optimiser of the agent's second head, and one output.

    Raises:
        ValueError: the network does not fit the observations.
    """
    observations = Observations.of(observation_space(env, level))
    network = NETWORKS[config.network](observations, config.hidden, config.activation)(1, 1.0)
    critic: Any = Critic(network, make_optimiser(config, config.head_learning_rate), observations)
    return dataclasses.replace(critic, **config.of_task)

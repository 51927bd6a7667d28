"""An agent: a network, its optimiser, and the settings that the papers give them.

`Agent` is static and holds no numbers; `AgentState` is the pytree that training changes.
"""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
import optax
from flax import struct
from gymnax.environments import spaces
from gymnax.environments.environment import Environment
from jaxtyping import Array, Key

from discovery.agents.networks import NETWORKS, AgentNetwork
from discovery.types import AgentParams, Outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """How the agents of an inner loop are built and trained.

    The defaults are the tabular agents of the LPG paper (Oh et al. 2020, table 4).
    """

    network: Literal["tabular", "mlp", "cnn"] = "tabular"
    """Lookup tables, an MLP, or a CNN."""
    hidden: tuple[int, ...] = (32,)
    """Hidden layer widths of MLP and CNN."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """Rule that applies the gradients."""
    policy_learning_rate: float = 40.0
    """Step size of the policy."""
    head_learning_rate: float = 4.0
    """Step size of the second head (prediction or value)."""
    max_grad_norm: float = 0.5
    """Global-norm clip of each network's gradient, applied before the optimiser."""
    workers: int = 64
    """W, copies of the environment that one agent acts in."""
    rollout_steps: int = 20
    """T, steps of each worker between two agent updates."""


def default_config(env: Environment, level: Any, rule: Any = None) -> AgentConfig:
    """The published settings for the kind of observation: tables, or MLP(32) with Adam 1e-3.

    A rule may have step sizes of its own for tables, `tabular_learning_rates` of policy and head, so
    that a hand-written baseline is not held to those of a learned objective.
    """
    if isinstance(env.observation_space(level), spaces.Discrete):
        rates = getattr(rule, "tabular_learning_rates", None)
        if rates is None:
            return AgentConfig()
        return AgentConfig(policy_learning_rate=rates[0], head_learning_rate=rates[1])
    return AgentConfig(network="mlp", optimiser="adam", policy_learning_rate=1e-3, head_learning_rate=1e-3)


@struct.dataclass
class AgentState:
    """Parameters and optimiser state of one agent."""

    params: AgentParams
    opt_state: optax.OptState


@dataclasses.dataclass(frozen=True)
class Agent:
    """The static side of an agent; build it with `make_agent`.

    Attributes:
        network: flax module from observation to `Outputs`.
        optimiser: optax transformation for the network's parameters.
        observation_shape, observation_dtype: of one observation, to initialise with.
    """

    network: AgentNetwork
    optimiser: optax.GradientTransformation
    observation_shape: tuple[int, ...]
    observation_dtype: Any

    def init(self, key: Key[Array, ""]) -> AgentState:
        """A new agent."""
        example = jnp.zeros(self.observation_shape, self.observation_dtype)
        params = self.network.init(key, example)["params"]
        return AgentState(params=params, opt_state=self.optimiser.init(params))

    def apply(self, params: AgentParams, observation: Array) -> Outputs:
        """Logits and second head for observations of any leading shape."""
        return self.network.apply({"params": params}, observation)  # type: ignore[return-value]

    def step(self, state: AgentState, gradients: AgentParams) -> AgentState:
        """One optimiser step against `gradients` (a loss is minimised)."""
        updates, opt_state = self.optimiser.update(gradients, state.opt_state, state.params)
        return AgentState(params=optax.apply_updates(state.params, updates), opt_state=opt_state)


def make_agent(config: AgentConfig, env: Environment, level: Any, head_size: int) -> Agent:
    """Builds the agent for an environment with discrete actions.

    Args:
        config: network and optimiser.
        env: the environment.
        level: any of its levels (for the spaces).
        head_size: K, outputs of the second head; the objective says how many.

    Raises:
        ValueError: continuous actions, or a network that the observations do not fit.
    """
    action_space = env.action_space(level)
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(f"{env.name} has continuous actions; this agent needs discrete ones")
    space = env.observation_space(level)
    network = AgentNetwork(NETWORKS[config.network](space, config.hidden), action_space.n, head_size)
    optimiser = optax.multi_transform(
        {
            "policy": make_optimiser(config, config.policy_learning_rate),
            "head": make_optimiser(config, config.head_learning_rate),
        },
        {"policy": "policy", "head": "head"},
    )
    return Agent(network, optimiser, tuple(space.shape), space.dtype)


def make_optimiser(config: AgentConfig, learning_rate: float) -> optax.GradientTransformation:
    """The configured rule behind a clip of the gradient's global norm."""
    rules = {"sgd": optax.sgd, "adam": optax.adam}
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm), rules[config.optimiser](learning_rate)
    )

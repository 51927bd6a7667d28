"""An agent: a network, its optimiser, and the settings that the papers give them.

`Agent` is static and holds no numbers; `AgentState` is the pytree that training changes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct
from gymnax.environments.environment import Environment
from jaxtyping import Array, Bool, Float, Key, Num

from rl_discovery.discovery.agents.networks import NETWORKS, Activation, AgentNetwork, Observations
from rl_discovery.discovery.agents.normalisation import Scaling, Statistics
from rl_discovery.discovery.agents.policies import Bounds, Policy, policy_for
from rl_discovery.discovery.agents.spaces import action_space, observation_space
from rl_discovery.discovery.types import AgentParams, Outputs


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """How the agents of an inner loop are built and trained.

    The defaults are the tabular agents of the LPG paper (Oh et al. 2020, table 4).
    """

    network: Literal["tabular", "mlp", "cnn"] = "tabular"
    """Lookup tables, an MLP, or a CNN."""
    hidden: tuple[int, ...] = (32,)
    """Hidden layer widths of MLP and CNN."""
    activation: Activation = "relu"
    """After each hidden layer of MLP and CNN."""
    shared: bool = False
    """One body with two last layers, in place of a network each for policy and second head."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    """Rule that applies the gradients."""
    policy_learning_rate: float = 40.0
    """Step size of the policy."""
    head_learning_rate: float = 4.0
    """Step size of the second head (prediction or value)."""
    max_grad_norm: float = 0.5
    """Global-norm clip of the gradient, applied before the optimiser."""
    clip_together: bool = False
    """Clip policy and second head by their common norm (PPO), in place of each by its own (LPG)."""
    adam_epsilon: float = 1e-8
    """Adam's epsilon (PPO: 1e-5)."""
    anneal: bool = False
    """Scale the step sizes by 1 - n/N (PPO)."""
    epochs: int = 1
    """Passes over each rollout (PPO: 4)."""
    minibatches: int = 1
    """Shuffled parts of a pass with an optimiser step each (PPO: 4 to 8)."""
    scale_observations: bool = False
    """Scale observations by their running mean and deviation."""
    scale_rewards: bool = False
    """Divide rewards by the running deviation of the discounted return (gamma 0.99)."""
    action_bounds: Bounds = "clip"
    """How a Gaussian policy's actions are brought into the range of continuous ones: `clip` or `tanh`."""
    discount: float | None = None
    """gamma of the task; None: the objective's own. Not for LPG, which has none."""
    gae_lambda: float | None = None
    """lambda of the task's advantage estimates; None: the objective's own."""
    workers: int = 64
    """W, copies of the environment that one agent acts in."""
    rollout_steps: int = 20
    """T, steps of each worker between two agent updates."""

    @property
    def steps_per_update(self) -> int:
        """W x T, environment steps of one rollout."""
        return self.workers * self.rollout_steps


@struct.dataclass
class AgentState:
    """Parameters, optimiser state and running statistics of one agent."""

    params: AgentParams
    opt_state: optax.OptState
    statistics: Statistics

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """Whether all that the agent acts by is finite.

        An agent of NaNs still acts: it takes one and the same action, for which it gets a return that
        means nothing.
        """
        acts_by = (self.params, self.statistics.observations)
        return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(acts_by)]).all()


@dataclasses.dataclass(frozen=True)
class Agent:
    """The static side of an agent; build it with `make_agent`.

    It is data and nothing else: equal agents share compiled programs, and one can be pickled or written
    to a file.

    Attributes:
        config: of network and optimiser.
        observations: what it sees.
        policy: the kind of distribution that it acts by.
        head_size: K, outputs of the second head.
        workers: W, copies of the environment that it acts in; each has a running return.
        zero_outputs: of the second head, the first ones, that are 0 at first.
    """

    config: AgentConfig
    observations: Observations
    policy: Policy
    head_size: int
    workers: int = 1
    zero_outputs: int = 0

    def init(self, key: Key[Array, ""]) -> AgentState:
        """A new agent."""
        params = self.network.init(key, self.observations.example())["params"]
        statistics = self.scaling.init(self.observations.shape, self.workers)
        return AgentState(params=params, opt_state=self.optimiser.init(params), statistics=statistics)

    @property
    def network(self) -> AgentNetwork:
        """flax module from observation to `Outputs`."""
        config = self.config
        body = NETWORKS[config.network](self.observations, config.hidden, config.activation)
        return AgentNetwork(body, self.policy, self.head_size, config.shared, self.zero_outputs)

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """optax transformation for the network's parameters."""
        config = self.config
        if config.clip_together:
            steps = _by_network(config, optax.scale_by_learning_rate)
            return optax.chain(_clipped_direction(config), steps)
        return _by_network(config, functools.partial(make_optimiser, config))

    @property
    def scaling(self) -> Scaling:
        """Which running statistics it keeps and looks through."""
        return Scaling(self.config.scale_observations, self.config.scale_rewards)

    @property
    def epochs(self) -> int:
        """Passes over each rollout."""
        return self.config.epochs

    @property
    def minibatches(self) -> int:
        """Optimiser steps in each pass."""
        return self.config.minibatches

    @property
    def anneal(self) -> bool:
        """Whether step sizes fall to 0 over the lifetime."""
        return self.config.anneal

    @property
    def revisits(self) -> bool:
        """Whether an update passes over its rollout in several optimiser steps (PPO)."""
        return self.epochs * self.minibatches > 1

    def apply(self, params: AgentParams, observation: Array) -> Outputs:
        """Policy and second head for observations of any leading shape."""
        return self.network.apply({"params": params}, observation)  # type: ignore[return-value]

    def step(
        self, state: AgentState, gradients: AgentParams, scale: Float[Array, ""] | None = None
    ) -> AgentState:
        """One optimiser step against `gradients` (a loss is minimised), `scale` times as long."""
        updates, opt_state = self.optimiser.update(gradients, state.opt_state, state.params)
        if scale is not None:
            updates = jax.tree.map(lambda update: scale * update, updates)
        return dataclasses.replace(
            state, params=optax.apply_updates(state.params, updates), opt_state=opt_state
        )

    def outputs_of(self, state: AgentState, observation: Array) -> Outputs:
        """`apply` to observations as the environment gives them."""
        return self.apply(state.params, self.scaling.see(state.statistics, observation))

    def act(
        self, state: AgentState, key: Key[Array, ""], observation: Array
    ) -> Num[Array, "*batch_and_action"]:
        """Sampled actions for observations of any leading shape, as the environment takes them."""
        parameters = self.outputs_of(state, observation).parameters
        draws = self.policy.draw(key, parameters.shape[:-1])
        return self.policy.to_environment(self.policy.sample(parameters, draws))


def make_agent(
    config: AgentConfig, env: Environment, level: Any, head_size: int, zero_outputs: int = 0
) -> Agent:
    """Builds the agent for an environment.

    Args:
        config: network and optimiser.
        env: the environment.
        level: any of its levels (for the spaces).
        head_size: K, outputs of the second head; the objective says how many.
        zero_outputs: how many of them, the first ones, are 0 at first.

    Raises:
        ValueError: actions that no policy fits, or a network that the observations do not fit.
    """
    seen = Observations.of(observation_space(env, level))
    NETWORKS[config.network](seen, config.hidden, config.activation)  # refuses what does not fit, here
    return Agent(
        config=config,
        observations=seen,
        policy=policy_for(action_space(env, level), config.action_bounds),
        head_size=head_size,
        workers=config.workers,
        zero_outputs=zero_outputs,
    )


def make_optimiser(config: AgentConfig, learning_rate: float) -> optax.GradientTransformation:
    """The configured rule for one network, behind a clip of its gradient's global norm."""
    return optax.chain(_clipped_direction(config), optax.scale_by_learning_rate(learning_rate))


def _by_network(
    config: AgentConfig, make: Callable[[float], optax.GradientTransformation]
) -> optax.GradientTransformation:
    """What `make` makes of the step sizes of policy and second head; a shared body has the policy's."""
    rates = {"policy": config.policy_learning_rate, "head": config.head_learning_rate}
    return optax.multi_transform(
        {name: make(rate) for name, rate in rates.items()},
        lambda params: {name: "head" if name == "head" else "policy" for name in params},
    )


def _clipped_direction(config: AgentConfig) -> optax.GradientTransformation:
    """The configured rule with a step size of -1."""
    rule = optax.scale_by_adam(eps=config.adam_epsilon) if config.optimiser == "adam" else optax.identity()
    direction = optax.chain(clip_by_global_norm(config.max_grad_norm), rule)
    if config.network == "tabular":
        return direction
    # As one long vector: a dozen small arrays would cost a dozen times the overhead.
    return optax.flatten(direction)


def clip_by_global_norm(largest: float) -> optax.GradientTransformation:
    """optax's, but that it can be differentiated where all gradients are 0: meta-gradients go through it."""

    def clip(updates: AgentParams, params: AgentParams | None = None) -> AgentParams:
        del params
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(updates))
        norm = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
        within = (norm < largest) | (squares == 0)
        return jax.tree.map(lambda leaf: jnp.where(within, leaf, (leaf / norm) * largest), updates)

    return optax.stateless(clip)

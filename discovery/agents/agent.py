"""An agent: a network, its optimiser and its running statistics.

`Agent` is static and holds no numbers; `AgentState` is the pytree that training changes.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from gymnax.environments.environment import Environment
from jaxtyping import Array, Bool, Float, Key, Num

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.networks import NETWORKS, AgentNetwork, Observations
from rl_discovery.discovery.agents.normalisation import Scaling, Statistics
from rl_discovery.discovery.agents.optimisers import agent_optimiser
from rl_discovery.discovery.agents.policies import Categorical, Policy, policy_for
from rl_discovery.discovery.agents.spaces import action_space, name_of, observation_space
from rl_discovery.discovery.types import AgentParams, Outputs


@struct.dataclass
class AgentState:
    """Parameters, optimiser state and running statistics of one agent."""

    params: AgentParams
    opt_state: optax.OptState
    statistics: Statistics

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """Whether parameters and observation statistics are finite.

        An agent of NaNs still acts: it takes the same action always, for a return that means nothing.
        """
        acts_by = (self.params, self.statistics.observations)
        return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(acts_by)]).all()


@dataclasses.dataclass(frozen=True)
class Agent:
    """The static side of an agent; build it with `make_agent`.

    It is plain data: equal agents share compiled programs, and an agent can be pickled or written to a file.

    Attributes:
        config: of network and optimiser.
        observations: shape and type of what it observes.
        policy: the family of its action distributions.
        head_size: K, outputs of the second head.
        workers: W, copies of the environment; each has a running return.
        zero_outputs: so many first outputs of the second head start at 0.
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
        return agent_optimiser(self.config)

    @property
    def scaling(self) -> Scaling:
        """The running statistics that the agent keeps."""
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
        """Whether an update makes several optimiser steps on its rollout (PPO)."""
        return self.config.revisits

    @property
    def is_sparse(self) -> bool:
        """Whether an optimiser step changes only the rows of lookup tables that its gradient is of."""
        categorical = isinstance(self.policy, Categorical)
        return self.config.network == "tabular" and self.config.optimiser == "sgd" and categorical

    def with_states(self, states: int) -> "Agent":
        """The same with lookup tables for so many states."""
        return dataclasses.replace(self, observations=dataclasses.replace(self.observations, states=states))

    def apply(self, params: AgentParams, observation: Array) -> Outputs:
        """Outputs for observations of any leading shape, scaled already."""
        return self.network.apply({"params": params}, observation)  # type: ignore[return-value]

    def step(
        self, state: AgentState, gradients: AgentParams, scale: Float[Array, ""] | None = None
    ) -> AgentState:
        """One optimiser step that descends `gradients`, multiplied by `scale`."""
        updates, opt_state = self.optimiser.update(gradients, state.opt_state, state.params)
        if scale is not None:
            updates = jax.tree.map(lambda update: scale * update, updates)
        return dataclasses.replace(
            state, params=optax.apply_updates(state.params, updates), opt_state=opt_state
        )

    def outputs_of(self, state: AgentState, observation: Array) -> Outputs:
        """Outputs for observations as the environment returns them: scales them, then `apply`."""
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
        level: any of its levels; the spaces are read from it.
        head_size: K, outputs of the second head, which the objective needs.
        zero_outputs: so many first outputs of the second head start at 0.

    Raises:
        ValueError: no policy for these actions, or a network that does not fit the observations.
    """
    if config.shared and config.network == "tabular":
        raise ValueError("a table has no layers that could be shared: use network='mlp' or shared=False")
    observations = Observations.of(observation_space(env, level))
    if config.scale_observations and observations.states is not None:
        raise ValueError(
            f"agent.scale_observations needs arrays, and observations of {name_of(env)} are numbered states"
        )
    NETWORKS[config.network](observations, config.hidden, config.activation)  # raises here if it does not fit
    return Agent(
        config=config,
        observations=observations,
        policy=policy_for(action_space(env, level), config.action_bounds),
        head_size=head_size,
        workers=config.workers,
        zero_outputs=zero_outputs,
    )

"""Types and records that objectives, agents and rollouts share.

Dimension letters, used in every signature of the project: P pairs, L lanes, W workers, T rollout
steps, S tabular states, A actions (D: numbers that describe a distribution over them), M prediction
bins (K: width of any second head), G hidden width of the GRU, N horizon in agent updates.
"""

from typing import Any, TypeAlias

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Num

from rl_discovery.discovery.agents.policies import Policy

MetaParams: TypeAlias = Any
"""Pytree of the parameters that ES or meta-gradients search; empty for hand-written objectives."""

AgentParams: TypeAlias = Any
"""Pytree of an agent network's parameters."""

EnvParams: TypeAlias = Any
"""A level: the parameters of one environment instance."""


@struct.dataclass
class Outputs:
    """Outputs of an agent network for observations of any leading shape.

    Attributes:
        parameters: of the distribution over actions; logits where actions are discrete.
        head: the second head: logits of the prediction y over M bins (LPG), or a value, K = 1 (A2C).
        policy: the family of distributions; static.
    """

    parameters: Float[Array, "*batch D"]
    head: Float[Array, "*batch K"]
    policy: Policy = struct.field(pytree_node=False)

    def log_prob(self, action: Num[Array, "*batch_and_action"]) -> Float[Array, "*batch"]:
        """log pi(a|s)."""
        return self.policy.log_prob(self.parameters, action)

    def entropy(self) -> Float[Array, "*batch"]:
        """H(pi(.|s))."""
        return self.policy.entropy(self.parameters)


@struct.dataclass
class Progress:
    """Where a lifetime stands.

    Attributes:
        done: n, agent updates done so far; or n/N, with N = 1.
        horizon: N, agent updates in the whole lifetime.
        known: n/N, 1 - n/N and log N, if the caller computes them. A program for any N computes them itself,
            and may round the last bit differently from one in which N is a constant.
    """

    done: Num[Array, "*lanes"]
    horizon: Int[Array, "*lanes"]
    known: tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]] | None = None

    @property
    def fraction(self) -> Float[Array, "*lanes"]:
        """n/N, in [0, 1)."""
        return self.done / self.horizon if self.known is None else self.known[0]

    @property
    def remaining(self) -> Float[Array, "*lanes"]:
        """1 - n/N, in (0, 1]."""
        return 1.0 - self.fraction if self.known is None else self.known[1]

    @property
    def log_horizon(self) -> Float[Array, "*lanes"]:
        """log N."""
        if self.known is None:
            return jnp.log(jnp.asarray(self.horizon, jnp.float32))
        return self.known[2]


@struct.dataclass
class BehaviourOutputs:
    """Outputs of the agent while it acted, so that updates need not compute them again.

    Attributes:
        outputs: at the rollout's observations, (T, W, ...).
        cut_off: the second head at `next_observation` where the episode was truncated; undefined elsewhere.
    """

    outputs: Outputs
    cut_off: Float[Array, "T W K"]


@struct.dataclass
class Rollout:
    """T steps of W workers, time first.

    `next_observation` is the observation before any reset, from which values of truncated episodes are
    bootstrapped. `last_observation`, after any reset, is where the next rollout starts. `behaviour` is None
    unless asked for.
    """

    observation: Array
    action: Num[Array, "T W *action"]
    reward: Float[Array, "T W"]
    terminated: Bool[Array, "T W"]
    truncated: Bool[Array, "T W"]
    next_observation: Array
    last_observation: Array
    behaviour: BehaviourOutputs | None = None

    @property
    def done(self) -> Bool[Array, "T W"]:
        """Whether the episode ended at this step."""
        return self.terminated | self.truncated

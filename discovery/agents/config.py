"""The settings of an agent."""

import dataclasses
from typing import Literal

from rl_discovery.discovery.agents.networks import Activation
from rl_discovery.discovery.agents.policies import Bounds


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
    """Divide rewards by the running deviation of the discounted return (gamma 0.99), as gymnasium does."""
    action_bounds: Bounds = "clip"
    """How a Gaussian policy's actions are brought into the range of continuous ones: `clip` or `tanh`."""
    discount: float | None = None
    """gamma of the task; None: the objective's own. Not for LPG, which has none."""
    gae_lambda: float | None = None
    """lambda of the task's advantage estimates; None: the objective's own."""
    reward_range: float = 1.0
    """x: each agent learns from rewards times a factor of its own, log-uniform between 1/x and x, so that no
    rule can count on their scale; 1: none."""
    step_range: float = 1.0
    """The same for its step sizes."""
    workers: int = 64
    """W, copies of the environment that one agent acts in."""
    rollout_steps: int = 20
    """T, steps of each worker between two agent updates."""

    @property
    def steps_per_update(self) -> int:
        """W x T, environment steps of one rollout."""
        return self.workers * self.rollout_steps

    @property
    def of_task(self) -> dict[str, float]:
        """gamma and lambda that belong to the task, where it has them."""
        settings = {"discount": self.discount, "gae_lambda": self.gae_lambda}
        return {name: value for name, value in settings.items() if value is not None}

    @property
    def revisits(self) -> bool:
        """Whether an update makes several optimiser steps on its rollout (PPO)."""
        return self.epochs * self.minibatches > 1

    @property
    def varies(self) -> bool:
        """Whether agents differ by the scale of their rewards or steps."""
        return self.reward_range != 1 or self.step_range != 1

    def without_variation(self) -> "AgentConfig":
        """The same for agents that are measured: with neither."""
        return dataclasses.replace(self, reward_range=1.0, step_range=1.0)

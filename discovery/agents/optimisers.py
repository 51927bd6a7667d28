"""The optimisers of an agent's networks."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.types import AgentParams


def make_optimiser(config: AgentConfig, learning_rate: float) -> optax.GradientTransformation:
    """The optimiser of one network: clip of the gradient's global norm, then SGD or Adam."""
    return optax.chain(_clipped_direction(config), optax.scale_by_learning_rate(learning_rate))


def agent_optimiser(config: AgentConfig) -> optax.GradientTransformation:
    """The optimiser of policy and second head, each with its step size; a shared body has the policy's."""
    if config.clip_together:
        return optax.chain(_clipped_direction(config), _by_network(config, optax.scale_by_learning_rate))
    return _by_network(config, functools.partial(make_optimiser, config))


def _by_network(
    config: AgentConfig, make: Callable[[float], optax.GradientTransformation]
) -> optax.GradientTransformation:
    rates = {"policy": config.policy_learning_rate, "head": config.head_learning_rate}
    return optax.multi_transform(
        {name: make(rate) for name, rate in rates.items()},
        lambda params: {name: "head" if name == "head" else "policy" for name in params},
    )


LEAST_SQUARE = 1e-30
"""Added under Adam's root: its derivative at 0, where meta-gradients may pass, is then finite."""


def _clipped_direction(config: AgentConfig) -> optax.GradientTransformation:
    rule = optax.identity()
    if config.optimiser == "adam":
        rule = optax.scale_by_adam(eps=config.adam_epsilon, eps_root=LEAST_SQUARE)
    direction = optax.chain(clip_by_global_norm(config.max_grad_norm), rule)
    if config.network == "tabular":
        return direction
    # One long vector has a fraction of the overhead of a dozen small arrays.
    return optax.flatten(direction)


def clip_by_global_norm(largest: float) -> optax.GradientTransformation:
    """optax's, but with a finite derivative where all gradients are 0: meta-gradients go through it."""

    def clip(updates: AgentParams, params: AgentParams | None = None) -> AgentParams:
        del params
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(updates))
        norm = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
        within = (norm < largest) | (squares == 0)
        return jax.tree.map(lambda leaf: jnp.where(within, leaf, (leaf / norm) * largest), updates)

    return optax.stateless(clip)

"""The metrics of a generation of evolution, all computed on the devices."""

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from rl_discovery.meta.evolution.base import SIGNAL_METRICS
from rl_discovery.meta.results import endless_share

if TYPE_CHECKING:
    from rl_discovery.meta.evolve import Evolution, MetaState, TaskResult


def moments(fitness: Float[Array, "groups size"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and standard deviation of the finite values."""
    finite = jnp.isfinite(fitness)
    count = jnp.maximum(jnp.sum(finite), 1)
    mean = jnp.sum(jnp.where(finite, fitness, 0.0)) / count
    return mean, jnp.sqrt(jnp.sum(jnp.where(finite, fitness - mean, 0.0) ** 2) / count)


def evolution_metrics(
    program: "Evolution",
    state: "MetaState",
    new_state: "MetaState",
    results: list["TaskResult"],
    fitness: Float[Array, "groups size"],
    signal: dict[str, Array],
) -> dict[str, Array]:
    """The metrics of one generation (docs/runs.md). With several environments, each has its own as well.

    Args:
        program: the static side of the run.
        state: before the generation.
        new_state: after it.
        results: of each environment.
        fitness: of all candidates.
        signal: `SIGNAL_METRICS` of the strategy, if it has them.
    """
    finite = jnp.isfinite(fitness)
    mean, deviation = moments(fitness)
    before, after = (ravel_pytree(program.last_mean(state))[0] for state in (state, new_state))
    horizons = jnp.concatenate([result.horizons for result in results])
    scale = 1.0 if state.scale is None else state.scale
    metrics = {
        "fitness_mean": mean,
        "fitness_best": jnp.max(jnp.where(finite, fitness, -jnp.inf)),
        "fitness_std": deviation,
        # Share of groups whose members differ. NaN differs from itself, so a pair of two NaNs is left out.
        "pair_agreement": jnp.mean(jnp.any(fitness != fitness[:, :1], axis=1) & jnp.any(finite, axis=1)),
        "nonfinite_candidates": jnp.sum(~finite),
        "meta_param_norm": jnp.linalg.norm(after),
        "update_norm": jnp.linalg.norm(after - before),
        "learning_rate": scale * jnp.asarray(program.learning_rate(state.generation), jnp.float32),
        "sigma": scale * program.strategy.sigma(state.strategy),
        "horizon_mean": jnp.mean(horizons.astype(jnp.float32)),
        **{name: signal.get(name, jnp.float32(jnp.nan)) for name in SIGNAL_METRICS},
        "endless": endless_share(fitness),
        "updates": jnp.stack([jnp.sum(result.horizons) * result.fitness.shape[1] for result in results]),
    }
    if len(results) == 1:
        return metrics | results[0].metrics
    for number, (task, result) in enumerate(zip(program.tasks, results, strict=True)):
        own = result.metrics | {"fitness_mean": moments(result.fitness)[0]}
        metrics |= {f"{name}.{number}.{task.name}": value for name, value in own.items()}
    return metrics

"""Evolution strategies by name: Open_ES streamed over evosax's state, and evosax's population ones."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import optax

from rl_discovery.discovery.registry import Registry
from rl_discovery.meta.config import EvolutionConfig
from rl_discovery.meta.evolution.base import Candidates, Problem, Schedule, Strategy
from rl_discovery.meta.evolution.open_es import StreamedOpenES
from rl_discovery.meta.evolution.population import cma_es, pgpe, sep_cma_es, snes

__all__ = [
    "STRATEGIES",
    "Candidates",
    "Entry",
    "Problem",
    "Schedule",
    "Strategy",
    "make_strategy",
    "schedules",
]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered strategy."""

    factory: Callable[[Problem], Strategy]
    description: str


STRATEGIES = Registry(
    "strategy",
    "strategies",
    Entry,
    {
        "open_es": Entry(
            StreamedOpenES, "OpenAI-ES with Adam and antithetic pairs; memory independent of the population"
        ),
        "snes": Entry(snes, "separable natural evolution strategy"),
        "pgpe": Entry(pgpe, "parameter-exploring policy gradients with Adam, pairs and a fixed sigma"),
        "cma_es": Entry(cma_es, "covariance matrix adaptation; up to 5,000 meta-parameters"),
        "sep_cma_es": Entry(sep_cma_es, "covariance matrix adaptation with a diagonal covariance"),
    },
)


def schedules(config: EvolutionConfig, generations: int) -> tuple[Schedule, Schedule]:
    """Learning rate and sigma as functions of the generation.

    Args:
        config: of the strategy.
        generations: of the whole run, at whose end a linear or cosine schedule is at its minimum.
    """
    learning_rate = _falling(config, generations)
    if config.warmup:
        learning_rate = _warmed_up(learning_rate, config.warmup)
    return learning_rate, _decay(config.sigma, config.sigma_decay, config.sigma_min)


def _falling(config: EvolutionConfig, generations: int) -> Schedule:
    start, end = config.learning_rate, config.learning_rate_min
    if config.learning_rate_schedule == "linear":
        return optax.linear_schedule(start, end, generations)
    if config.learning_rate_schedule == "cosine":
        return optax.cosine_decay_schedule(start, generations, alpha=end / start)
    return _decay(start, config.learning_rate_decay, end)


def _warmed_up(schedule: Schedule, warmup: int) -> Schedule:
    return lambda generation: schedule(generation) * jnp.minimum((generation + 1) / (warmup + 1), 1.0)


def _decay(initial: float, rate: float, floor: float) -> Schedule:
    # optax takes a rate of 1 for growth and would return the floor.
    if rate == 1.0:
        return optax.constant_schedule(initial)
    return optax.exponential_decay(initial, 1, rate, end_value=floor)


def make_strategy(name: str, problem: Problem) -> Strategy:
    """Builds a strategy.

    Raises:
        ValueError: no such name, or a problem the strategy cannot take.
    """
    return STRATEGIES.find(name).factory(problem)

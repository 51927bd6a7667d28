"""Levels for the tests of curricula: a few numbers, no environment, so that everything compiles at once."""

import jax
import jax.numpy as jnp
import numpy as np

from rl_discovery.envs.levels import LevelDistribution
from rl_discovery.meta.curriculum import Played

HORIZONS = (2, 9)


def sample(key):
    """A number that edits leave alone, by which a level's copies are known, and one that they redraw."""
    name_key, x_key = jax.random.split(key)
    return {"name": jax.random.bits(name_key, (), jnp.uint32), "x": jax.random.uniform(x_key)}


def edit(key, params):
    return params | {"x": jax.random.uniform(key)}


NUMBERS = LevelDistribution(
    name="numbers",
    description="numbers in [0, 1)",
    env=None,
    sample_params=sample,
    horizon=HORIZONS,
    edit=edit,
    statistics=lambda params: {"x": params["x"]},
)


def names(levels):
    """What tells levels and their copies apart."""
    return np.asarray(levels.params["name"]).tolist()


def contents(levels):
    """Each level as a tuple."""
    return list(zip(*(np.asarray(leaf).tolist() for leaf in jax.tree.leaves(levels)), strict=True))


def played(score, agent_return=None, best_return=None):
    score = jnp.asarray(score, jnp.float32)
    return Played(
        score=score,
        agent_return=-score if agent_return is None else jnp.asarray(agent_return, jnp.float32),
        best_return=2 * score if best_return is None else jnp.asarray(best_return, jnp.float32),
    )

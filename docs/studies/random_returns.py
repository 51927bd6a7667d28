"""Mean return of the uniformly random policy, for the references of `evaluation.references`.

python docs/studies/random_returns.py CartPole-v1 Breakout-MinAtar
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rl_discovery import envs

WORKERS = 256


@functools.partial(jax.jit, static_argnums=(0, 2))
def returns(env: Any, level: Any, limit: int, key: jax.Array) -> jax.Array:
    """Return of one episode per worker, its actions drawn uniformly from the action space."""

    def advance(carry, key):
        state, alive, total = carry
        action_key, step_key = jax.random.split(key)
        action = jax.vmap(env.action_space(level).sample)(jax.random.split(action_key, WORKERS))
        keys = jax.random.split(step_key, WORKERS)
        step = jax.vmap(env.step, (0, 0, 0, None))
        _, state, reward, terminated, truncated, _ = step(keys, state, action, level)
        return (state, alive & ~(terminated | truncated), total + alive * reward), None

    first, run = jax.random.split(key)
    _, state = jax.vmap(env.reset, (0, None))(jax.random.split(first, WORKERS), level)
    start = state, np.ones(WORKERS, bool), np.zeros(WORKERS, np.float32)
    (_, _, total), _ = jax.lax.scan(advance, start, jax.random.split(run, limit))
    return jnp.asarray(total)


def main() -> None:
    """A line per environment: mean, its standard error, and the number of episodes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("environments", nargs="+")
    parser.add_argument("--batches", type=int, default=16, help=f"of {WORKERS} episodes (default: 16)")
    arguments = parser.parse_args()
    for name in arguments.environments:
        env, level = envs.make(name)
        limit = int(level.max_steps_in_episode)
        keys = jax.random.split(jax.random.key(0), arguments.batches)
        found = np.concatenate([np.asarray(returns(env, level, limit, key)) for key in keys])
        error = found.std() / np.sqrt(len(found))
        print(f"{name:28} {found.mean():10.3f} ± {error:.3f} ({len(found)} episodes)", flush=True)


if __name__ == "__main__":
    main()

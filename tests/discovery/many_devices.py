"""Run as a script with eight forced host devices: trains the same lanes on 1, 2, 4 and 8 of them.

Writes one .npz file whose arrays are named "result/devices"; `test_blocks` compares them.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.lifetime import train_block
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.sharding import make_mesh, run_blocks
from tests.discovery.experience import CARTPOLE, small_grid

LANES, BLOCK_SIZE = 11, 2
BROKEN = 4  # a lane whose level has a reward that is not finite


def main(path):
    env, level = small_grid()
    learner = make_learner(env, level, AgentConfig(workers=4, rollout_steps=5), A2C())
    rng = np.random.default_rng(0)
    horizons = jnp.asarray(rng.integers(1, 9, LANES), jnp.int32)
    rewards = jnp.asarray(rng.uniform(-1, 1, (LANES, 2)), jnp.float32)

    def task(operands, lanes):
        rewards, horizons = operands
        levels = jax.tree.map(lambda x: jnp.broadcast_to(x, (BLOCK_SIZE, *x.shape)), level)
        levels = levels.replace(object_rewards=rewards.at[lanes].get(mode="clip"))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), lanes)
        ends = jnp.where(lanes < LANES, horizons.at[lanes].get(mode="clip"), 0)
        train_states = train_block(learner, {}, levels, ends, keys)
        leaves = [x.reshape(BLOCK_SIZE, -1) for x in jax.tree.leaves(train_states.agent.params)]
        return {"updates": ends, "agents": jnp.concatenate(leaves, axis=1)}

    mlp = make_learner(CARTPOLE, CARTPOLE.default_params, AgentConfig(network="mlp", workers=1), A2C())

    def born(level, lanes):
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), lanes)
        train_states = jax.vmap(mlp.begin, in_axes=(0, None))(keys, level)
        leaves = [x.reshape(BLOCK_SIZE, -1) for x in jax.tree.leaves(train_states.agent.params)]
        return jnp.concatenate(leaves, axis=1)

    results = {"devices/alone": np.array(make_mesh(1, alone=True).size)}
    for devices in (1, 2, 4, 8):
        mesh = make_mesh(devices)
        results[f"devices/{devices}"] = np.array(mesh.size)
        # With the optimisations of a real run: whether bits agree is a matter of what they do.
        run = jax.jit(
            lambda rewards, mesh=mesh: run_blocks(task, (rewards, horizons), horizons, BLOCK_SIZE, mesh)
        )
        for name, given in (("sound", rewards), ("broken", rewards.at[BROKEN].set(jnp.nan))):
            for part, value in run(given).items():
                results[f"{name}-{part}/{devices}"] = np.asarray(value)
        begin = jax.jit(lambda level, mesh=mesh: run_blocks(born, level, jnp.ones(LANES), BLOCK_SIZE, mesh))
        results[f"born-agents/{devices}"] = np.asarray(begin(CARTPOLE.default_params))
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])

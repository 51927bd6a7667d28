"""Three generations on 1, 2, 4 and 8 host devices, horizons log-uniform; a script for `test_generation`."""

import sys

import jax
import numpy as np

from tests.meta.tiny import program_with_horizons, tiny

DEVICES = (1, 2, 4, 8)


def main(path: str) -> None:
    """Writes every number of every generation's state and metrics."""
    found = {}
    for devices in DEVICES:
        # 7 pairs in blocks of 3: neither lanes nor blocks can be dealt evenly.
        program = program_with_horizons(tiny(es={"pairs": 7}, block_size=3, devices=devices), 1, 30)
        state = program.place(jax.jit(program.init)())
        where = jax.tree.map(lambda leaf: leaf.sharding, state)
        step = jax.jit(program.step, out_shardings=(where, None)).lower(state).compile()
        for number in range(3):
            state, metrics = step(state)
            found |= {f"{devices}/{number}/{name}": value for name, value in metrics.items()}
            leaves = jax.tree.leaves((state.strategy.mean, state.strategy.opt_state))
            flat = np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])
            found[f"{devices}/{number}/state"] = flat
    np.savez(path, **{name: np.asarray(value) for name, value in found.items()})


if __name__ == "__main__":
    main(sys.argv[1])

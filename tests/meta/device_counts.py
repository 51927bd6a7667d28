"""Three generations on one and on eight host devices, horizons log-uniform; for `test_generation`."""

import sys

import jax
import numpy as np

from rl_discovery.discovery.learning.settings import PPO_SMALL
from rl_discovery.meta.build import compile_step, make_program
from rl_discovery.meta.config import LevelsConfig
from rl_discovery.meta.held_out import HeldOut
from tests.meta.tiny import half_empty, program_with_horizons, tiny

# Each takes half a minute to compile. Two devices are those of `tests/scripts/test_meta_train.py`; the parts
# that care have 1, 2, 4 and 8 (`tests/discovery/test_sharding.py`, `tests/meta/evolution/test_open_es.py`).
DEVICES = (1, 8)
# A buffer that overflows, antagonists, and levels of all three kinds: sampled, edited and replayed.
CURRICULUM = {
    "score": "algorithmic_regret",
    "buffer_size": 9,
    "minimum_fill": 0.2,
    "edit_probability": 0.5,
    "edits": 1,
}
CASES = {
    # Neither lanes nor blocks can be dealt evenly.
    "es": {"es": {"pairs": 7}, "block_size": 3, "curriculum": CURRICULUM},
    # Half the levels are drawn again because nothing is to be had there.
    "scale": {
        "fitness": "normalised_return",
        "es": {"pairs": 7},
        "block_size": 3,
        "curriculum": CURRICULUM | {"score": "optimality_gap"},
    },
    # Minibatches and annealing, a horizon-aware drift.
    "lpo": {
        "objective": {
            "kind": "lpo",
            "width": 4,
            "progress_inputs": True,
            "horizon_inputs": True,
            "longest_horizon": 30,
        },
        "agent": {"epochs": 2, "minibatches": 2, "anneal": True},
        "es": {"pairs": 7},
        "block_size": 3,
    },
    # Agents with networks, in PPO's loop.
    "networks": {
        "objective": {"kind": "ta-ppo"},
        "agent": PPO_SMALL,
        "es": {"pairs": 8},
        "levels": {"distribution": "CartPole-v1"},
        "block_size": 4,
    },
    "meta_gradient": {
        "trainer": "meta_gradient",
        "meta_gradient": {"lanes": 16, "updates": 2},
        "block_size": 2,
        "curriculum": CURRICULUM | {"score": "l1_value_loss", "buffer_size": 20},
    },
}


def main(case: str, path: str) -> None:
    """Writes every number of every generation's state and metrics."""
    found = {}
    if case == "scale":
        build = LevelsConfig.build
        LevelsConfig.build = lambda self: half_empty(build(self))
    for devices in DEVICES:
        config = tiny(devices=devices, held_out={"every": 1, "levels": 5}, **CASES[case])
        program = make_program(config) if case == "meta_gradient" else program_with_horizons(config, 1, 30)
        state = program.place(jax.jit(program.init)())
        step = compile_step(program, state)
        held_out = HeldOut(config, program) if case == "es" else None
        if held_out is not None:
            held_out.compile(state)
        for number in range(3):
            state, metrics = step(state)
            numbers = {"metrics": metrics, "state": state}
            for leaf_path, leaf in jax.tree_util.tree_leaves_with_path(numbers):
                found[f"{devices}/{number}/{jax.tree_util.keystr(leaf_path)}"] = np.asarray(leaf)
        if held_out is not None:
            for name, value in held_out.evaluate(state).items():
                found[f"{devices}/held out/{name}"] = np.asarray(value)
    np.savez(path, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run checkpoints of processes that were killed, and of one with other devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.checkpoints.runs import RunCheckpoints

WRITER = """
import json, os, signal, sys, time
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from rl_discovery.checkpoints.runs import RunCheckpoints

root, delays = Path(sys.argv[1]), json.loads(sys.argv[2])
for number, delay in enumerate(delays):  # forks, before JAX has threads: Python and Orbax start once
    directory = root / str(number)
    child = os.fork()
    if child == 0:
        run = RunCheckpoints(directory)
        for generation in range(1, 1000):
            run.save(generation, {"x": np.full(300_000, generation, np.float32)}, {"generation": generation})
    while not (directory / "2").exists():
        time.sleep(0.001)
    while not list(directory.glob("*.orbax-checkpoint-tmp")):
        time.sleep(0.0005)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

mesh = jax.make_mesh((2,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.device_put(jnp.arange(8.0), jax.NamedSharding(mesh, jax.P("lanes")))
everywhere = jax.device_put(jnp.arange(3.0), jax.NamedSharding(mesh, jax.P()))
run = RunCheckpoints(root / "devices")
run.save(1, {"spread": spread, "everywhere": everywhere}, {})
run.close()
"""

DELAYS = [0.0, 0.01, 0.05, 0.1, 0.2]
"""Seconds from when a step begins to be written until its process is killed."""


@pytest.fixture(scope="module")
def written_elsewhere(tmp_path_factory):
    """Runs of other processes: those that were killed, by number, and one on two devices."""
    root = tmp_path_factory.mktemp("elsewhere")
    environment = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", WRITER, str(root), json.dumps(DELAYS)]
    subprocess.run(command, check=True, timeout=120, env=os.environ | environment, cwd=root)
    return root


@pytest.mark.parametrize("number", range(len(DELAYS)))
def test_process_killed_while_it_writes_leaves_an_intact_checkpoint(written_elsewhere, number):
    directory = written_elsewhere / str(number)
    like = {"x": np.zeros(300_000, np.float32)}
    run = RunCheckpoints(directory)
    restored = run.restore(like)
    generation = restored.generation
    assert generation >= 2
    assert (restored.damaged, restored.facts) == ((), {"generation": generation})
    np.testing.assert_array_equal(restored.state["x"], generation)
    run.save(generation + 1, like, {})
    run.close()
    assert not list(directory.glob("*tmp*")), "the half-written step was not cleaned up"


def test_state_of_two_devices_is_restored_on_one(written_elsewhere):
    run = RunCheckpoints(written_elsewhere / "devices")
    restored = run.restore({"spread": jnp.zeros(8), "everywhere": jnp.zeros(3)})
    run.close()
    np.testing.assert_array_equal(restored.state["spread"], np.arange(8.0))
    assert len(restored.state["spread"].sharding.device_set) == 1

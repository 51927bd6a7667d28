"""Dealing lanes to devices: each exactly once, evenly, and with the same bits on any number of them."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.discovery.sharding import assign_blocks, make_mesh, run_blocks
from tests.discovery import many_devices

assign_blocks_jit = jax.jit(assign_blocks, static_argnums=(1, 2))

# Lanes, block size, devices: padding or none, fewer and more blocks than devices.
SIZES = [(1, 1, 1), (1, 4, 2), (6, 1, 2), (6, 2, 2), (7, 2, 3), (12, 2, 2), (5, 1, 8)]


@settings(max_examples=60, deadline=None)
@given(size=st.sampled_from(SIZES), data=st.data())
def test_every_lane_is_dealt_once_sorted_by_cost_and_loads_are_balanced(size, data):
    lanes, block_size, devices = size
    numbers = st.integers(1, 2500)
    costs = np.array(data.draw(st.lists(numbers, min_size=lanes, max_size=lanes)), np.float32)
    plan = jax.device_get(assign_blocks_jit(costs, block_size, devices))
    blocks = -(-lanes // block_size)

    assert plan.blocks.shape == (blocks, block_size)
    assert sorted(plan.blocks.ravel()) == list(range(blocks * block_size))
    order = plan.blocks.ravel()[:lanes]
    assert np.all(order < lanes), "padding stands before a lane"
    assert np.all(np.diff(costs[order]) <= 0)
    assert plan.device.shape == (blocks,)
    assert np.all((plan.device >= 0) & (plan.device < devices))

    # Graham 1969: longest first is within 4/3 - 1/(3m) of the best finish (tried out here).
    times = costs[plan.blocks[:, 0]]
    finish = np.max(np.bincount(plan.device, times, devices))
    usable = min(devices, blocks)
    best = min(
        np.max(np.bincount(choice, times)) for choice in itertools.product(range(usable), repeat=blocks)
    )
    assert finish <= best * (4 / 3 - 1 / (3 * devices)) + 1e-3


def test_lanes_of_equal_cost_keep_their_order():
    plan = assign_blocks_jit(np.ones(6, np.float32), 2, 2)
    assert plan.blocks.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert plan.device.tolist() == [0, 1, 0]


def test_results_come_back_in_the_order_of_the_lanes_without_the_padding():
    costs = jnp.array([3.0, 9.0, 1.0, 7.0, 5.0])
    seen = []

    def task(scale, lanes):
        seen.append(lanes.shape)
        numbers = scale * lanes
        return {"number": numbers, "pair": jnp.stack([numbers, -numbers], axis=1)}

    found = jax.jit(lambda: run_blocks(task, jnp.float32(1), costs, 2, make_mesh(1)))()
    assert found["number"].tolist() == [0, 1, 2, 3, 4]
    assert found["pair"].shape == (5, 2)
    assert found["pair"][:, 1].tolist() == [0, -1, -2, -3, -4]
    assert set(seen) == {(2,)}


@pytest.mark.parametrize("devices", [0, -1, 1000])
def test_an_impossible_number_of_devices_is_refused(devices):
    with pytest.raises(ValueError, match=f"devices must be between 1 and .*, not {devices}"):
        make_mesh(devices)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What `many_devices` computes, in a process of its own: jax counts devices when it starts."""
    path = tmp_path_factory.mktemp("blocks") / "results.npz"
    root = Path(__file__).parents[2]
    forced = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-m", many_devices.__name__, str(path)]
    done = subprocess.run(
        # Devices that wait for each other wait for ever.
        command,
        cwd=root,
        env=os.environ | forced,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(path))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4, 8])
@pytest.mark.parametrize("name", ["sound-agents", "broken-agents", "sound-updates", "born-agents"])
def test_results_have_the_same_bits_on_any_number_of_devices(results, name, devices):
    assert results[f"{name}/{devices}"].tobytes() == results[f"{name}/1"].tobytes()


@pytest.mark.slow
def test_one_cpu_device_is_joined_by_a_second_unless_it_shall_be_alone(results):
    assert (results["devices/1"], results["devices/alone"], results["devices/4"]) == (2, 1, 4)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_a_lane_that_is_not_finite_stays_alone(results, devices):
    sound, broken = (results[f"{name}-agents/{devices}"] for name in ("sound", "broken"))
    lanes = np.arange(many_devices.LANES) != many_devices.BROKEN
    assert not np.any(np.isfinite(broken[~lanes]).all(1))
    assert np.array_equal(sound[lanes], broken[lanes])
    assert np.all(np.isfinite(sound))


@pytest.mark.slow
def test_the_lanes_of_that_comparison_differ(results):
    assert np.unique(results["sound-agents/1"], axis=0).shape[0] == many_devices.LANES
    assert np.unique(results["sound-updates/1"]).size > many_devices.LANES // 2

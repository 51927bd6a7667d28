"""Evaluations without training."""

import jax.numpy as jnp
import pytest

from rl_discovery.evaluation import lanes


@pytest.fixture
def untrained(monkeypatch):
    """Replaces training by a function of the levels; returns the calls."""
    calls = []

    def train(learner, mesh, block_size, meta_params, levels, keys, ends):
        calls.append((learner, block_size, keys, ends))
        return jnp.zeros(keys.shape[0]), jnp.zeros((keys.shape[0], ends.shape[0] - 1))

    monkeypatch.setattr(lanes, "train_lanes", train)
    return calls

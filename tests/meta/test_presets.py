import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_discovery.discovery.learning.settings import default_config
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.registry import UnknownNameError
from rl_discovery.meta.config import EvolutionConfig, RunConfig, from_json, to_json, validate
from rl_discovery.meta.presets import PRESETS
from tests.discovery.experience import progress, random_experience, randomised


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_survives_json(name):
    config = PRESETS.find(name).config
    assert config.preset == name
    assert validate(config) == config == from_json(to_json(config))


@pytest.mark.parametrize("name", PRESETS)
def test_agents_that_measure_an_objective_are_those_that_it_was_trained_with(name):
    """All but their numbers: evaluations have workers and rollouts of their own."""
    config = PRESETS.find(name).config
    if config.agent.network == "tabular":
        objective = TrainedObjective(config.objective.build(), {}, {"config": to_json(config)})
        env = config.levels.build().env
        found = default_config(env, env.default_params, objective)
        own = {"workers": found.workers, "rollout_steps": found.rollout_steps}
        assert found == dataclasses.replace(config.agent.without_variation(), **own)


@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS.find(name).config.trainer == "es"])
def test_the_members_of_a_pair_differ_where_evolution_starts(name):
    """A network that is even in its weights must not start at zeros."""
    config = PRESETS.find(name).config
    rule = config.build_objective()
    start = rule.init(jax.random.key(0))
    if config.es.initial_mean == "zeros":
        start = jax.tree.map(jnp.zeros_like, start)
    noise = randomised(np.random.default_rng(0), start)
    one, other = (jax.tree.map(lambda x, z: x + sign * z, start, noise) for sign in (1, -1))  # noqa: B023
    assert not np.allclose(outputs(rule, one), outputs(rule, other), rtol=1e-3)


def outputs(rule, meta_params):
    """What agents get from the network, or from the schedule where there is nothing else."""
    at = progress(3, 40)
    if isinstance(rule, LPG):
        experience = random_experience(np.random.default_rng(1), 5, 2, 4, rule.head_size)
        return rule.targets(meta_params, experience, at).pihat
    if isinstance(rule, LPO):
        return rule.before_relu(meta_params, jnp.linspace(-0.5, 0.5, 7), jnp.ones(7), at)
    return rule.scales(meta_params, at).step_size


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_what_it_is_for(name):
    assert len(PRESETS.find(name).description) > 20


def test_the_issues_presets_are_there():
    assert {"quickstart", "lpg", "ta-lpg", "lpg-cpu", "ta-lpg-cpu"} <= set(PRESETS)


def test_ta_lpg_is_the_papers():
    config = PRESETS.find("ta-lpg").config
    # What the paper does not say is the released code's; everything else is the default.
    assert config == RunConfig(es=EvolutionConfig(adam_b1=0.99, initial_mean="zeros"))
    found = {
        "pairs": config.es.pairs,
        "workers": config.agent.workers,
        "steps": config.agent.rollout_steps,
        "width": config.objective.width,
        "learning rate": config.es.learning_rate,
        "decay": config.es.learning_rate_decay,
        "floor": config.es.learning_rate_min,
        "sigma": config.es.sigma,
        "generations": config.generations,
        "levels": config.levels.distribution,
        "policy": config.agent.policy_learning_rate,
        "prediction": config.agent.head_learning_rate,
    }
    assert found == {
        "pairs": 512,
        "workers": 64,
        "steps": 20,
        "width": 256,
        "learning rate": 1e-2,
        "decay": 0.999,
        "floor": 1e-5,
        "sigma": 0.1,
        "generations": 2500,
        "levels": "all_vrandlife",
        "policy": 40.0,
        "prediction": 4.0,
    }


def test_lpo_is_the_papers():
    config = PRESETS.find("lpo").config
    found = {
        "candidates": (2 * config.es.pairs, config.es.group_size, config.groups),
        "learning rate": (config.es.learning_rate, config.es.learning_rate_decay),
        "sigma": (config.es.sigma, config.es.sigma_decay),
        "floors": (config.es.learning_rate_min, config.es.sigma_min),
        "released code": config.es.adam_b1,
        "where it can leave": config.es.initial_mean,
        "generations": config.generations,
        "environment": config.levels.distribution,
        "inputs": len(config.build_objective().inputs),
        "hidden": config.objective.width,
    }
    assert found == {
        "candidates": (64, 64, 1),
        "learning rate": (0.03, 0.99),
        "sigma": (0.03, 0.99),
        "floors": (1e-3, 0.01),
        "released code": 0.99,
        "where it can leave": "objective",
        "generations": 800,
        "environment": "SpaceInvaders-MinAtar",
        "inputs": 8,
        "hidden": 128,
    }
    steps = config.levels.horizon * config.agent.workers * config.agent.rollout_steps
    assert steps == pytest.approx(1e7, rel=1e-3)


@pytest.mark.parametrize(("name", "inputs"), [("ta-lpo", 16), ("ta-lpo-horizons", 24), ("ta-lpo-cpu", 24)])
def test_ta_lpo_is_lpo_with_more_inputs(name, inputs):
    rule = PRESETS.find(name).config.build_objective()
    assert (rule.name, len(rule.inputs)) == ("ta-lpo", inputs)


@pytest.mark.parametrize(("name", "sighted"), [("lpg", "ta-lpg"), ("lpg-cpu", "ta-lpg-cpu")])
def test_lpg_differs_from_ta_lpg_by_what_it_knows_of_the_horizon_alone(name, sighted):
    blind, sighted = PRESETS.find(name).config, PRESETS.find(sighted).config
    assert not blind.objective.horizon_inputs
    assert sighted.objective.horizon_inputs
    assert not blind.build_objective().uses_progress
    objective = blind.objective.replace(horizon_inputs=True, schedule=sighted.objective.schedule)
    assert dataclasses.replace(blind, preset=sighted.preset, objective=objective) == sighted


def test_an_unknown_preset_is_refused_with_the_closest_one():
    with pytest.raises(
        UnknownNameError, match="unknown preset 'quikstart': did you mean 'quickstart'"
    ) as caught:
        PRESETS.find("quikstart")
    assert "\n" not in str(caught.value)

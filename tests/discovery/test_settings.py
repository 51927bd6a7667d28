"""The agents' settings per environment and rule."""

import dataclasses
import types

import pytest

import envs
from discovery.agents.agent import AgentConfig
from discovery.objectives.hand_written_drifts import PPO
from discovery.objectives.registry import make_objective
from discovery.settings import (
    PPO_DISCOUNTS,
    PPO_ELSEWHERE,
    PPO_SETTINGS,
    PPO_TABLES,
    SMALL_MLP,
    TABLES,
    default_config,
    default_rule,
)

GRID, CARTPOLE = envs.make("gridworld/dense"), envs.make("CartPole-v1")


def test_default_settings_are_tables_for_integers_and_a_small_mlp_for_the_rest():
    tabular = AgentConfig(
        network="tabular",
        optimiser="sgd",
        policy_learning_rate=40.0,
        head_learning_rate=4.0,
        max_grad_norm=0.5,
    )
    mlp = AgentConfig(
        network="mlp", hidden=(32,), optimiser="adam", policy_learning_rate=1e-3, head_learning_rate=1e-3
    )
    expected = {"gridworld/dense": tabular, "gridworld/rand_small": mlp, "CartPole-v1": mlp}
    for name, config in expected.items():
        assert default_config(*envs.make(name)) == config


def test_a_rule_may_have_step_sizes_of_its_own_for_tables_only():
    class Rule:
        tabular_learning_rates = (8.0, 2.0)

    config = default_config(*GRID, Rule())
    assert config == AgentConfig(policy_learning_rate=8.0, head_learning_rate=2.0)
    assert default_config(*GRID, object()) == TABLES
    assert default_config(*CARTPOLE, Rule()) == SMALL_MLP


@pytest.mark.parametrize("name", ["ppo", "dpo", "no-drift", "lpo", "ta-lpo"])
def test_all_drifts_get_the_same_settings(name):
    rule = make_objective(name)
    assert default_config(*GRID, rule) == PPO_TABLES
    assert default_config(*CARTPOLE, rule) == PPO_SETTINGS["CartPole-v1"]
    assert default_config(*envs.make("Catch-bsuite"), rule) == PPO_ELSEWHERE


@pytest.mark.parametrize("name", ["ppo", "dpo", "lpo"])
def test_the_discount_is_the_tasks_unless_somebody_set_it(name):
    reacher, rule = types.SimpleNamespace(name="brax/reacher"), make_objective(name)
    assert default_rule(CARTPOLE[0], rule) == rule
    assert default_rule(reacher, rule) == dataclasses.replace(rule, discount=0.95)
    own = dataclasses.replace(rule, discount=0.9)
    assert default_rule(reacher, own) == own


def test_only_rules_in_ppos_loop_get_the_tasks_discount():
    rule = make_objective("a2c")
    assert default_rule(types.SimpleNamespace(name="brax/reacher"), rule) is rule


def test_discounts_belong_to_settings():
    assert set(PPO_DISCOUNTS) <= set(PPO_SETTINGS)
    assert PPO().discount == 0.99


def test_ppo_on_minatar_is_as_published():
    rates = {
        "Breakout-MinAtar": 1e-2,
        "SpaceInvaders-MinAtar": 7e-3,
        "Freeway-MinAtar": 1e-3,
        "Asterix-MinAtar": 3e-3,
    }
    for name, rate in rates.items():
        assert PPO_SETTINGS[name] == AgentConfig(
            network="mlp",
            hidden=(64, 64),
            optimiser="adam",
            adam_epsilon=1e-5,
            policy_learning_rate=rate,
            head_learning_rate=rate,
            max_grad_norm=0.5,
            clip_together=True,
            anneal=True,
            epochs=4,
            minibatches=8,
            workers=64,
            rollout_steps=128,
        )


@pytest.mark.parametrize("name", PPO_SETTINGS)
def test_every_setting_belongs_to_an_environment_that_exists(name):
    env, _ = envs.make(name)
    assert env.name == name

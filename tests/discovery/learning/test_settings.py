"""The agents' settings per environment and rule."""

import dataclasses

import pytest

from rl_discovery import envs
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.build import make_learner
from rl_discovery.discovery.learning.settings import (
    PPO_ELSEWHERE,
    PPO_SETTINGS,
    PPO_TABLES,
    SMALL_MLP,
    TABLES,
    TRAINED,
    default_config,
)
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.random import Random
from rl_discovery.discovery.objectives.registry import make_objective

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
    class Rule(Random):
        tabular_learning_rates = (8.0, 2.0)

    config = default_config(*GRID, Rule())
    assert config == AgentConfig(policy_learning_rate=8.0, head_learning_rate=2.0)
    assert default_config(*GRID, Random()) == TABLES
    assert default_config(*CARTPOLE, Rule()) == SMALL_MLP


@pytest.mark.parametrize("name", ["ppo", "dpo", "no-drift", "lpo", "ta-lpo"])
def test_all_drifts_get_the_same_settings(name):
    rule = make_objective(name)
    assert default_config(*GRID, rule) == PPO_TABLES
    assert default_config(*CARTPOLE, rule) == PPO_SETTINGS["CartPole-v1"]
    assert default_config(*envs.make("Catch-bsuite"), rule) == PPO_ELSEWHERE


IN_PPOS_LOOP = {"epochs": 4, "minibatches": 2, "anneal": True}
OTHERS = {
    "optimiser": "adam",
    "policy_learning_rate": 7.0,
    "head_learning_rate": 3,
    "max_grad_norm": 2.0,
    "clip_together": True,
    "adam_epsilon": 1e-5,
    "anneal": True,
    "epochs": 3,
    "minibatches": 2,
    "scale_rewards": True,
}


def evolved(**agent):
    """An objective whose card says with what agents it was trained."""
    card = {"config": {"agent": {"network": "tabular", "workers": 16} | agent}}
    return TrainedObjective(make_objective("lpg"), {}, card)


def test_every_setting_of_an_update_is_tested_below():
    assert set(OTHERS) == set(TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_agents_on_tables_are_as_the_objective_was_trained(name):
    config = default_config(*GRID, evolved(**{name: OTHERS[name]}))
    assert config == dataclasses.replace(TABLES, **{name: OTHERS[name]})


def test_networks_learn_in_the_loop_that_the_objective_was_trained_in():
    assert default_config(*CARTPOLE, evolved(**IN_PPOS_LOOP)) == PPO_SETTINGS["CartPole-v1"]
    assert default_config(*CARTPOLE, evolved(policy_learning_rate=7.0)) == SMALL_MLP


@pytest.mark.parametrize("loop", [{}, IN_PPOS_LOOP])
def test_rewards_are_scaled_wherever_the_objective_was_trained_with_scaled_ones(loop):
    plain = default_config(*CARTPOLE, evolved(**loop))
    scaled = default_config(*CARTPOLE, evolved(scale_rewards=True, **loop))
    assert scaled == dataclasses.replace(plain, scale_rewards=True)


def test_a_card_that_names_few_settings_leaves_the_others_as_the_rule_has_them():
    card = {"config": {"agent": {"network": "tabular", "max_grad_norm": 2.0}}}
    found = default_config(*GRID, TrainedObjective(make_objective("ta-lpo"), {}, card))
    assert found == dataclasses.replace(PPO_TABLES, max_grad_norm=2.0)


def test_objectives_trained_with_networks_leave_tables_as_they_are():
    assert default_config(*GRID, evolved(network="mlp", policy_learning_rate=1e-3)) == TABLES


@pytest.mark.parametrize(
    "agent",
    [
        {"epochs": 0},
        {"epochs": True},
        {"epochs": 2.5},
        {"minibatches": -1},
        {"policy_learning_rate": float("nan")},
        {"policy_learning_rate": float("inf")},
        {"policy_learning_rate": "40"},
        {"optimiser": "momentum"},
        {"anneal": "yes"},
        {"network": ["tabular"]},
    ],
)
def test_a_card_that_makes_no_sense_changes_nothing(agent):
    assert default_config(*GRID, evolved(**agent)) == TABLES


@pytest.mark.parametrize("card", [{}, {"config": None}, {"config": []}, {"config": {"agent": "tabular"}}])
def test_a_card_without_agents_changes_nothing(card):
    objective = TrainedObjective(make_objective("ppo"), {}, card)
    assert default_config(*GRID, objective) == PPO_TABLES
    assert default_config(*CARTPOLE, objective) == PPO_SETTINGS["CartPole-v1"]


@pytest.mark.parametrize("name", ["ppo", "dpo", "lpo", "a2c"])
def test_the_tasks_discounts_replace_the_rules(name):
    rule = make_objective(name)
    config = dataclasses.replace(PPO_SETTINGS["CartPole-v1"], discount=0.5, gae_lambda=0.25)
    assert make_learner(*CARTPOLE, config, rule).objective == dataclasses.replace(
        rule, discount=0.5, gae_lambda=0.25
    )
    assert make_learner(*CARTPOLE, config, rule, critic=True).critic.discount == 0.5
    assert make_learner(*CARTPOLE, PPO_SETTINGS["CartPole-v1"], rule).objective == rule


def test_a_discount_for_a_rule_that_has_none_is_refused():
    config = dataclasses.replace(SMALL_MLP, discount=0.9)
    with pytest.raises(ValueError, match="lpg has no discount"):
        make_learner(*CARTPOLE, config, make_objective("lpg"))


def test_discounts_on_brax_are_rejaxs():
    found = {name: (c.discount, c.gae_lambda) for name, c in PPO_SETTINGS.items() if "brax" in name}
    assert found == {
        "brax/reacher": (0.95, None),
        "brax/pusher": (0.95, None),
        "brax/hopper": (0.995, None),
        "brax/ant": (0.98, 0.8),
        "brax/halfcheetah": (None, 0.8),
        "brax/walker2d": (None, 0.8),
        "brax/humanoidstandup": (None, 0.8),
    }


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

"""Default settings of agents per environment and rule, with their sources.

`default_config` looks them up. Training and evaluation use it for agents without settings of their own.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from gymnax.environments.environment import Environment
from pydantic import TypeAdapter, ValidationError

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.agents.spaces import action_space, is_discrete, name_of, observation_space
from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning

TABLES = AgentConfig()
"""Tabular agents (LPG paper, table 4)."""

SMALL_MLP = AgentConfig(network="mlp", optimiser="adam", policy_learning_rate=1e-3, head_learning_rate=1e-3)
"""All other agents of rules that update once per rollout."""

LARGER_STEPS = frozenset({"chain/state_distraction", "CartPole-v1", "Acrobot-v1"})
"""Where A2C with a network learns most with a step size of 1e-2, of 1e-4 to 1e-2 and over 30 and 100 updates;
on gridworlds seen as planes that is 1e-3. On Acrobot it learns nothing within them."""


def tuned_steps(config: AgentConfig, environment: str) -> AgentConfig:
    """The settings with A2C's step sizes on this environment, where agents have one gradient per rollout."""
    if config.revisits or environment not in LARGER_STEPS:
        return config
    return dataclasses.replace(config, policy_learning_rate=0.01, head_learning_rate=0.01)


def _ppo(learning_rate: float, **changes: Any) -> AgentConfig:
    """PPO's loop: Adam with epsilon 1e-5, one clip for both networks, annealed (PPO reference code)."""
    settings: dict[str, Any] = {
        "network": "mlp",
        "hidden": (64, 64),
        "optimiser": "adam",
        "policy_learning_rate": learning_rate,
        "head_learning_rate": learning_rate,
        "adam_epsilon": 1e-5,
        "max_grad_norm": 0.5,
        "clip_together": True,
        "anneal": True,
        "epochs": 4,
        "minibatches": 8,
        "workers": 64,
        "rollout_steps": 128,
    } | changes
    return AgentConfig(**settings)


def _scaled(learning_rate: float, **changes: Any) -> AgentConfig:
    """tanh layers, observations scaled, step sizes not annealed (as rejax for continuous actions)."""
    common: dict[str, Any] = {
        "activation": "tanh",
        "scale_observations": True,
        "anneal": False,
        "adam_epsilon": 1e-8,
    }
    return _ppo(learning_rate, **(common | changes))


_CLASSIC = _scaled(
    3e-4, adam_epsilon=1e-5, scale_rewards=True, workers=16, rollout_steps=16, epochs=4, minibatches=4
)
"""RL Baselines3 Zoo's for MountainCar, but for lambda and entropy bonus, which belong to the rule. Rewards
are scaled because ours clips values."""

_SHORT_EPISODES = _scaled(
    2.75e-4,
    workers=128,
    rollout_steps=128,
    epochs=8,
    minibatches=64,
    max_grad_norm=0.1,
    discount=0.95,
)

_RUNNER = _scaled(
    1.72e-3, workers=32, rollout_steps=32, epochs=2, minibatches=2, max_grad_norm=5.0, gae_lambda=0.8
)

PPO_SETTINGS = {
    # OPEN (Goldie et al. 2024, arXiv 2407.07082), rl_optimizer/configs.py at b65037b; in 1e7 steps
    # PPO reaches 50.1, 167.1, 61.8 and 15.0 there. Step sizes are the specification's; that file has none.
    "Breakout-MinAtar": _ppo(1e-2),
    "SpaceInvaders-MinAtar": _ppo(7e-3),
    "Freeway-MinAtar": _ppo(1e-3),
    "Asterix-MinAtar": _ppo(3e-3),
    # Ours: CleanRL's step size with 4 workers; 500 at 5e5 steps, five seeds.
    "CartPole-v1": _ppo(2.5e-4, workers=4, minibatches=4),
    # Two seeds of each at 5e5 steps: -77 and -78, -113 and -122; Acrobot with PPO_ELSEWHERE: -494 and -500.
    "Acrobot-v1": _CLASSIC,
    "MountainCar-v0": _CLASSIC,
    # rejax 0.1.3, configs/brax, tuned there for 1 to 5 million steps. Rules in PPO's loop differ by their
    # drifts, so gamma and lambda are the task's.
    "brax/reacher": _SHORT_EPISODES,
    "brax/pusher": _SHORT_EPISODES,
    "brax/hopper": _scaled(
        2.57e-4, workers=32, rollout_steps=32, epochs=9, minibatches=2, max_grad_norm=1.0, discount=0.995
    ),
    "brax/ant": _scaled(
        1.08e-4, workers=64, rollout_steps=64, epochs=8, minibatches=16, discount=0.98, gae_lambda=0.8
    ),
    "brax/halfcheetah": _RUNNER,
    "brax/walker2d": _RUNNER,
    "brax/humanoidstandup": _RUNNER,
}
"""Rules in PPO's loop, by environment."""

PPO_CONTINUOUS = _scaled(3e-4, workers=32, rollout_steps=64, epochs=8, minibatches=8)
"""Continuous actions everywhere else: ours, between rejax's for hopper and ant; not tuned."""

PPO_ELSEWHERE = _ppo(2.5e-4, workers=16, minibatches=4)
"""Everywhere else: CleanRL's step size for Atari; not tuned."""

PPO_TABLES = dataclasses.replace(
    TABLES, policy_learning_rate=30.0, head_learning_rate=2.0, epochs=4, minibatches=4, anneal=True
)
"""Tabular agents in PPO's loop: step sizes tuned with 16 workers (docs/performance.md)."""

PPO_SMALL = _scaled(
    1e-3, adam_epsilon=1e-5, anneal=True, scale_rewards=True, workers=8, rollout_steps=64, minibatches=4
)
"""One setting for tasks of many kinds, ours: small rollouts, for many updates in little time. After 33,000
steps Acrobot has -97 and brax/inverted_pendulum 964 (four seeds each)."""


TRAINED = (
    *("optimiser", "policy_learning_rate", "head_learning_rate", "max_grad_norm", "clip_together"),
    *("adam_epsilon", "anneal", "epochs", "minibatches", "scale_rewards"),
)
"""Settings that a learned objective's agents have as it was trained, as far as the task has the same kind."""


def default_config(
    env: Environment, level: Any, objective: Objective | TrainedObjective | None = None
) -> AgentConfig:
    """The settings for this environment and objective.

    A rule that evolved with one loop, step size or scale of rewards does worse with another. So agents learn
    with an objective as its card says that it was trained: on tables with all of `TRAINED`, if it was trained
    on tables; with networks in PPO's loop and with scaled rewards, if it was trained so.

    Raises:
        InvalidEnvironmentError: spaces that no agent supports.
    """
    rule, trained = (
        (objective.rule, _trained(objective.card))
        if isinstance(objective, TrainedObjective)
        else (objective, {})
    )
    tabular = is_discrete(observation_space(env, level))
    if isinstance(rule, MirrorLearning) or (AgentConfig(**trained).revisits and not tabular):
        elsewhere = PPO_ELSEWHERE if is_discrete(action_space(env, level)) else PPO_CONTINUOUS
        config = PPO_TABLES if tabular else PPO_SETTINGS.get(name_of(env), elsewhere)
    else:
        config = with_own_rates(TABLES if tabular else SMALL_MLP, rule)
    if tabular and trained.get("network") == "tabular":
        return dataclasses.replace(config, **trained)
    return dataclasses.replace(config, scale_rewards=trained.get("scale_rewards") or config.scale_rewards)


def _trained(card: Mapping[str, Any]) -> dict[str, Any]:
    """The network and those of `TRAINED` that a card names.

    A card comes from outside: one that does not hold what it should tells nothing.
    """
    config = card.get("config")
    agent = config.get("agent") if isinstance(config, Mapping) else None
    if not isinstance(agent, Mapping):
        return {}
    known = {name: agent[name] for name in ("network", *TRAINED) if name in agent}
    try:
        found = TypeAdapter(AgentConfig).validate_json(json.dumps(known), strict=True)
    except ValidationError:
        return {}
    sizes = [value for value in known.values() if not isinstance(value, bool | str)]
    sound = all(0 < size < float("inf") for size in sizes)
    return {name: getattr(found, name) for name in known} if sound else {}


def with_own_rates(config: AgentConfig, rule: Objective | None) -> AgentConfig:
    """The settings, for tabular agents with the rule's own step sizes of policy and head, if it has any.

    A hand-written baseline must not be held to the step sizes of a learned objective.
    """
    rates = None if rule is None else rule.tabular_learning_rates
    if config.network != "tabular" or rates is None:
        return config
    return dataclasses.replace(config, policy_learning_rate=rates[0], head_learning_rate=rates[1])

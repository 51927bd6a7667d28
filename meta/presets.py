"""Named configurations: what each costs, what it should reach and the command that runs it."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.learning.settings import (
    PPO_SETTINGS,
    PPO_SMALL,
    PPO_TABLES,
    SMALL_MLP,
    tuned_steps,
)
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.ppo import PPO
from rl_discovery.discovery.registry import Registry
from rl_discovery.meta.config import (
    CheckpointConfig,
    CurriculumConfig,
    EnvironmentConfig,
    EvolutionConfig,
    HeldOutConfig,
    LevelsConfig,
    MetaGradientConfig,
    RunConfig,
)
from rl_discovery.meta.objective_settings import objective_settings


@dataclasses.dataclass(frozen=True)
class Preset:
    """A configuration with what to expect of it."""

    config: RunConfig
    description: str


# The papers' hyper-parameters (Jackson et al. 2024, appendix) are the defaults of `RunConfig`; Adam's b1 and
# the initial mean are those of the released code. Presets for a GPU leave held-out evaluation off, because
# what it costs there has not been measured.
_TA_LPG = RunConfig(es=EvolutionConfig(adam_b1=0.99, initial_mean="zeros"))

# Chosen by measurement (docs/studies): a narrow GRU and few workers allow more generations; pihat of
# standard deviation 1 and a learned step size are worth more than ten times the budget. Rewards scaled so, a
# mean that starts at zero and long steps of the prediction gain as much again.
_TA_LPG_CPU = RunConfig(
    preset="ta-lpg-cpu",
    generations=13_200,
    objective=objective_settings(LPG, encoding="scaled", normalise_pihat=True, schedule=True, width=8),
    agent=AgentConfig(workers=16, policy_learning_rate=80.0, head_learning_rate=12.0, scale_rewards=True),
    es=EvolutionConfig(
        pairs=32,
        sigma=0.2,
        initial_mean="zeros",
        learning_rate=3e-2,
        learning_rate_schedule="cosine",
        learning_rate_min=0.0,
        average_decay=0.95,
    ),
    levels=LevelsConfig(distribution="all_vrandlife"),
    block_size=8,
    checkpoint=CheckpointConfig(every=50),
    held_out=HeldOutConfig(every=50),
)

# Starts from A2C, with the step sizes that A2C was tuned to, and learns what to add: a small GRU whose heads
# are scaled down, and a schedule (docs/studies).
_TA_LPG_A2C_CPU = dataclasses.replace(
    _TA_LPG_CPU,
    preset="ta-lpg-a2c-cpu",
    generations=3_300,
    objective=objective_settings(LPG, form="a2c_residual", schedule=True, encoding="scaled", width=8),
    agent=AgentConfig(workers=16, policy_learning_rate=80.0, head_learning_rate=4.0),
    es=dataclasses.replace(_TA_LPG_CPU.es, pairs=64, initial_mean="objective"),
)

# Only a schedule: ten parameters.
_TA_A2C_CPU = dataclasses.replace(
    _TA_LPG_A2C_CPU, preset="ta-a2c-cpu", generations=330, objective=objective_settings(A2C, schedule=True)
)


# GROOVE (Jackson et al. 2023): the released code's defaults, and its curriculum.
_META_GRADIENT = RunConfig(
    preset="lpg-meta-gradient",
    generations=30_000,
    objective=objective_settings(LPG, horizon_inputs=False),
    trainer="meta_gradient",
    levels=LevelsConfig(distribution="all_shortlife"),
    block_size=2,
    checkpoint=CheckpointConfig(every=500),
)
_REGRET = CurriculumConfig(score="algorithmic_regret")

# The step size is ours and not tuned: few meta-steps must go further.
_META_GRADIENT_CPU = dataclasses.replace(
    _META_GRADIENT,
    preset="lpg-meta-gradient-cpu",
    objective=objective_settings(LPG, horizon_inputs=False, width=32),
    agent=AgentConfig(workers=16),
    meta_gradient=MetaGradientConfig(lanes=64, learning_rate=1e-3),
    levels=LevelsConfig(distribution="all_randlife"),
    block_size=4,
    # A meta-step is 5 updates, an evaluation a whole lifetime: as long as 5 meta-steps.
    held_out=HeldOutConfig(every=500),
)

# Meta-gradients first, which improve quickly, then evolution, which goes on improving where they stop. Both
# stages have the objective and the agents of ta-lpg-cpu.
_TA_META_GRADIENT_CPU = dataclasses.replace(
    _META_GRADIENT_CPU,
    preset="ta-lpg-meta-gradient-cpu",
    generations=1_660,
    objective=_TA_LPG_CPU.objective,
    agent=_TA_LPG_CPU.agent,
    levels=_TA_LPG_CPU.levels,
)
_TWO_STAGE_CPU = dataclasses.replace(
    _TA_LPG_CPU, preset="ta-lpg-two-stage-cpu", start_from="preset:ta-lpg-meta-gradient-cpu"
)
_REGRET_CPU = dataclasses.replace(_REGRET, buffer_size=1000)


def _regret(config: RunConfig, name: str, curriculum: CurriculumConfig) -> RunConfig:
    """The same on levels that are replayed by algorithmic regret."""
    return dataclasses.replace(config, preset=name, curriculum=curriculum)


def _blind(config: RunConfig, name: str) -> RunConfig:
    """The same without horizon inputs and without a schedule."""
    objective = config.objective.replace(horizon_inputs=False, schedule=False)
    return dataclasses.replace(config, preset=name, objective=objective)


# LPO (Lu et al. 2022) and TA-LPO (Jackson et al. 2024): OpenES with 64 candidates that all meet the same
# environment and random numbers, 1e7 steps of PPO each. b1 and the floors are those of the released code. The
# initial mean is not: from zeros, both members of a pair have the same drift, so evolution could not start.
_LPO = RunConfig(
    preset="lpo",
    generations=800,
    objective=objective_settings(LPO),
    agent=PPO_SETTINGS["SpaceInvaders-MinAtar"],
    es=EvolutionConfig(
        pairs=32,
        group_size=64,
        learning_rate=0.03,
        learning_rate_decay=0.99,
        learning_rate_min=1e-3,
        sigma=0.03,
        sigma_decay=0.99,
        sigma_min=0.01,
        adam_b1=0.99,
    ),
    levels=LevelsConfig(distribution="SpaceInvaders-MinAtar", horizon=1220),
    checkpoint=CheckpointConfig(every=1),
)

# Ours: tabular gridworlds, where a PPO agent makes hundreds of thousands of steps a second, and lifetimes so
# short that PPO's clip limits it. Over longer ones drifts differ by less than noise; over shorter ones gains
# over the first updates come at the expense of later ones (docs/performance.md). Groups of 8 candidates meet
# a level, because levels differ more than candidates do. With the paper's width, sigma and step size, so few
# and noisy generations move away from PPO at random.
_DRIFTS_CPU = dataclasses.replace(
    _LPO,
    generations=600,
    agent=dataclasses.replace(PPO_TABLES, workers=16),
    objective=objective_settings(LPO, width=16),
    es=EvolutionConfig(
        pairs=128,
        group_size=8,
        learning_rate=0.01,
        learning_rate_decay=0.996,
        sigma=0.1,
        sigma_decay=0.999,
        sigma_min=1e-5,
    ),
    levels=LevelsConfig(distribution="all_vrandlife", horizon=10, longest_horizon=100),
    block_size=8,
    checkpoint=CheckpointConfig(every=20),
    held_out=HeldOutConfig(every=20),
)

# A drift that does not know how long an agent will live is no better than PPO over 10 to 100 updates at once.
# So it has one horizon, as in the paper. Lifetimes at a quarter of the cost allow four times the candidates.
_LPO_CPU = dataclasses.replace(
    _DRIFTS_CPU,
    preset="lpo-cpu",
    generations=400,
    es=dataclasses.replace(
        _DRIFTS_CPU.es, pairs=512, learning_rate=0.02, learning_rate_decay=0.993, sigma_decay=0.998
    ),
    levels=LevelsConfig(distribution="all_vrandlife", horizon=10),
    checkpoint=CheckpointConfig(every=10),
)


def _aware(config: RunConfig, name: str, **inputs: Any) -> RunConfig:
    """The same with horizon inputs of the drift."""
    objective = config.objective.replace(progress_inputs=True, **inputs)
    return dataclasses.replace(config, preset=name, objective=objective)


# A schedule is most of what a drift can gain where the horizon varies, and learns with longer steps.
_TA_LPO_CPU = dataclasses.replace(
    _aware(_DRIFTS_CPU, "ta-lpo-cpu", horizon_inputs=True, schedule=True, encoding="scaled"),
    es=dataclasses.replace(_TA_LPG_A2C_CPU.es, pairs=128, group_size=8, sigma_decay=0.999, sigma_min=1e-5),
    levels=LevelsConfig(distribution="all_vrandlife", horizon=10, longest_horizon=250),
)


# Only a schedule: twenty parameters.
_TA_PPO_CPU = dataclasses.replace(
    _DRIFTS_CPU,
    preset="ta-ppo-cpu",
    generations=330,
    objective=objective_settings(PPO, schedule=True),
    es=EvolutionConfig(pairs=64, sigma=0.2, learning_rate=3e-2, learning_rate_decay=0.99, average_decay=0.95),
    levels=LevelsConfig(distribution="all_vrandlife"),
)

# Each environment has a third of the candidates, so that a drift that suits only tables does not win. Agents
# live on gridworlds as in ta-lpo-cpu, on the others for about 50,000 steps.
_LPO_MANY_CPU = dataclasses.replace(
    _DRIFTS_CPU,
    preset="lpo-many-cpu",
    es=dataclasses.replace(_DRIFTS_CPU.es, pairs=48),
    held_out=HeldOutConfig(every=100),
    also=(
        EnvironmentConfig(
            levels=LevelsConfig(distribution="CartPole-v1", horizon=100),
            agent=PPO_SETTINGS["CartPole-v1"],
            block_size=16,
        ),
        EnvironmentConfig(
            levels=LevelsConfig(distribution="Acrobot-v1", horizon=200),
            agent=PPO_SETTINGS["Acrobot-v1"],
            block_size=8,
        ),
    ),
)


def _also(
    agent: AgentConfig, horizons: tuple[int, int], block_size: int, *names: str
) -> Iterator[EnvironmentConfig]:
    """More environments for agents that differ in step sizes at most; gridworlds are seen as planes."""
    low, high = horizons
    for name in names:
        planes: Any = "planes" if name.startswith("all") else None
        levels = LevelsConfig(distribution=name, horizon=low, longest_horizon=high, observation=planes)
        yield EnvironmentConfig(levels=levels, agent=tuned_steps(agent, name), block_size=block_size)


def _seven_kinds(config: RunConfig, preset: str, agent: AgentConfig) -> RunConfig:
    """On tables and six more kinds of tasks, over lifetimes of a factor of 30."""
    names = (*_FOUR_KINDS, "Pendulum-v1", "brax/inverted_pendulum")
    return dataclasses.replace(
        config,
        preset=preset,
        generations=250,
        es=dataclasses.replace(config.es, pairs=56),
        levels=LevelsConfig(distribution="all_vrandlife", horizon=8, longest_horizon=240),
        held_out=HeldOutConfig(every=50, levels=16),
        also=tuple(_also(agent, (8, 240), 4, *names)),
    )


_FOUR_KINDS = ("all_vrandlife", "chain/state_distraction", "CartPole-v1", "Acrobot-v1")
_NETWORKS = dataclasses.replace(SMALL_MLP, hidden=(64, 64), workers=16)
_TA_PPO_MANY_CPU = _seven_kinds(_TA_PPO_CPU, "ta-ppo-many-cpu", PPO_SMALL)
_TA_A2C_MANY_CPU = _seven_kinds(
    _TA_A2C_CPU,
    "ta-a2c-many-cpu",
    dataclasses.replace(_NETWORKS, scale_observations=True, scale_rewards=True),
)

# Agents differ by the scale of their rewards and steps: what is learned must not depend on either.
_TA_LPG_MANY_CPU = dataclasses.replace(
    _TA_LPG_A2C_CPU,
    preset="ta-lpg-many-cpu",
    generations=2_000,
    agent=dataclasses.replace(_TA_LPG_A2C_CPU.agent, reward_range=10.0, step_range=4.0),
    es=dataclasses.replace(_TA_LPG_A2C_CPU.es, pairs=60),
    also=tuple(
        _also(dataclasses.replace(_NETWORKS, reward_range=10.0, step_range=4.0), (10, 250), 8, *_FOUR_KINDS)
    ),
)

_TA_LPO_HORIZONS = dataclasses.replace(
    _aware(_LPO, "ta-lpo-horizons", horizon_inputs=True),
    es=dataclasses.replace(_LPO.es, group_size=16),
    levels=dataclasses.replace(_LPO.levels, horizon=12, longest_horizon=1220),
)

# Without held-out evaluations: they would compile for longer than they run.
_QUICKSTART = dataclasses.replace(
    _TA_LPG_A2C_CPU,
    preset="quickstart",
    generations=120,
    # So short a run ends while it is still improving: its learning rate falls by less than half.
    es=dataclasses.replace(
        _TA_LPG_A2C_CPU.es,
        learning_rate_schedule="exponential",
        learning_rate_decay=0.995,
        learning_rate_min=1e-5,
    ),
    checkpoint=CheckpointConfig(every=20),
    held_out=HeldOutConfig(),
)

PRESETS = Registry(
    "preset",
    "presets",
    Preset,
    {
        "quickstart": Preset(
            _QUICKSTART,
            "TA-LPG from A2C, ahead of A2C after 2 to 4 minutes on 2 CPU cores; what `make discover` runs",
        ),
        "ta-lpg-cpu": Preset(
            _TA_LPG_CPU,
            "TA-LPG from random meta-parameters, 2e10 environment steps, 1 to 2 hours on 2 CPU cores",
        ),
        "lpg-cpu": Preset(_blind(_TA_LPG_CPU, "lpg-cpu"), "ta-lpg-cpu without horizon inputs and schedule"),
        "ta-lpg-a2c-cpu": Preset(
            _TA_LPG_A2C_CPU,
            "TA-LPG that starts from A2C and learns what to add, about an hour on 2 CPU cores",
        ),
        "ta-a2c-cpu": Preset(
            _TA_A2C_CPU,
            "A2C with a learned schedule of step size and entropy bonus, a few minutes on 2 CPU cores",
        ),
        "ta-ppo-cpu": Preset(
            _TA_PPO_CPU, "PPO with a learned schedule of step size, entropy bonus and clip, on 2 CPU cores"
        ),
        "ta-ppo-many-cpu": Preset(
            _TA_PPO_MANY_CPU,
            "PPO with a learned schedule, evolved on gridworlds, chains, classic control and Brax at once",
        ),
        "ta-a2c-many-cpu": Preset(
            _TA_A2C_MANY_CPU, "A2C with a learned schedule, evolved on the tasks of ta-ppo-many-cpu"
        ),
        "ta-lpg-many-cpu": Preset(
            _TA_LPG_MANY_CPU,
            "ta-lpg-a2c-cpu on gridworlds, chains, CartPole and Acrobot at once, agents of any scale",
        ),
        "ta-lpg-meta-gradient-cpu": Preset(
            _TA_META_GRADIENT_CPU, "TA-LPG by meta-gradients: the first stage of ta-lpg-two-stage-cpu"
        ),
        "ta-lpg-two-stage-cpu": Preset(
            _TWO_STAGE_CPU, "TA-LPG by meta-gradients first, then by evolution, for 2 CPU cores"
        ),
        "ta-lpg": Preset(
            _TA_LPG, "the paper's TA-LPG: 512 pairs, 64 workers, GRU 256, 2,500 generations; for a GPU"
        ),
        "lpg": Preset(_blind(_TA_LPG, "lpg"), "the paper's LPG with ES: as ta-lpg without horizon inputs"),
        "ta-lpg-groove": Preset(
            _regret(_TA_LPG, "ta-lpg-groove", _REGRET),
            "ta-lpg on levels replayed by regret (GROOVE with ES); for a GPU",
        ),
        "ta-lpg-groove-cpu": Preset(
            _regret(_TA_LPG_CPU, "ta-lpg-groove-cpu", _REGRET_CPU),
            "ta-lpg-cpu on levels replayed by regret, 1 to 2 hours on 2 CPU cores",
        ),
        "lpg-meta-gradient": Preset(
            _META_GRADIENT, "LPG by meta-gradients: 512 agents, GRU 256, K = 5, 30,000 meta-steps; for a GPU"
        ),
        "lpg-meta-gradient-cpu": Preset(
            _META_GRADIENT_CPU, "LPG by meta-gradients, about 2 hours on 2 CPU cores"
        ),
        "groove": Preset(
            _regret(_META_GRADIENT, "groove", _REGRET),
            "GROOVE: lpg-meta-gradient on levels replayed by regret; for a GPU",
        ),
        "groove-cpu": Preset(
            _regret(_META_GRADIENT_CPU, "groove-cpu", _REGRET_CPU),
            "GROOVE, about 2 hours on 2 CPU cores",
        ),
        "lpo": Preset(
            _LPO, "the paper's LPO: 64 candidates, SpaceInvaders at 1e7 steps, 800 generations; for a GPU"
        ),
        "ta-lpo": Preset(_aware(_LPO, "ta-lpo"), "lpo with n/N times the inputs (TA-LPO); for a GPU"),
        "ta-lpo-horizons": Preset(
            _TA_LPO_HORIZONS, "ta-lpo with log N too and horizons log-uniform, 1e5 to 1e7 steps; for a GPU"
        ),
        "lpo-cpu": Preset(
            _LPO_CPU,
            "LPO on small gridworlds with horizon 10, an hour on 2 CPU cores; made the shipped `lpo`",
        ),
        "lpo-many-cpu": Preset(
            _LPO_MANY_CPU, "LPO on small gridworlds, CartPole and Acrobot at once, for 2 CPU cores"
        ),
        "ta-lpo-cpu": Preset(
            _TA_LPO_CPU, "TA-LPO with a schedule on small gridworlds with horizons 10 to 250, for 2 CPU cores"
        ),
    },
)

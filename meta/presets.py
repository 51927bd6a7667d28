"""Named configurations: what each costs, what it should reach and the command that runs it."""

import dataclasses

from discovery.agents.agent import AgentConfig
from meta.config import CheckpointConfig, EvolutionConfig, LevelsConfig, ObjectiveConfig, RunConfig
from meta.errors import unknown_name


@dataclasses.dataclass(frozen=True)
class Preset:
    """A configuration with what to expect of it."""

    config: RunConfig
    description: str


# The papers' hyper-parameters (Jackson et al. 2024, appendix): the defaults of `RunConfig`.
_TA_LPG = RunConfig()

# Chosen by measurement on 2 cores, see docs/performance.md: a narrow GRU and few workers buy
# generations, and a high learning rate uses them.
_TA_LPG_CPU = RunConfig(
    preset="ta-lpg-cpu",
    generations=12_000,
    objective=ObjectiveConfig(width=32),
    agent=AgentConfig(workers=16),
    es=EvolutionConfig(pairs=64, learning_rate=3e-2, learning_rate_decay=0.9995, learning_rate_min=1e-3),
    levels=LevelsConfig(distribution="all_vrandlife"),
    block_size=8,
    checkpoint=CheckpointConfig(every=50),
)


def _blind(config: RunConfig, name: str) -> RunConfig:
    """The same without horizon inputs."""
    objective = dataclasses.replace(config.objective, horizon_inputs=False)
    return dataclasses.replace(config, preset=name, objective=objective)


_QUICKSTART = dataclasses.replace(
    _TA_LPG_CPU, preset="quickstart", generations=240, checkpoint=CheckpointConfig(every=20)
)

PRESETS: dict[str, Preset] = {
    "quickstart": Preset(
        _QUICKSTART, "TA-LPG on small gridworlds in about 4 minutes on 2 CPU cores; what `make discover` runs"
    ),
    "ta-lpg-cpu": Preset(
        _TA_LPG_CPU, "TA-LPG in about 2 hours on 2 CPU cores; made the shipped objective `ta-lpg`"
    ),
    "lpg-cpu": Preset(_blind(_TA_LPG_CPU, "lpg-cpu"), "the same budget without horizon inputs"),
    "ta-lpg": Preset(
        _TA_LPG, "the paper's TA-LPG: 512 pairs, 64 workers, GRU 256, 2,500 generations; for a GPU"
    ),
    "lpg": Preset(_blind(_TA_LPG, "lpg"), "the paper's LPG with ES: as ta-lpg without horizon inputs"),
}


def find(name: str) -> Preset:
    """A preset by name.

    Raises:
        ConfigError: there is none; the message lists them.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]

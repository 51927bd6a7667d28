"""Which levels agents train on: fresh ones, a fixed set, or replayed by a score (PLR, GROOVE, ACCEL)."""

from rl_discovery.envs.levels import LevelDistribution
from rl_discovery.meta.config import CurriculumConfig, Prioritisation
from rl_discovery.meta.curriculum.base import Curriculum, LevelBatch, Played
from rl_discovery.meta.curriculum.buffer import LevelBuffer, replay_probabilities
from rl_discovery.meta.curriculum.fresh import FrozenLevels, RandomLevels
from rl_discovery.meta.curriculum.replay import Replay
from rl_discovery.meta.curriculum.scores import SCORES, LaneOutcome, Score
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.scale import Planner

__all__ = [
    "SCORES",
    "Curriculum",
    "CurriculumConfig",
    "LaneOutcome",
    "LevelBatch",
    "LevelBuffer",
    "Played",
    "Prioritisation",
    "Replay",
    "Score",
    "make_curriculum",
    "replay_probabilities",
]


def make_curriculum(
    config: CurriculumConfig,
    distribution: LevelDistribution,
    levels: int,
    seed: int,
    planner: Planner | None = None,
) -> Curriculum:
    """The curriculum of a run.

    Args:
        config: its settings.
        distribution: what new levels are sampled from.
        levels: levels that are played at once.
        seed: of the run; a fixed set of levels depends on it.
        planner: of the levels' scales, where anybody reads them.

    Raises:
        ConfigError: an unknown score, a buffer that cannot hold the levels being played, or edits where
            nothing can be edited.
    """
    score = SCORES.find(config.score)
    if config.score == "random":
        return RandomLevels(distribution, planner=planner)
    if config.buffer_size < levels:
        raise ConfigError(
            f"curriculum.buffer_size ({config.buffer_size}) is smaller than the {levels} levels that are "
            "played at once: raise it, or lower the number of pairs or lanes"
        )
    if config.score == "frozen":
        return FrozenLevels(distribution, config.buffer_size, seed, planner=planner)
    if config.edit_probability > 0 and not distribution.can_be_edited:
        raise ConfigError(
            f"curriculum.edit_probability is {config.edit_probability}, but levels of {distribution.name!r} "
            "cannot be edited: nothing of them may change"
        )
    return Replay(distribution, score, config, planner)

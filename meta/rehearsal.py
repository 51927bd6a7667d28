"""A curriculum played by one objective that stays as it is: what would be replayed, and why.

The same levels are served, agents trained, antagonists compared with and scores recorded as in a
generation of evolution, only that nothing evolves. `notebooks/curriculum.ipynb` looks at a curriculum
this way. A rehearsal is a `meta.program.Program`, so that `meta.runs.gallery` draws its levels.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Int

from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum import LevelBatch, LevelBuffer, Played
from rl_discovery.meta.curriculum.references import References, add_references
from rl_discovery.meta.curriculum.replay import Replay
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.evolve import Lanes, Unchanged
from rl_discovery.meta.keys import LANES, LEVELS, REFERENCES, keys_of_generation
from rl_discovery.meta.results import by_level
from rl_discovery.meta.task import make_task


@struct.dataclass
class RehearsalState:
    """What changes from generation to generation.

    Attributes:
        generation: generations done; with the seed, the whole random state.
        curriculum: the levels that may be replayed.
    """

    generation: Int[Array, ""]
    curriculum: LevelBuffer


class Generation(NamedTuple):
    """What happened in one generation.

    Attributes:
        level_batch: the levels, with what their scores compare with.
        played: how the agents did there.
        metrics: the curriculum's, as in a run's metrics.jsonl.
    """

    level_batch: LevelBatch
    played: Played
    metrics: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """The static side; see `make_rehearsal`.

    Attributes:
        seed: of the run.
        trained: the objective.
        lanes: one agent per level.
        curriculum: which levels are played.
        references: what their scores compare with.
    """

    seed: int
    trained: TrainedObjective
    lanes: Lanes
    curriculum: Replay
    references: References

    @property
    def objective(self) -> Objective:
        """The rule."""
        return self.trained.rule

    @property
    def mesh(self) -> Mesh:
        """The devices in use."""
        return self.lanes.mesh

    def init(self) -> RehearsalState:
        """An empty buffer."""
        return RehearsalState(generation=jnp.int32(0), curriculum=self.curriculum.init())

    def place(self, state: RehearsalState) -> RehearsalState:
        """Anywhere will do."""
        return state

    def play(self, state: RehearsalState) -> tuple[RehearsalState, Generation]:
        """One generation: levels are served, agents live on them, scores are recorded; fit for `jit`.

        Args:
            state: before it.
        """
        now = state.generation
        keys = keys_of_generation(self.seed, now)
        everywhere = jnp.ones(self.lanes.groups, bool)
        playing, level_batch = self.curriculum.serve(state.curriculum, keys[LEVELS], now, everywhere)
        level_batch = add_references(self.references, level_batch, everywhere, keys[REFERENCES])
        played = by_level(self.lanes.run(Unchanged(self.trained.meta_params), level_batch, keys[LANES]))
        recorded = self.curriculum.record(playing, level_batch, played, everywhere, now)
        metrics = self.curriculum.metrics(recorded, level_batch, played, everywhere, now)
        return RehearsalState(generation=now + 1, curriculum=recorded), Generation(
            level_batch, played, metrics
        )

    def step(self, state: RehearsalState) -> tuple[RehearsalState, dict[str, Array]]:
        """One generation, and its metrics only."""
        state, generation = self.play(state)
        return state, generation.metrics

    def meta_params(self, state: RehearsalState) -> MetaParams:
        """Those of the objective, always."""
        del state
        return self.trained.meta_params


def make_rehearsal(objective: TrainedObjective, config: RunConfig) -> Rehearsal:
    """Builds a rehearsal.

    Args:
        objective: what agents learn with.
        config: of a run with a replay curriculum; its agents, levels, curriculum, seed and devices count,
            and one level per group of its candidates is played in a generation.

    Raises:
        ConfigError: nothing is replayed, or parts that do not fit each other.

    Example:
        >>> rehearsal = make_rehearsal(load_objective("ta-lpg"), PRESETS.find("ta-lpg-groove-cpu").config)
        >>> state, generation = jax.jit(rehearsal.play)(rehearsal.init())
    """
    try:
        mesh = make_mesh(config.devices)
        task = make_task(config, objective.rule, mesh)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    curriculum = task.curriculum
    if not isinstance(curriculum, Replay):
        raise ConfigError(
            f"curriculum.score {config.curriculum.score!r} replays nothing, so there is nothing to rehearse"
        )
    lanes = Lanes(
        learner=task.learner,
        score=curriculum.score,
        first_group=0,
        groups=config.groups,
        group_size=1,
        block_size=config.block_size,
        mesh=mesh,
    )
    return Rehearsal(
        seed=config.seed,
        trained=objective,
        lanes=lanes,
        curriculum=curriculum,
        references=task.references,
    )

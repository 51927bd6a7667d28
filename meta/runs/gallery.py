"""The gallery of a replay curriculum: a sheet of the levels that score highest, as a PNG.

Each level is drawn twice: with the path of an agent that the objective trained, and with that of the
antagonist. The host loop draws the sheet at each checkpoint, from the numbers in the level buffer and from
agents that are trained for it from scratch; the run does not depend on it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int, Key

from rl_discovery.discovery.formatting import number
from rl_discovery.discovery.keys import keys_of
from rl_discovery.discovery.learning.lifetime import Learner, TrainState, train_block
from rl_discovery.discovery.learning.rollout import record_episode
from rl_discovery.discovery.sharding import run_lanes
from rl_discovery.discovery.types import EnvParams, MetaParams
from rl_discovery.envs.gridworld import render as gridworld
from rl_discovery.envs.levels import Level
from rl_discovery.meta.build import Program
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.curriculum.buffer import LevelBuffer
from rl_discovery.meta.curriculum.references import antagonist
from rl_discovery.meta.curriculum.replay import Replay
from rl_discovery.meta.keys import GALLERY, keys_of_generation
from rl_discovery.meta.runs.gallery_sheet import Panel, Picture, sheet
from rl_discovery.meta.runs.signals import wait_for

PANELS = 16
"""Levels on the sheet."""
PATH_STEPS = 60
"""Steps of an episode that are drawn: longer paths cover themselves."""

EXPLANATION = f"""\
On each level two agents were trained from scratch for N updates: left by the objective as it stands, right \
by A2C, the antagonist. The line is the trained agent's path in
one episode, {PATH_STEPS} steps at most. The numbers are the level buffer's: the agents' mean return when \
the level was last played, and what it was compared with."""

Render: TypeAlias = Callable[..., np.ndarray]
Path: TypeAlias = Callable[[Any], Array]


class Walk(NamedTuple):
    """One episode, or its beginning.

    Attributes:
        cells: positions by the family's `path`, of the first state and of each one after it.
        steps: taken until the episode ended; PATH_STEPS where it went on. Cells beyond are undefined.
    """

    cells: Int[Array, "*K cells"]
    steps: Int[Array, "*K"]


@struct.dataclass
class Exhibition:
    """K levels by falling score, with what is shown of each; empty slots come last.

    Attributes:
        entries: the slots of the buffer.
        first: state of the environment in which both walks begin.
        agent: by an agent that the objective trained.
        antagonist: by one that A2C trained.
    """

    entries: LevelBuffer
    first: Any
    agent: Walk
    antagonist: Walk


class Gallery:
    """Draws the levels of highest score; see `make_gallery`.

    Args:
        config: of the run.
        program: its static side.
        curriculum: its curriculum.
        render: of the family of environments, draws a level.
        path: of the family: the positions of an episode.
    """

    def __init__(
        self, config: RunConfig, program: Program, curriculum: Replay, render: Render, path: Path
    ) -> None:
        task = program.tasks[0]
        self._config = config
        self._program = program
        self._curriculum = curriculum
        self._render = render
        self._path = path
        self._agent = task.measured
        self._antagonist = antagonist(config, task.distribution, task.blank.params)
        self._exhibit = jax.jit(self.exhibit)

    def draw(self, state: Any) -> bytes | None:
        """The sheet as a PNG; None as long as the buffer is empty, and on all processes but the first.

        The first call compiles. The same state gives the same picture.

        Args:
            state: of the program; it stays as it is.
        """
        if not np.any(state.curriculum.plays):
            return None
        exhibition = self._exhibit(state)
        if jax.process_index() > 0:  # it took part in the agents' training, and process 0 draws
            return None
        exhibition = wait_for(exhibition)
        count = int(np.sum(exhibition.entries.plays > 0))
        which = f"the {count} levels of highest {self._score_name}" if count > 1 else "the only level so far"
        return sheet(
            f"{self._config.preset} after {int(state.generation):,} generations: {which}",
            EXPLANATION,
            [self._panel(rank, exhibition) for rank in range(count)],
            legend=self._render is gridworld.render,
        )

    def exhibit(self, state: Any) -> Exhibition:
        """Trains two agents on each of the levels of highest score, and follows each for an episode.

        Args:
            state: of the program.
        """
        buffer: LevelBuffer = state.curriculum
        scores = jnp.where(buffer.filled, buffer.score, -jnp.inf)
        slots = jax.lax.top_k(scores, min(PANELS, scores.size))[1]
        entries = jax.tree.map(lambda leaf: leaf[slots], buffer)
        key = keys_of_generation(self._config.seed, state.generation)[GALLERY]
        lifetime_key, start_key, walk_key = jax.random.split(key, 3)
        starts = jax.vmap(self._agent.env.reset)(keys_of(start_key, slots.size), entries.levels.params)
        keys = keys_of(lifetime_key, slots.size), keys_of(walk_key, slots.size)
        # The empty slots of a young buffer hold levels of horizon 0, which cost nothing.
        return Exhibition(
            entries=entries,
            first=starts[1],
            agent=self._walks(self._agent, self._program.meta_params(state), entries.levels, starts, keys),
            antagonist=self._walks(self._antagonist, {}, entries.levels, starts, keys),
        )

    def _walks(
        self,
        learner: Learner,
        meta_params: MetaParams,
        levels: Level,
        starts: tuple[Array, Any],
        keys: tuple[Key[Array, " K"], Key[Array, " K"]],
    ) -> Walk:
        """Trains an agent per level for its whole lifetime, and follows each for an episode."""

        def run_block(meta_params: MetaParams, mine: Any, alive: Bool[Array, " L"]) -> Walk:
            levels, starts, keys = mine
            # Padding repeats the last level: the loop must not run for it.
            horizons = jnp.where(alive, levels.horizon, 0)
            shared = jax.tree.map(lambda x: jnp.broadcast_to(x, (alive.size, *x.shape)), meta_params)
            train_states = train_block(learner, shared, levels.params, horizons, keys[0])
            follow = functools.partial(walk, learner, self._path)
            return jax.vmap(follow)(levels.params, keys[1], train_states, starts)

        costs = levels.horizon.astype(jnp.float32)
        block_size = min(self._config.block_size, levels.horizon.size)
        operands = (levels, starts, keys)
        return run_lanes(run_block, meta_params, operands, costs, block_size, self._program.mesh)

    def _panel(self, rank: int, exhibition: Exhibition) -> Panel:
        shown = jax.tree.map(lambda leaf: leaf[rank], exhibition)
        entry, reference = shown.entries, self._curriculum.score.reference
        agent, other = f"agent {number(entry.agent_return)}", "antagonist"
        if reference == "antagonist":
            other += f" {number(entry.reference_return)}"
        if entry.scale is not None:
            agent += f", optimum {number(entry.scale.optimal)}"
        elif reference == "optimum":
            agent += f", optimum {number(entry.reference_return)}"
        return Panel(
            title=f"{rank + 1}.  {self._score_name} {number(entry.score)}",
            facts=f"N {entry.levels.horizon} · {entry.plays} play{'s' if entry.plays > 1 else ''}",
            agent=Picture(self._picture(shown, shown.agent), agent),
            antagonist=Picture(self._picture(shown, shown.antagonist), other),
        )

    def _picture(self, shown: Exhibition, way: Walk) -> np.ndarray:
        env, params = self._curriculum.distribution.env, shown.entries.levels.params
        return self._render(env, params, state=shown.first, path=way.cells[: way.steps + 1])

    @property
    def _score_name(self) -> str:
        name = self._config.curriculum.score
        return "regret" if name == "algorithmic_regret" else name.replace("_", " ")


def make_gallery(config: RunConfig, program: Program) -> Gallery | None:
    """The gallery of a run; None where there is none to be drawn.

    That is so without a replay curriculum, where `curriculum.gallery` is off, and for environments that
    cannot be drawn.

    Args:
        config: of the run.
        program: its static side.
    """
    family = program.tasks[0].family
    if not config.curriculum.gallery or family.render is None or family.path is None:
        return None
    if not isinstance(program.curriculum, Replay):
        return None
    return Gallery(config, program, program.curriculum, family.render, family.path)


def walk(
    learner: Learner,
    path: Path,
    level: EnvParams,
    key: Key[Array, ""],
    train_state: TrainState,
    start: tuple[Array, Any],
) -> Walk:
    """One episode of an agent as it is, at most PATH_STEPS of it.

    Args:
        learner: the static side.
        path: the family's.
        level: what is played.
        key: of the episode.
        train_state: the agent.
        start: first observation and state.
    """
    states, _, terminated, truncated = record_episode(
        learner.agent, train_state.agent, learner.env, level, key, start, PATH_STEPS
    )
    done = terminated | truncated
    steps = jnp.where(jnp.any(done), jnp.argmax(done) + 1, PATH_STEPS)
    return Walk(cells=path(states), steps=steps.astype(jnp.int32))


def histograms(buffer: LevelBuffer, generation: int) -> dict[str, np.ndarray]:
    """Scores and ages (generations) of the levels in the buffer; nothing while it is empty.

    Args:
        buffer: after `generation`.
        generation: that levels' ages count to.
    """
    filled = np.asarray(buffer.filled)
    if not filled.any():
        return {}
    return {
        "score": np.asarray(buffer.score)[filled],
        "age": generation - np.asarray(buffer.inserted)[filled],
    }

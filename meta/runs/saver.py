"""Writes what a run leaves on disk at a checkpoint: its state, the current objective, the gallery.

The host loop decides with `due` when that is. With several processes, all of them call these functions;
process 0 writes, once it has the parts of the state that the others hold.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.checkpoints.objective_card import read_card
from rl_discovery.checkpoints.objective_file import save_objective
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.run_directory import (
    BEST_OBJECTIVE,
    CHECKPOINTS,
    GALLERY,
    LAST_OBJECTIVE,
    OBJECTIVE,
)
from rl_discovery.checkpoints.runs import Restored, RunCheckpoints
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.build import Program
from rl_discovery.meta.config import CheckpointConfig, RunConfig, to_json
from rl_discovery.meta.curriculum.buffer import LevelBuffer
from rl_discovery.meta.runs import distributed
from rl_discovery.meta.runs.clock import Clock
from rl_discovery.meta.runs.divergence import HeldOutEvaluation
from rl_discovery.meta.runs.gallery import histograms, make_gallery
from rl_discovery.meta.runs.loggers import Logger
from rl_discovery.meta.warm_start import earlier_env_steps, source

logger = logging.getLogger("rl_discovery")

GALLERY_SECONDS = 600.0
"""Minimum of seconds between two logged galleries, which are large; gallery.png is always new."""


def due(done: int, seconds: float, config: CheckpointConfig) -> bool:
    """Whether it is time for a checkpoint.

    Args:
        done: generations that are done.
        seconds: since the last checkpoint, or since this call began its first generation.
        config: the cadence.
    """
    late = config.minutes is not None and seconds >= 60 * config.minutes
    return done % config.every == 0 or late


class Saver:
    """Writes checkpoints and what goes with them.

    Args:
        config: of the run.
        program: its static side.
        path: its directory.
        clock: of the run.
        say: prints a line.

    Attributes:
        saved: generations that were done at the last checkpoint; -1 before the first.
    """

    def __init__(
        self, config: RunConfig, program: Program, path: Path, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._checkpoints = distributed.lead(
            lambda: RunCheckpoints(path / CHECKPOINTS, keep=config.checkpoint.keep)
        )
        self.saved = -1
        self._config = config
        self._program = program
        self._path = path
        self._clock = clock
        self._say = say
        self._gallery = make_gallery(config, program)
        self._saved_at = clock.now()
        self._next_gallery = clock.now()

    def restore(self, like: Any) -> Restored | None:
        """The newest good checkpoint, its state whole on every process; None where there is none.

        Args:
            like: the state's structure, shapes and dtypes.
        """
        restored = distributed.restore(self._checkpoints, like)
        if restored is not None:
            self.saved = restored.generation
        return restored

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk.

        Raises:
            RunCheckpointError: it could not be written.
        """
        distributed.lead(lambda: self._checkpoints.wait() if self._checkpoints else None)

    def poll(self) -> None:
        """Raises on process 0, without waiting, once it is known that a checkpoint could not be written.

        Raises:
            RunCheckpointError: as `wait`.
        """
        if self._checkpoints is not None:
            self._checkpoints.poll()

    def close(self) -> None:
        """Waits for the last checkpoint and releases threads and files."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def begin(self) -> None:
        """Begins to count the time until a checkpoint is due; call before the first generation."""
        self._saved_at = self._clock.now()

    @property
    def seconds(self) -> float:
        """Seconds since the last checkpoint of this call, or since `begin`."""
        return self._clock.now() - self._saved_at

    def save(self, state: Any, env_steps: int, best: HeldOutEvaluation | None) -> None:
        """A checkpoint, written in the background, and the current objective.

        Args:
            state: of the program; its meta-parameters are finite.
            env_steps: of the run so far.
            best: the best held-out evaluation so far, whose checkpoint is kept.
        """
        done = int(state.generation)
        with self._clock.spent("checkpoint"):
            kept = None if best is None else best.generations
            whole, facts = distributed.gathered(state, self._program.mesh), {"env_steps": env_steps}
            distributed.lead(lambda: self._checkpoint(done, whole, facts, kept))
            self.save_objective(state, env_steps)
        self.saved, self._saved_at = done, self._clock.now()
        logger.info("checkpoint after %d generations", done)

    def save_objective(self, state: Any, env_steps: int) -> None:
        """The objective as it stands; where it is an average, the last mean as well."""
        path = self._path / OBJECTIVE
        distributed.lead(lambda: save_objective(path, self._objective(state, env_steps, {})))
        if self._config.averages:
            last = jax.device_get(self._program.last_mean(state))
            objective = dataclasses.replace(self._objective(state, env_steps, {}), meta_params=last)
            distributed.lead(lambda: save_objective(self._path / LAST_OBJECTIVE, objective))

    def save_best(self, state: Any, env_steps: int, best: HeldOutEvaluation) -> None:
        """The objective as it stands, as the one with the highest held-out fitness."""
        path, card = self._path / BEST_OBJECTIVE, {"held_out_fitness": best.fitness}
        with self._clock.spent("checkpoint"):
            distributed.lead(lambda: save_objective(path, self._objective(state, env_steps, card)))
        logger.info("best held-out fitness so far: %.6g after %d generations", best.fitness, best.generations)

    def log_levels(self, state: Any, loggers: list[Logger]) -> None:
        """Logs the level buffer of a replay curriculum: histograms, and a gallery if that can be drawn."""
        # Loggers count from 0, and on resume drop what was logged at the checkpoint's generation or later.
        number = int(state.generation) - 1
        if isinstance(state.curriculum, LevelBuffer):
            values = histograms(state.curriculum, number)
            for metric_logger in loggers:
                metric_logger.histograms(values, number)
        began = time.monotonic()
        try:
            with self._clock.spent("evaluation"):
                picture = self._gallery.draw(state) if self._gallery else None
            if picture is None:
                return
            replace_file(self._path / GALLERY, picture)
        except Exception as error:
            if distributed.several() and isinstance(error, jax.errors.JaxRuntimeError):
                raise  # the others wait for this process's part of the computation
            reason = str(error).partition("\n")[0] or type(error).__name__
            self._say(f"no gallery after {number + 1} generations: {reason}")
            return
        logger.info("gallery drawn in %.1f s", time.monotonic() - began)
        if self._clock.now() >= self._next_gallery:
            self._next_gallery = self._clock.now() + GALLERY_SECONDS
            for metric_logger in loggers:
                metric_logger.gallery(picture, number)

    def meta_params(self, state: Any) -> MetaParams:
        """The meta-parameters of a state, on the host."""
        meta_params: MetaParams = jax.device_get(self._program.meta_params(state))
        return meta_params

    def _checkpoint(self, done: int, state: Any, facts: dict[str, Any], best: int | None) -> None:
        assert self._checkpoints is not None, "only process 0 has the checkpoints"
        self._checkpoints.save(done, state, facts, best=best)

    @functools.cached_property
    def _earlier(self) -> dict[str, int]:
        """What the card says of the runs before; what the run started from may be gone when it is resumed."""
        if (name := self._config.start_from) is None or not distributed.leads():
            return {}
        try:
            steps = read_card(self._path / OBJECTIVE).get("earlier_env_steps")
        except CheckpointError:
            steps = earlier_env_steps(source(name, self._path))
        return {} if steps is None else {"earlier_env_steps": steps}

    def _objective(self, state: Any, env_steps: int, more: dict[str, Any]) -> TrainedObjective:
        card = {
            "preset": self._config.preset,
            "config": to_json(self._config),
            "generations": int(state.generation),
            "env_steps": env_steps,
            **self._earlier,
            "wall_s": round(self._clock.wall),
            "seed": self._config.seed,
            "versions": versions(),
        }
        return TrainedObjective(self._program.objective, self.meta_params(state), card | more)

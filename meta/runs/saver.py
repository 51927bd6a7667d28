"""What a run leaves on disk at a checkpoint: the state, the objective of that moment, the gallery.

The trainer decides with `due` when that is, and tells how far the run is. All of several processes call
what is here; process 0 writes, once it has the parts of the state that the others hold.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.objective_file import save_objective
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.runs import Restored, RunCheckpoints
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.config import CheckpointConfig, RunConfig, to_json
from rl_discovery.meta.curriculum.buffer import LevelBuffer
from rl_discovery.meta.program import Program
from rl_discovery.meta.runs import distributed
from rl_discovery.meta.runs.clock import Clock
from rl_discovery.meta.runs.directory import BEST_OBJECTIVE, LAST_OBJECTIVE, OBJECTIVE
from rl_discovery.meta.runs.divergence import HeldOutEvaluation
from rl_discovery.meta.runs.gallery import histograms, make_gallery
from rl_discovery.meta.runs.loggers import Logger

logger = logging.getLogger("rl_discovery")

SHOWN_SECONDS = 600.0
"""Between two galleries that watchers keep, at least: they are large. gallery.png is always the newest."""


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
        say: tells the user.

    Attributes:
        saved: generations that were done at the last checkpoint; -1 before the first.
    """

    def __init__(
        self, config: RunConfig, program: Program, path: Path, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._checkpoints = distributed.lead(
            lambda: RunCheckpoints(path / "checkpoints", keep=config.checkpoint.keep)
        )
        self.saved = -1
        self._config = config
        self._program = program
        self._path = path
        self._clock = clock
        self._say = say
        self._gallery = make_gallery(config, program)
        self._saved_at = clock.now()
        self._show_next = clock.now()

    def restore(self, like: Any) -> Restored | None:
        """The newest good checkpoint, its state whole on every process; None where there is none.

        Args:
            like: the state's structure, shapes and dtypes.
        """
        found = distributed.restore(self._checkpoints, like)
        if found is not None:
            self.saved = found.generation
        return found

    def wait(self) -> None:
        """Until the last checkpoint is on disk.

        Raises:
            RunCheckpointError: it could not be written.
        """
        distributed.lead(lambda: self._checkpoints.wait() if self._checkpoints else None)

    def poll(self) -> None:
        """Process 0's: reports a checkpoint that could not be written as soon as that is known.

        Raises:
            RunCheckpointError: as `wait`.
        """
        if self._checkpoints is not None:
            self._checkpoints.poll()

    def close(self) -> None:
        """Lets go of threads and files; waits for the last checkpoint, too."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def begin(self) -> None:
        """The first generation of this call begins: time until a checkpoint counts from here."""
        self._saved_at = self._clock.now()

    @property
    def seconds(self) -> float:
        """Since the last checkpoint of this call, or since `begin`."""
        return self._clock.now() - self._saved_at

    def save(self, state: Any, env_steps: int, best: HeldOutEvaluation | None) -> None:
        """A checkpoint, written in the background, and the current objective.

        Args:
            state: of the program; its meta-parameters are finite.
            env_steps: of the run so far.
            best: the evaluation whose checkpoint stays whatever comes.
        """
        done = int(state.generation)
        with self._clock.spent("checkpoint"):
            stays = None if best is None else best.generations
            whole, facts = distributed.gathered(state, self._program.mesh), {"env_steps": env_steps}
            distributed.lead(lambda: self._checkpoint(done, whole, facts, stays))
            self.save_objective(state, env_steps)
        self.saved, self._saved_at = done, self._clock.now()
        logger.info("checkpoint at generation %d", done)

    def save_objective(self, state: Any, env_steps: int) -> None:
        """The objective as it stands; where it is an average, the last mean as well."""
        path = self._path / OBJECTIVE
        distributed.lead(lambda: save_objective(path, self._objective(state, env_steps, {})))
        if self._config.averages:
            last = jax.device_get(self._program.last_mean(state))
            found = dataclasses.replace(self._objective(state, env_steps, {}), meta_params=last)
            distributed.lead(lambda: save_objective(self._path / LAST_OBJECTIVE, found))

    def save_best(self, state: Any, env_steps: int, best: HeldOutEvaluation) -> None:
        """The objective as it stands, as the one with the highest held-out fitness."""
        path, card = self._path / BEST_OBJECTIVE, {"held_out_fitness": best.fitness}
        with self._clock.spent("checkpoint"):
            distributed.lead(lambda: save_objective(path, self._objective(state, env_steps, card)))
        logger.info("best held-out fitness so far: %.6g at generation %d", best.fitness, best.generations)

    def show_levels(self, state: Any, observers: list[Logger]) -> None:
        """The buffer of a replay curriculum in numbers and pictures; a run does without if that fails."""
        # Watchers count from 0, and on resume drop what is shown at the checkpoint's generation or later.
        number = int(state.generation) - 1
        if isinstance(state.curriculum, LevelBuffer):
            values = histograms(state.curriculum, number)
            for observer in observers:
                observer.histograms(values, number)
        began = time.monotonic()
        try:
            with self._clock.spent("evaluation"):
                picture = self._gallery.draw(state) if self._gallery else None
            if picture is None:
                return
            replace_file(self._path / "gallery.png", picture)
        except Exception as error:
            if distributed.several() and isinstance(error, jax.errors.JaxRuntimeError):
                raise  # the others wait for this process's part of the computation
            reason = str(error).partition("\n")[0] or type(error).__name__
            self._say(f"no gallery at generation {number + 1}: {reason}")
            return
        logger.info("gallery drawn in %.1f s", time.monotonic() - began)
        if self._clock.now() >= self._show_next:
            self._show_next = self._clock.now() + SHOWN_SECONDS
            for observer in observers:
                observer.gallery(picture, number)

    def meta_params(self, state: Any) -> MetaParams:
        """The meta-parameters of a state, on the host."""
        found: MetaParams = jax.device_get(self._program.meta_params(state))
        return found

    def _checkpoint(self, done: int, state: Any, facts: dict[str, Any], best: int | None) -> None:
        assert self._checkpoints is not None, "only process 0 has the checkpoints"
        self._checkpoints.save(done, state, facts, best=best)

    def _objective(self, state: Any, env_steps: int, more: dict[str, Any]) -> TrainedObjective:
        card = {
            "preset": self._config.preset,
            "config": to_json(self._config),
            "generations": int(state.generation),
            "env_steps": env_steps,
            "wall_s": round(self._clock.wall),
            "seed": self._config.seed,
            "versions": versions(),
        }
        return TrainedObjective(self._program.objective, self.meta_params(state), card | more)

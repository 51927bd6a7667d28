"""The host loop around a trainer's step: it owns progress, logging, checkpoints and stop signals.

Where generations are short, the next one is dispatched before the metrics of the last are read, so
that the devices never wait for the host. What a run leaves behind is exact: metrics are on disk before the
checkpoint that counts on them, and everything after the checkpoint is done again on resume.
"""

import contextlib
import dataclasses
import logging
import math
import signal
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from checkpoints.atomic import replace_file
from checkpoints.errors import CheckpointError
from checkpoints.objective_file import save_objective
from checkpoints.provenance import versions
from checkpoints.runs import RunCheckpoints
from discovery.objectives.base import TrainedObjective
from meta import processes
from meta.config import RunConfig, to_json, validate
from meta.curriculum.buffer import LevelBuffer
from meta.errors import ConfigError, DivergedError, LeaderError, RunError
from meta.gallery import histograms, make_gallery
from meta.program import Program, compile_step, make_program
from meta.results import env_steps_of
from meta.run_dir import RunDirectory
from meta.signals import StopRequest
from meta.watch import Watcher, watchers

logger = logging.getLogger("rl_discovery")

ORDERLY = (ConfigError, RunError, LeaderError, DivergedError, CheckpointError)
"""What ends every one of several processes at the same point."""

LOOK_AHEAD_SECONDS = 2.0
"""Generations shorter than this are dispatched one ahead."""

NOBODY = {"es": "candidate had a finite fitness", "meta_gradient": "lane had a finite meta-gradient"}
"""What a generation lacks that cannot be learned from."""

LOWER = {"es": "es.learning_rate or es.sigma", "meta_gradient": "meta_gradient.learning_rate"}
"""What may keep a run from diverging."""

POLL_SECONDS = 0.005
"""How often a signal can interrupt the wait for a generation."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a call of `meta_train` ended.

    Attributes:
        generations: done in all, over every call.
        signal: what stopped it early, or None.
    """

    generations: int
    signal: signal.Signals | None


def meta_train(config: RunConfig, run_dir: Path, console: Console) -> Outcome:
    """Runs or resumes a meta-training run until its last generation or a stop signal.

    Args:
        config: the configuration; on resume the same in all that decides results.
        run_dir: where everything goes.
        console: for progress and messages.

    Raises:
        RunError, ConfigError: the run directory cannot be used; see `RunDirectory`.
        CheckpointError: a checkpoint could not be written.
        DivergedError: no candidate of a generation had a finite fitness.
    """
    config = validate(config)
    watch = processes.Watch(
        lambda line: console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    )
    try:
        outcome = _meta_train(config, run_dir, console if processes.leads() else Console(quiet=True))
    except ORDERLY:
        watch.leave()
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if processes.several() and processes.is_broken_connection(error):
            watch.give_up(error)
        raise
    watch.leave()
    return outcome


def _meta_train(config: RunConfig, run_dir: Path, console: Console) -> Outcome:
    """The same, once there is somebody to miss a process."""
    processes.check_same(config)
    program = make_program(config)  # before the directory holds a configuration that cannot work
    directory = processes.lead(lambda: RunDirectory(run_dir, config))
    handler = _log_to(run_dir / "train.log") if processes.leads() else logging.NullHandler()
    stop = StopRequest(
        lambda number: console.print(f"{number.name}: saving after this generation (again to quit at once)")
    )
    try:
        return _Run(config, program, run_dir, directory, console, stop).run()
    finally:
        stop.close()
        logger.removeHandler(handler)
        handler.close()
        if directory:
            directory.close()


class _Run:
    """One process's part of a run; process 0 alone has its directory and checkpoints."""

    def __init__(
        self,
        config: RunConfig,
        program: Program,
        path: Path,
        directory: RunDirectory | None,
        console: Console,
        stop: StopRequest,
    ) -> None:
        self.config = config
        self.program = program
        self.path = path
        self._directory = directory
        self.console = console
        self.stop = stop
        self.stopped: signal.Signals | None = None
        self.gallery = make_gallery(config, program)
        self._checkpoints = processes.lead(
            lambda: RunCheckpoints(path / "checkpoints", keep=config.checkpoint.keep)
        )
        self.saved = -1
        self.env_steps = 0
        self.clock_start = time.monotonic()
        self.last_finish = self.clock_start
        self.seconds = math.inf  # of the last generation

    @property
    def directory(self) -> RunDirectory:
        """Process 0's."""
        assert self._directory is not None, "only process 0 has the run directory"
        return self._directory

    @property
    def checkpoints(self) -> RunCheckpoints:
        """Process 0's."""
        assert self._checkpoints is not None, "only process 0 has the checkpoints"
        return self._checkpoints

    def run(self) -> Outcome:
        """Generations until the last one or a stop signal."""
        try:
            state = self._resume_or_init()
            done = int(state.generation)
            if done >= self.config.generations:
                self._say(f"already done: {done} generations in {self.path}")
                return Outcome(done, None)
            # Before the compilation, so that nobody waits for it to hear that wandb is not installed.
            observers = processes.lead(lambda: watchers(self.config, self.path, self.console, done)) or []
            try:
                step = self._compile(state)
                self.last_finish = time.monotonic()
                state = self._loop(step, state, observers)
                self._save(state, observers)
            finally:
                for observer in observers:
                    observer.close()
            return Outcome(int(state.generation), self.stopped)
        finally:
            if self._checkpoints:
                self._checkpoints.close()

    def _loop(self, step: Any, state: Any, observers: list[Watcher]) -> Any:
        """Generations until the last one or a signal; returns the last state that was recorded."""
        ahead = None
        for number in range(int(state.generation), self.config.generations):
            state, metrics = ahead or step(state)
            # The last generation's metrics are read while the next one runs, so that devices never
            # wait; not where that saves next to nothing and a stop would have to wait for it, nor with
            # several processes, whose agreement would wait.
            more = number + 1 < self.config.generations and not processes.several()
            ahead = step(state) if more and self.seconds < LOOK_AHEAD_SECONDS else None
            self._record(number, metrics, observers)
            signals = processes.agree({"signal": self.stop.signal or 0})["signal"]
            if signals.any():
                self.stopped = signal.Signals(int(signals.max()))
                return state
            if (number + 1) % self.config.checkpoint.every == 0:
                self._save(state, observers)
        return state

    def _record(self, number: int, metrics: dict[str, Any], observers: list[Watcher]) -> None:
        """Waits for a generation and writes its metrics."""
        while not all(value.is_ready() for value in metrics.values()):
            time.sleep(POLL_SECONDS)
        found = jax.device_get(metrics)
        steps = env_steps_of(self.config, found.pop("updates"))
        values = {name: value.item() for name, value in found.items()}
        if values["nonfinite_candidates"] == self.config.lanes:
            step = ", ".join(
                f"{name.replace('_', ' ')} {values[name]:.3g}"
                for name in ("learning_rate", "sigma")
                if math.isfinite(values[name])
            )
            raise self._diverged(
                f"generation {number}: no {NOBODY[self.config.trainer]} (meta-parameter norm "
                f"{values['meta_param_norm']:.3g}, {step})"
            )
        now = time.monotonic()
        self.env_steps += steps
        self.seconds, self.last_finish = now - self.last_finish, now
        row = {
            "generation": number,
            "wall_s": round(now - self.clock_start, 3),
            "generation_s": round(self.seconds, 6),
            "env_steps": self.env_steps,
            "env_steps_per_s": round(steps / max(self.seconds, 1e-9), 1),
        } | {name: value if math.isfinite(value) else None for name, value in values.items()}
        processes.lead(lambda: self.directory.append_metrics(row))
        for observer in observers:
            observer.generation(row)

    def _diverged(self, diagnosis: str) -> DivergedError:
        last = (
            f"the last good checkpoint is generation {self.saved}" if self.saved >= 0 else "no checkpoint yet"
        )
        return DivergedError(
            f"{diagnosis}; {last} in {self.path}: "
            f"start again with a lower {LOWER[self.config.trainer]} in a new run directory"
        )

    def _resume_or_init(self) -> Any:
        """The newest good checkpoint, or generation 0; metrics are cut back to match."""
        # jit gives the initial state the type that the compiled generation returns.
        abstract = jax.eval_shape(self.program.init)
        restored = processes.restore(self._checkpoints, abstract)
        if restored is None:
            processes.lead(lambda: self.directory.resume_metrics(0))
            return self.program.place(jax.jit(self.program.init)())
        for step in restored.damaged:
            self._say(f"checkpoint {step} is damaged; going on from checkpoint {restored.generation}")
        last = processes.lead(lambda: self.directory.resume_metrics(restored.generation))
        self.saved = restored.generation
        # The process may have died between the two, or the newest checkpoint may be damaged.
        self._save_objective(restored.state)
        if last is not None:
            self.env_steps = last["env_steps"]
            self.clock_start -= last["wall_s"]
        self._say(f"resumed at generation {restored.generation}")
        return self.program.place(restored.state)

    def _compile(self, state: Any) -> Any:
        began = time.monotonic()
        self.console.print(
            f"[bold]{self.config.preset}[/] on {self.program.mesh.size} "
            f"{jax.default_backend()} device(s): compiling …"
        )
        step = compile_step(self.program, state)
        self._say(f"compiled in {time.monotonic() - began:.1f} s")
        return step

    def _save(self, state: Any, observers: list[Watcher]) -> None:
        """Checkpoint, current objective and gallery; the checkpoint is written in the background."""
        done = int(state.generation)
        if done == self.saved:
            return
        mean = jax.device_get(self.program.meta_params(state))
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mean)):
            raise self._diverged(f"generation {done - 1}: the meta-parameters are no longer finite")
        whole, facts = processes.gathered(state, self.program.mesh), {"env_steps": self.env_steps}
        processes.lead(lambda: self.checkpoints.save(done, whole, facts))
        self._save_objective(state)
        self.saved = done
        logger.info("checkpoint at generation %d", done)
        if self.stopped is None:  # whoever asked for a stop does not wait for pictures
            self._show_levels(state, observers)

    def _show_levels(self, state: Any, observers: list[Watcher]) -> None:
        """The buffer of a replay curriculum in numbers and pictures; a run does without if that fails."""
        # Watchers count from 0, and on resume drop what is shown at the checkpoint's generation or later.
        number = int(state.generation) - 1
        if isinstance(state.curriculum, LevelBuffer):
            values = histograms(state.curriculum, number)
            for observer in observers:
                observer.histograms(values, number)
        began = time.monotonic()
        try:
            picture = self.gallery.draw(state) if self.gallery else None
            if picture is None:
                return
            replace_file(self.path / "gallery.png", picture)
        except (jax.errors.JaxRuntimeError, CheckpointError) as error:
            self._say(f"no gallery at generation {number + 1}: {str(error).partition(chr(10))[0]}")
            return
        logger.info("gallery drawn in %.1f s", time.monotonic() - began)
        for observer in observers:
            observer.gallery(picture, number)

    def _save_objective(self, state: Any) -> None:
        path = self.path / "objective.safetensors"
        processes.lead(lambda: save_objective(path, self._objective(state)))

    def _objective(self, state: Any) -> TrainedObjective:
        card = {
            "preset": self.config.preset,
            "config": to_json(self.config),
            "generations": int(state.generation),
            "env_steps": self.env_steps,
            "wall_s": round(time.monotonic() - self.clock_start),
            "seed": self.config.seed,
            "versions": versions(),
        }
        meta_params = jax.device_get(self.program.meta_params(state))
        return TrainedObjective(self.program.objective, meta_params, card)

    def _say(self, message: str) -> None:
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)
        logger.info(message)


class _RunLog(logging.FileHandler):
    """train.log. Where it cannot be written, the error that ended the run must stay the one that is seen."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Says nothing."""
        del record

    def close(self) -> None:
        """Closes the file, whatever could not be written to it."""
        with contextlib.suppress(OSError):
            super().close()


def _log_to(path: Path) -> logging.Handler:
    handler = _RunLog(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return handler

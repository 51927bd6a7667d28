"""The host loop around a trainer's step: it owns progress, logging, checkpoints and stop signals.

Where generations are short, the next one is dispatched before the metrics of the last are read, so
that the devices never wait for the host. A run is exact: metrics are on disk before the checkpoint that
relies on them, and everything after the checkpoint is computed again on resume.
"""

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
from rich.text import Text

from rl_discovery.checkpoints.run_directory import BEST_OBJECTIVE
from rl_discovery.discovery.formatting import plural
from rl_discovery.discovery.learning.rollout import no_end
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.build import Program, compile_step, reduced
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.errors import DivergedError, RunError
from rl_discovery.meta.held_out import HeldOut
from rl_discovery.meta.results import env_steps_of
from rl_discovery.meta.runs import distributed
from rl_discovery.meta.runs.clock import Clock
from rl_discovery.meta.runs.directory import RunDirectory
from rl_discovery.meta.runs.divergence import HeldOutEvaluation, Trend, evaluation_of, trend_of
from rl_discovery.meta.runs.log import say
from rl_discovery.meta.runs.loggers import Logger, make_loggers
from rl_discovery.meta.runs.profiler import Tracer
from rl_discovery.meta.runs.saver import Saver, due
from rl_discovery.meta.runs.signals import StopRequest, wait_for
from rl_discovery.meta.warm_start import source, starting_point

LOOK_AHEAD_SECONDS = 2.0
"""Seconds; generations shorter than this are dispatched one ahead."""

NOTHING_FINITE = {"es": "candidate had a finite fitness", "meta_gradient": "lane had a finite meta-gradient"}
"""What a message says no lane had, where nothing can be learned from a generation."""

STEP_SIZES = {"es": "es.learning_rate or es.sigma", "meta_gradient": "meta_gradient.learning_rate"}
"""The fields to lower when a run diverges."""


@dataclasses.dataclass(frozen=True)
class RunOutcome:
    """How a call of `meta_train` ended.

    Attributes:
        generations: done in all, over every call.
        signal: what stopped it early, or None.
    """

    generations: int
    signal: signal.Signals | None


@dataclasses.dataclass(frozen=True)
class _Agreement:
    """What all processes agreed to do after a generation.

    Attributes:
        signal: that asked one of them to stop, or None.
        best: whether held-out fitness is higher than ever.
        diverged: whether it has fallen for long enough.
        due: whether it is time for a checkpoint.
    """

    signal: signal.Signals | None
    best: bool
    diverged: bool
    due: bool


class Run:
    """One process's part of a run; process 0 alone has its directory and knows its past."""

    def __init__(
        self,
        config: RunConfig,
        program: Program,
        path: Path,
        directory: RunDirectory | None,
        console: Console,
        stop: StopRequest,
        profile: bool,
    ) -> None:
        self.config = config
        self.program = program
        self.path = path
        self._directory = directory
        self.console = console
        self.stop = stop
        self.stopped: signal.Signals | None = None
        self.clock = Clock()
        self.saver = Saver(config, program, path, self.clock, self._say)
        self.held_out = HeldOut(config, program)
        self.trend = Trend()
        self.tracer = Tracer(path / "profile" if profile and distributed.leads() else None, self._say)
        self.env_steps = 0
        self.warned_endless = False
        self.last_finish = self.clock.now()
        self.seconds = math.inf  # of the last generation
        self.dispatch_blocks = False

    @property
    def directory(self) -> RunDirectory:
        """The run directory, on process 0."""
        assert self._directory is not None, "only process 0 has the run directory"
        return self._directory

    def run(self) -> RunOutcome:
        """Generations until the last one or a stop signal."""
        try:
            state = self._resume_or_init()
            done = int(state.generation)
            if done >= self.config.generations:
                self._say(f"already done: {done} generations in {self.path}")
                return RunOutcome(done, None)
            distributed.lead(lambda: self._record_history(done))
            # Before the compilation, so that nobody waits for it only to learn that wandb is not installed.
            loggers = distributed.lead(lambda: make_loggers(self.config, self.path, self.console, done)) or []
            try:
                step = self._compile(state)
                self.tracer.check(self.config.generations - done)
                self.last_finish = self.clock.now()
                self.saver.begin()
                state = self._loop(step, state, loggers)
                self._save(state, loggers)
                self.saver.wait()
            finally:
                for metric_logger in loggers:
                    metric_logger.close()
            return RunOutcome(int(state.generation), self.stopped)
        finally:
            self.saver.close()

    def _loop(self, step: Any, state: Any, loggers: list[Logger]) -> Any:
        """Generations until the last one or a signal; returns the last state that was recorded."""
        self.stopped = self._stop_signal()
        if self.stopped is not None:  # while the program was compiled
            return state
        ahead = None
        first = int(state.generation)
        for number in range(first, self.config.generations):
            count, evaluates = number - first, self.held_out.due(number)
            with self.tracer.around(count, number), self.clock.spent("generations"):
                began = self.clock.now()
                state, metrics = ahead or step(state)
                dispatched = self.clock.now()
                # The last generation's metrics are read while the next one runs, so that devices never
                # wait. Not where generations are long, since a stop would have to wait for one more, nor
                # with several processes, whose agreement would wait.
                alone = evaluates or distributed.several() or self.tracer.needs_alone(count)
                more = number + 1 < self.config.generations and self.seconds < LOOK_AHEAD_SECONDS
                ahead = step(state) if more and not alone and not self.dispatch_blocks else None
                metrics = wait_for(metrics)
            if count == 0:
                # On a GPU, the host runs the loops of a program itself: to dispatch is to wait.
                self.dispatch_blocks = dispatched - began > self.clock.now() - dispatched
            row = self._row(number, metrics)
            if evaluates:
                with self.clock.spent("evaluation"):
                    row |= self.held_out.evaluate(state)
            row = self._record(row, loggers)
            evaluation = evaluation_of(row)
            agreement = self._agree(number, evaluation)
            self.stopped = agreement.signal
            if evaluation is not None and agreement.best:
                self.saver.save_best(state, self.env_steps, evaluation)
            if evaluation is not None and agreement.diverged:
                state = self._handle_divergence(number, evaluation, state)
            if agreement.signal is not None:
                return state
            if agreement.best or agreement.due:
                self._save(state, loggers)
        return state

    def _row(self, number: int, metrics: dict[str, Any]) -> dict[str, Any]:
        """A generation's metrics as Python numbers, with its steps and its time."""
        steps = env_steps_of(self.config, metrics.pop("updates"))
        self._check_ends(number, metrics.pop("endless").item())
        values = {name: value.item() for name, value in metrics.items()}
        if values["nonfinite_candidates"] == self.config.lanes:
            step = ", ".join(
                f"{name.replace('_', ' ')} {values[name]:.3g}"
                for name in ("learning_rate", "sigma")
                if math.isfinite(values[name])
            )
            raise self._diverged(
                f"generation {number}: no {NOTHING_FINITE[self.config.trainer]} (meta-parameter norm "
                f"{values['meta_param_norm']:.3g}, {step})"
            )
        now = self.clock.now()
        self.env_steps += steps
        self.seconds, self.last_finish = now - self.last_finish, now
        return {
            "generation": number,
            "generation_s": round(self.seconds, 6),
            "env_steps": self.env_steps,
            "env_steps_per_s": round(steps / max(self.seconds, 1e-9), 1),
        } | values

    def _check_ends(self, number: int, endless: float) -> None:
        """Warns once of agents whose episodes do not end; raises where no agent's do."""
        names = " or ".join(task.levels.distribution for task in self.config.tasks)
        line = f"generation {number}: {no_end(names)}"
        if endless == 1:
            raise RunError(line)
        if endless > 0 and not self.warned_endless:
            self.warned_endless = True
            self._say(f"warning: {line}; such agents lose ({endless:.0%} of all)", logging.WARNING)

    def _record(self, row: dict[str, Any], loggers: list[Logger]) -> dict[str, Any]:
        """Writes a generation's metrics, with null for what is not finite."""
        row = {"generation": row["generation"]} | self.clock.row() | row
        row = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        distributed.lead(lambda: self._append(row))
        for metric_logger in loggers:
            metric_logger.generation(row)
        return row

    def _append(self, row: dict[str, Any]) -> None:
        self.directory.append_metrics(row)
        with self.clock.spent("checkpoint"):
            self.saver.poll()

    def _stop_signal(self) -> signal.Signals | None:
        """The signal that asked any of the processes to stop."""
        return _signal(distributed.agree({"signal": self.stop.signal or 0})["signal"])

    def _agree(self, number: int, evaluation: HeldOutEvaluation | None) -> _Agreement:
        """Agrees on what comes next: process 0 decides all that depends on time and on past metrics."""
        if evaluation is not None:
            self.trend = self.trend.after(evaluation, self.config.held_out)
        answers = distributed.agree(
            {
                "signal": self.stop.signal or 0,
                "best": evaluation is not None and self.trend.best is evaluation,
                "diverged": evaluation is not None and self.trend.diverged(self.config.held_out),
                "due": due(number + 1, self.saver.seconds, self.config.checkpoint),
            }
        )
        stop = _signal(answers.pop("signal"))
        return _Agreement(signal=stop, **{name: bool(values[0]) for name, values in answers.items()})

    def _handle_divergence(self, number: int, evaluation: HeldOutEvaluation, state: Any) -> Any:
        """Warns, halves the steps or raises, as `held_out.on_divergence` says."""
        choice = self.config.held_out.on_divergence
        diagnosis = f"generation {number}: {self.trend.describe(evaluation)}"
        if choice == "stop":
            raise self._diverged(diagnosis)
        if choice == "reduce":
            state, scale = reduced(state)
            diagnosis += f"; steps are {scale:g} times the configured ones from here on"
        self._say(f"warning: {diagnosis}", logging.WARNING)
        return state

    def _diverged(self, diagnosis: str) -> DivergedError:
        saved, best = self.saver.saved, self.trend.best
        last = "no checkpoint yet"
        if saved >= 0:
            last = f"the last good checkpoint is after {plural(saved, 'generation')}"
        kept = "" if best is None else f", the best objective in {BEST_OBJECTIVE}"
        return DivergedError(
            f"{diagnosis}; {last} in {self.path}{kept}: "
            f"start again with a lower {STEP_SIZES[self.config.trainer]} in a new run directory"
        )

    def _resume_or_init(self) -> Any:
        """The newest good checkpoint, or generation 0; metrics are cut back to match."""
        # jit gives the initial state the type that the compiled generation returns.
        abstract = jax.eval_shape(self.program.init)
        restored = self.saver.restore(abstract)
        if restored is None:
            distributed.lead(lambda: self.directory.resume_metrics(0))
            with self.clock.spent("compile"):
                return self.program.place(jax.jit(self.program.init)(self._start()))
        for step in restored.damaged:
            self._say(f"checkpoint {step} is damaged; going on from checkpoint {restored.generation}")
        distributed.lead(lambda: self._resume_metrics(restored.generation))
        # The process may have died between the two, or the newest checkpoint may be damaged.
        self.saver.save_objective(restored.state, self.env_steps)
        self._say(f"resumed at generation {restored.generation}")
        for note in distributed.lead(lambda: self.directory.notes) or []:
            self._say(note)
        return self.program.place(restored.state)

    def _start(self) -> MetaParams | None:
        """The meta-parameters that the search begins at; None: the rule's own."""
        name, rule = self.config.start_from, self.program.objective
        if name is None:
            return None
        found = distributed.lead(lambda: starting_point(source(name, self.path), rule))
        return distributed.tree_from_leader(found, jax.eval_shape(rule.init, jax.random.key(0)))

    def _resume_metrics(self, generation: int) -> None:
        """Restores on process 0 what depends on past metrics: totals, clock and trend."""
        last = self.directory.resume_metrics(generation)
        if last is not None:
            self.env_steps = last["env_steps"]
            self.clock.resume(last)
        self.trend = trend_of(self.directory.rows(), self.config.held_out)

    def _record_history(self, done: int) -> None:
        """Records on process 0 what computes the run from here on, and warns where that has changed."""
        if changes := self.directory.record_history(done):
            text = f"warning: {'; '.join(changes)}: from generation {done} on results may differ"
            self._say(text, logging.WARNING)

    def _compile(self, state: Any) -> Any:
        began = time.monotonic()
        self.console.print(
            Text.assemble(
                (self.config.preset, "bold"),
                f" on {self.program.mesh.size} {jax.default_backend()} device(s): compiling …",
            )
        )
        with self.clock.spent("compile"):
            step = compile_step(self.program, state)
            if self.held_out.due_between(int(state.generation), self.config.generations):
                self.held_out.compile(state)
        self._say(f"compiled in {time.monotonic() - began:.1f} s")
        return step

    def _save(self, state: Any, loggers: list[Logger]) -> None:
        """Checkpoint, current objective and gallery; the checkpoint is written in the background."""
        done = int(state.generation)
        if done == self.saver.saved:
            return
        mean = self.saver.meta_params(state)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mean)):
            raise self._diverged(f"generation {done - 1}: the meta-parameters are no longer finite")
        self.saver.save(state, self.env_steps, self.trend.best)
        # After a stop signal nobody waits for pictures.
        if self.stopped is None and self._stop_signal() is None:
            self.saver.log_levels(state, loggers)

    def _say(self, message: str, level: int = logging.INFO) -> None:
        say(self.console, message, level)


def _signal(answers: np.ndarray) -> signal.Signals | None:
    """The stop signal that one of the processes got; answers are its number, or 0."""
    number = int(answers.max())
    return signal.Signals(number) if number else None

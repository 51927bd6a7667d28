"""`meta_train`: a meta-training run from its configuration to its outcome."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
from rich.console import Console

from rl_discovery.checkpoints.run_directory import CONFIG, LOG
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import RunConfig, validate
from rl_discovery.meta.presets import PRESETS
from rl_discovery.meta.runs import distributed
from rl_discovery.meta.runs.directory import RunDirectory
from rl_discovery.meta.runs.log import run_log, say
from rl_discovery.meta.runs.loop import Run, RunOutcome
from rl_discovery.meta.runs.signals import StopRequest
from rl_discovery.meta.warm_start import START, first_stage, source, starting_point

NAN_SWITCHES = {"jax_debug_nans": jax.debug_nans, "jax_debug_infs": jax.debug_infs}
"""Switches that would end every run: strategies begin with an infinitely bad fitness, and metrics without a
value are NaN."""


def meta_train(config: RunConfig, run_dir: Path, console: Console, *, profile: bool = False) -> RunOutcome:
    """Runs or resumes a meta-training run until its last generation or a stop signal.

    Args:
        config: the configuration; on resume the same in all that decides results.
        run_dir: where everything goes.
        console: for progress and messages.
        profile: whether to write a trace of the second generation of this call to profile/ in `run_dir`.

    Raises:
        RunError, ConfigError: the run directory cannot be used (see `RunDirectory`), or no agent's episodes
            end.
        CheckpointError: a checkpoint could not be written.
        DivergedError: no candidate of a generation had a finite fitness, or held-out fitness fell and
            `held_out.on_divergence` is stop.
    """
    config = validate(config)
    stopped = _first_stage(config, run_dir, console)
    if stopped is not None:
        return stopped
    watch = distributed.Watch(
        lambda line: console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    )
    try:
        outcome = _meta_train(
            config, run_dir, console if distributed.leads() else Console(quiet=True), profile
        )
    except distributed.ORDERLY:
        watch.leave()
        raise
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if distributed.several() and distributed.is_broken_connection(error):
            watch.give_up(error)
        raise
    watch.leave()
    return outcome


def _first_stage(config: RunConfig, run_dir: Path, console: Console) -> RunOutcome | None:
    """Runs the preset that the run starts from, unless that is done; its outcome if it was stopped."""
    name = first_stage(config.start_from)
    if name is None or _has_begun(run_dir):
        return None
    stage = dataclasses.replace(PRESETS.find(name).config, seed=config.seed, logging=config.logging)
    outcome = meta_train(stage, run_dir / START, console)
    return None if outcome.signal is None else outcome


def _has_begun(run_dir: Path) -> bool:
    """Whether the run has a configuration already, as process 0 sees it."""
    return bool(distributed.agree({"begun": (run_dir / CONFIG).exists()})["begun"][0])


def _meta_train(config: RunConfig, run_dir: Path, console: Console, profile: bool) -> RunOutcome:
    with contextlib.ExitStack() as stack:
        stop = StopRequest(
            lambda number: console.print(
                f"{number.name}: saving after this generation (again to quit at once)"
            )
        )
        stack.callback(stop.close)
        notes = [] if stop.catches else ["not in the main thread: signals do not stop this run cleanly"]
        notes += stack.enter_context(_without_debugging())
        distributed.check_same(config)
        program = make_program(config)  # before the directory holds a configuration that cannot work
        start = None if config.start_from is None else source(config.start_from, run_dir)
        if start is not None and not _has_begun(run_dir):
            distributed.lead(lambda: starting_point(start, program.objective))  # for the same reason
        directory = distributed.lead(lambda: RunDirectory(run_dir, config))
        if directory is not None:
            stack.callback(directory.close)
        distributed.lead(lambda: stack.enter_context(run_log(run_dir / LOG)))
        for note in notes:
            say(console, note)
        return Run(config, program, run_dir, directory, console, stop, profile).run()


@contextlib.contextmanager
def _without_debugging() -> Iterator[list[str]]:
    """Switches off JAX's checks for NaN and infinities inside; yields a line for each that was on."""
    asked = [name for name in NAN_SWITCHES if getattr(jax.config, name)]
    with contextlib.ExitStack() as stack:
        for name in asked:
            stack.enter_context(NAN_SWITCHES[name](False))
        yield [f"{name} is off in this run, where NaN and inf are ordinary values" for name in asked]

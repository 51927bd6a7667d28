"""`rl-discovery sweep`: a grid or random search over fields, each trial a `meta-train` of its own."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro
from rich import box
from rich.table import Table
from rich.text import Text

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.errors import RunError
from rl_discovery.discovery.formatting import count, duration, number
from rl_discovery.meta.runs.signals import StopRequest
from rl_discovery.scripts import child, early, index, output
from rl_discovery.scripts.arguments import UsageError, check_folder, check_positive, parse
from rl_discovery.scripts.flags import flag
from rl_discovery.scripts.meta_train import parse_arguments
from rl_discovery.scripts.status import STYLES

if TYPE_CHECKING:
    from rl_discovery.meta.config import RunConfig
    from rl_discovery.meta.runs.sweep import Plan, Result, Trial

DIVERGED = 3
"""Exit status of a trial that diverged."""

TASK = "SLURM_ARRAY_TASK_ID"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Search over fields of the configuration: every combination of --grid, or --random K of them, each a
    run in a directory of its own below --dir. Run it again to go on where it was stopped.

    What follows `--` are flags of `meta-train` for all trials: `-- --generations 200 --es.pairs 32`.
    `rl-discovery meta-train --help-all` explains them all.
    """

    dir: Path
    """The sweep's directory: sweep.json is the plan, and each trial has a run directory."""

    preset: Annotated[str | None, tyro.conf.arg(metavar=index.choices("presets"))] = None
    """What every trial starts from (default: ta-lpg-cpu)."""

    config: Path | None = None
    """TOML file with any part of the configuration, over the preset, for all trials (see `meta-train`)."""

    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FIELD=A,B ...")] = ()
    """FIELD=A,B,... for each field, dotted (es.sigma=0.05,0.1); with --random also FIELD=LOW..HIGH, which
    is drawn log-uniformly (es.sigma=0.01..0.3), as an integer if both ends are written as integers."""

    seeds: tuple[int, ...] = ()
    """Run every combination with each of these seeds (default: the preset's)."""

    random: int | None = None
    """This many random combinations, all different, in place of all there are."""

    seed: int = 0
    """Seed of the random combinations."""

    plan: bool = False
    """Write and print the plan; run nothing."""

    index: int | None = None
    """Run this trial only, counted from 0."""

    array: bool = False
    """Run the trial of this Slurm array task only: --index from SLURM_ARRAY_TASK_ID."""

    table: bool = False
    """Print the comparison of the sweep in --dir as it stands; nothing else is looked at, nothing runs."""

    json: bool = False
    """Print the comparison, or the plan, as one JSON document."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    own, common = _split(argv)
    arguments = parse(Arguments, own, "sweep")
    number = _check(arguments)
    if not arguments.table:
        _check_fields(arguments, common)

    import jax

    # Checking a configuration must not take an accelerator's memory from the trials. An environment
    # variable would reach them too.
    jax.config.update("jax_platforms", "cpu")
    from rl_discovery.meta.runs import sweep

    if arguments.table:
        _print_comparison(arguments, sweep.read_plan(arguments.dir))
        return 0
    with output.only_json():
        plan, configs = _plan(arguments, common)
        if number is not None and number >= len(configs):
            raise UsageError(f"trial {number}: there are {len(configs)}, counted from 0")
        sweep.write_plan(arguments.dir, plan)
    if arguments.plan:
        _print_plan(arguments, plan)
        return 0
    unfinished = [
        trial
        for trial, config in zip(plan.trials, configs, strict=True)
        if not sweep.is_finished(arguments.dir / trial.name, config)
    ]
    if number is not None:
        trial = plan.trials[number]
        _say(f"{trial.name}{'' if trial in unfinished else ': done already'}", style="bold")
        if trial in unfinished:
            _become(arguments, common, trial)
        return 0
    again = spelling.command("sweep", *argv)
    status = _Runner(arguments, common, plan, again).run(unfinished)
    if status < 128:
        with contextlib.nullcontext() if arguments.json else output.of_finished_work():
            _print_comparison(arguments, plan)
    return status


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    if "--" not in argv:
        return list(argv), []
    at = list(argv).index("--")
    return list(argv[:at]), list(argv[at + 1 :])


def _check(arguments: Arguments) -> int | None:
    """Refuses what contradicts itself; returns which trial is asked for, if only one."""
    actions = [name for name in ("plan", "index", "array", "table") if getattr(arguments, name)]
    if arguments.index == 0:
        actions.append("index")
    if len(actions) > 1:
        raise UsageError(f"choose one of {' and '.join(f'--{name}' for name in actions)}")
    if not arguments.grid and not arguments.seeds and not arguments.table:
        raise UsageError("what is to be searched? give --grid FIELD=A,B ... or --seeds (see --help)")
    if arguments.table and not (arguments.dir / "sweep.json").is_file():
        raise RunError(f"{arguments.dir} is not a sweep: it has no sweep.json")
    check_folder(arguments.dir)
    check_positive(arguments, "random")
    if len(set(arguments.seeds)) < len(arguments.seeds):
        raise UsageError(f"--seeds must differ from each other, not {arguments.seeds}")
    number = arguments.index
    if arguments.array:
        task = os.environ.get(TASK, "")
        if not task.isdecimal():
            raise UsageError(f"--array is for Slurm's array jobs, and {TASK} is not set; or use --index I")
        number = int(task)
    if number is not None and number < 0:
        raise UsageError(f"--index counts from 0, not {number}")
    if number is not None and arguments.json:
        raise UsageError("--json prints the comparison of a whole sweep: use it with --table")
    return number


def _start(arguments: Arguments) -> list[str]:
    """Flags of `meta-train` that say what every trial starts from."""
    preset = [] if arguments.preset is None else ["--preset", arguments.preset]
    return preset if arguments.config is None else [*preset, "--config", spelling.word(arguments.config)]


def _check_fields(arguments: Arguments, common: list[str]) -> None:
    """Refuses misspelt names before JAX is imported; see `early`."""
    early.check([*_start(arguments), *common], resume=False)
    for text in arguments.grid:
        name, equals, _ = text.partition("=")
        early.check_field(name)
        if not equals:
            raise UsageError(f"--grid: {text!r} is no FIELD=VALUE,... or FIELD=LOW..HIGH")


def _plan(arguments: Arguments, common: list[str]) -> tuple["Plan", list["RunConfig"]]:
    from rl_discovery.meta.errors import ConfigError
    from rl_discovery.meta.presets import PRESETS
    from rl_discovery.meta.runs import sweep

    if {"--preset", "--config"} & {word.partition("=")[0] for word in common}:
        raise UsageError("--preset and --config stand before the `--`")
    asked = parse_arguments([*_start(arguments), *common])
    preset = PRESETS.find(asked.config.preset).config
    if asked.run_dir is not None or asked.print_config:
        raise UsageError("a sweep's trials take neither --run-dir nor --print-config behind the `--`")
    try:
        axes = [sweep.parse_axis(text, asked.config) for text in arguments.grid]
        if arguments.seeds and any(axis.name == "seed" for axis in axes):
            raise ConfigError("seed is named twice: in --grid and by --seeds")
        points = sweep.points(axes, arguments.random, arguments.seed)
    except ConfigError as error:
        raise UsageError(f"--grid: {error}") from None
    if arguments.seeds:
        points = [{**point, "seed": str(seed)} for point in points for seed in arguments.seeds]
    return sweep.make_plan(preset, asked.config, points)


def process_of(arguments: Arguments, common: list[str], trial: "Trial") -> tuple[list[str], dict[str, str]]:
    """The command line of a trial and its environment variables."""
    start = _start(arguments)
    # Named also where it is the preset's: a trial that was begun has its own number, which may be another.
    generations = ["--generations", str(parse_arguments(start).config.generations)]
    overrides = [word for name, value in trial.overrides.items() for word in flag(name, value)]
    run_dir = spelling.word(arguments.dir / trial.name)
    flags = [*start, *generations, *common, *overrides, "--run-dir", run_dir]
    return [*child.COMMAND, "meta-train", *spelling.plugin_flags(), *flags], child.environment()


def _become(arguments: Arguments, common: list[str], trial: "Trial") -> NoReturn:
    """Replaces this process by the trial's: a scheduler's signals reach it once, its exit status is ours."""
    words, environment = process_of(arguments, common, trial)
    sys.stdout.flush()
    os.execve(words[0], words, environment)


class _Runner:
    def __init__(self, arguments: Arguments, common: list[str], plan: "Plan", again: str) -> None:
        self.arguments = arguments
        self.common = common
        self.plan = plan
        self.again = again
        self.child: subprocess.Popen[bytes] | None = None

    def run(self, unfinished: Sequence["Trial"]) -> int:
        """Returns the exit status; a trial that fails does not end the sweep."""
        failed: dict[str, int] = {}
        stop = StopRequest(self._pass_on)
        try:
            for number, trial in enumerate(self.plan.trials):
                if trial not in unfinished:
                    _say(f"trial {number + 1} of {len(self.plan.trials)}: {trial.name}: done already")
                    continue
                _say(f"trial {number + 1} of {len(self.plan.trials)}: {trial.name}", style="bold")
                status = self._wait(trial, stop)
                if stop.signal is not None:
                    _say(f"the sweep is stopped; go on with\n  {self.again}")
                    return 128 + stop.signal
                if status != 0:
                    failed[trial.name] = status
        finally:
            stop.close()
        return self._report(failed)

    def _wait(self, trial: "Trial", stop: StopRequest) -> int:
        """Runs a trial to its end; returns its exit status, negative where a signal killed it."""
        words, environment = process_of(self.arguments, self.common, trial)
        self.child = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=2,  # standard output is the comparison's
            # Ctrl-C reaches a whole group: the trial would get it twice, and quit at the second.
            process_group=0,
        )
        try:
            if stop.signal is not None:  # it came while the process was started
                self.child.send_signal(stop.signal)
            return self.child.wait()
        except BaseException:  # a second Ctrl-C
            self.child.send_signal(signal.SIGINT)
            self.child.wait()
            raise

    def _pass_on(self, number: signal.Signals) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)

    def _report(self, failed: Mapping[str, int]) -> int:
        for name, status in failed.items():
            words = "diverged" if status == DIVERGED else f"failed with exit status {status}"
            if status < 0:
                words = f"was killed by {signal.Signals(-status).name}"
            _say(f"{name} {words}", style="red")
        if not failed:
            return 0
        trials = len(self.plan.trials)
        _say(f"{len(failed)} of {trials} trials failed; to try them again:\n  {self.again}")
        return DIVERGED if set(failed.values()) == {DIVERGED} else 1


def _say(message: str, style: str | None = None) -> None:
    output.messages().print(message, style=style, soft_wrap=True)


def _print_plan(arguments: Arguments, plan: "Plan") -> None:
    from rl_discovery.meta.runs import sweep

    if arguments.json:
        output.print_json(sweep.to_document(plan))
        return
    last = len(plan.trials) - 1
    lines = [f"{len(plan.trials)} trials in {arguments.dir}"]
    lines += [f"  {trial.name}" for trial in plan.trials]
    lines += [
        f"one of them: --index 0 to {last}; in a Slurm job script --array, with sbatch --array=0-{last}"
    ]
    print("\n".join(lines))


def _print_comparison(arguments: Arguments, plan: "Plan") -> None:
    from rl_discovery.meta.runs import sweep

    results = sweep.compare(arguments.dir, plan)
    if arguments.json:
        trials = [dataclasses.asdict(result) for result in results]
        output.print_json({"format": sweep.FORMAT, "trials": trials})
    else:
        output.results().print(_comparison(results))


def _comparison(results: Sequence["Result"]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    names = list(dict.fromkeys(name for result in results for name in result.overrides))
    held_out = any(result.held_out_fitness is not None for result in results)
    table.add_column("trial", no_wrap=True)
    for name in names:
        table.add_column("\n.".join(name.rsplit(".", 1)), justify="right", overflow="fold")
    for title in ("state", "generations", *(["held out"] if held_out else []), "fitness", "steps", "time"):
        table.add_column(title, justify="left" if title == "state" else "right", no_wrap=True)
    for result in results:
        total = "" if result.total is None else f"/{result.total:,}"
        style = STYLES.get(result.state, "red" if result.state == "damaged" else "dim")
        table.add_row(
            result.name.partition("_")[0],
            *(str(result.overrides.get(name, "")) for name in names),
            Text(result.state, style),
            f"{result.generations:,}{total}",
            *([number(result.held_out_fitness, 3)] if held_out else []),
            number(result.fitness, 3),
            count(result.env_steps),
            duration(result.seconds),
        )
    return table

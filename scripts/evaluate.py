"""`rl-discovery evaluate OBJECTIVE...`: train agents with objectives on levels they never saw."""

import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.axes import Axes
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rl_discovery import evaluation
from rl_discovery.checkpoints import load_objective, spelling
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import RunError
from rl_discovery.checkpoints.loading import find_path
from rl_discovery.checkpoints.objective_file import is_learned
from rl_discovery.checkpoints.run_directory import Row, metrics_lines
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.schedule import Scheduled, furthest_horizons
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs import suites
from rl_discovery.evaluation.analysis.schedule import draw_factors
from rl_discovery.evaluation.tuning import tunable
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import UsageError, check_devices, check_horizons, check_positive, parse
from rl_discovery.scripts.tables import tables

Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


class OutputError(RuntimeError):
    """The results cannot be written where they were asked for."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train agents from scratch with each objective on every level of a suite, and score them.

    Scores are (return - random policy) / (best policy - random policy), where both can be computed.
    """

    objectives: tyro.conf.Positional[tuple[str, ...]]
    """Run directories, exported .safetensors, shipped names, or hand-written ones (a2c, ppo, dpo, random).
    A name of which there is a file or folder too is spelled shipped:NAME or ./NAME."""

    suite: tuple[str, ...] = ("unseen",)
    """What to train on, one or several: suites (`rl-discovery list suites`), level distributions
    (gridworld/dense), environments (CartPole-v1), or of a module of yours my_module:FAMILY/NAME."""

    horizons: tuple[int, ...] = ()
    """Lifetimes in the suites' unit, agent updates or environment steps (default: each suite's own)."""

    seeds: int = 5
    """Agents per level; fewer than three give no confidence interval."""

    baselines: tuple[str, ...] = (f"{spelling.SHIPPED}a2c", f"{spelling.SHIPPED}random")
    """Objectives to compare with, named as OBJECTIVE is."""

    tune: Flag = False
    """First choose the best of nine settings for each hand-written objective (step size, entropy bonus)."""

    levels: int | None = None
    """Levels drawn from each level distribution (default: the suite's own number)."""

    workers: int | None = None
    """Workers (copies of the environment) per agent. Default: the published number on control suites;
    elsewhere the number that the first evolved objective was trained with."""

    block_size: int | None = None
    """Agents trained side by side on a device (default: as many as have 128 workers together; a GPU needs
    thousands)."""

    devices: int | None = None
    """Devices to use (default: all; on a CPU one per core). Does not change the results."""

    curve_points: int = evaluation.CURVE_POINTS
    """Points of each learning curve, including the end; each point costs 16 episodes per agent."""

    cache: Flag = True
    """Store finished results and reuse them, so that a stopped evaluation continues where it was."""

    out: Path | None = None
    """Folder for results and figures (default: the run directory, if OBJECTIVE is a single run)."""

    json: Flag = False
    """Print the results as one JSON document."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "evaluate")
    _check(arguments)
    chosen = list({suite.name: suite for suite in map(suites.suite, arguments.suite)}.values())
    if arguments.levels is not None:
        chosen = [dataclasses.replace(suite, levels_per_environment=arguments.levels) for suite in chosen]
    console = output.messages()
    with output.only_json():
        objectives, baselines = load(arguments.objectives, arguments.baselines)
        tune = _to_tune(objectives) if arguments.tune else []
        # Results of several objectives belong to none of them.
        paths = [find_path(name) for name in arguments.objectives]
        runs = [path for path in paths if path is not None and path.is_dir()]
        run = runs[0] if len(arguments.objectives) == len(runs) == 1 else None
        out = arguments.out or run
        if out is not None:
            check_writable(out)
        with _display(console) as progress:
            results = evaluation.evaluate(
                objectives,
                chosen,
                arguments.horizons,
                range(arguments.seeds),
                mesh=make_mesh(arguments.devices),
                baselines=baselines,
                tune=tune,
                workers=arguments.workers
                or {suite.name: evaluation.trained_workers(objectives.values(), suite) for suite in chosen},
                block_size=arguments.block_size,
                points=arguments.curve_points,
                store=evaluation.Store(evaluation.default_folder() if arguments.cache else None),
                progress=progress,
            )
        own = None if run is None else next(iter(objectives.values()))
        written = [] if out is None else save(results, out, run, own)
    if arguments.json:
        output.print_json(json.loads(results.to_json()))
    else:
        printer = output.results(output.WIDTH)
        with contextlib.nullcontext() if out is None else output.of_finished_work():
            for suite in chosen:
                printer.print(*tables(results, suite.name, objectives))
    for note in (*beginnings(objectives), *held_horizons(results, objectives)):
        console.print(note, soft_wrap=True)
    for path in written:
        console.print(f"wrote {path}", soft_wrap=True)
    if out is None and not arguments.json:
        console.print("nothing was written; --out DIR keeps results and figures")
    return 0


def _check(arguments: Arguments) -> None:
    if not arguments.objectives:
        raise UsageError("which objective? (`rl-discovery evaluate --help` says what can be named)")
    check_positive(arguments, "seeds", "levels", "workers", "block_size", "curve_points")
    check_devices(arguments.devices)
    check_horizons(arguments.horizons)


def _to_tune(objectives: Mapping[str, TrainedObjective]) -> list[str]:
    labels = [label for label, objective in objectives.items() if tunable(objective)]
    if not labels:
        raise UsageError("--tune: none of these objectives is hand-written and has an entropy bonus")
    return labels


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write there, so that no result is computed in vain."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def load(names: Sequence[str], baselines: Sequence[str]) -> tuple[dict[str, TrainedObjective], list[str]]:
    """Objectives by label, and which of them are baselines.

    A label is the rule's name, with where it came from where that is not unique.
    """
    loaded = {_one_spelling(name): load_objective(name) for name in dict.fromkeys([*names, *baselines])}
    names, baselines = [_one_spelling(name) for name in names], [_one_spelling(name) for name in baselines]
    rules = [objective.name for objective in loaded.values()]
    labels = {
        name: objective.name
        if rules.count(objective.name) == 1 or name == objective.name
        else f"{objective.name} ({name})"
        for name, objective in loaded.items()
    }
    return {labels[name]: objective for name, objective in loaded.items()}, [
        labels[name] for name in dict.fromkeys(baselines) if name not in names
    ]


def _one_spelling(name: str) -> str:
    """The name without `shipped:`, so that two spellings of one objective are one."""
    return name.removeprefix(spelling.SHIPPED) if find_path(name) is None else name


def beginnings(objectives: Mapping[str, TrainedObjective]) -> Iterator[str]:
    """What evolution began from, of objectives that did not begin from nothing."""
    for label, objective in objectives.items():
        start = objective.rule.begins_as
        if start is not None and is_learned(objective.rule):
            generations, steps = (objective.card.get(name) for name in ("generations", "env_steps"))
            after = f", and was evolved over {steps:,} environment steps" if generations and steps else ""
            yield f"{label} began as {start}{after}"


def held_horizons(results: evaluation.Results, objectives: Mapping[str, TrainedObjective]) -> Iterator[str]:
    """Notes on lifetimes beyond the range of N that an objective can tell apart."""
    for label, objective in objectives.items():
        rule = objective.rule
        if not isinstance(rule, Scheduled) or not rule.scales_horizon:
            continue
        low, high = furthest_horizons(rule.shortest_horizon, rule.longest_horizon)
        lifetimes = sorted({cell.updates for cell in results.cells if cell.objective == label})
        if outside := [f"{n:,}" for n in lifetimes if not low <= n <= high]:
            yield (
                f"{label} was evolved for lifetimes of {rule.shortest_horizon:,} to {rule.longest_horizon:,} "
                f"updates: with {', '.join(outside)} it saw {math.ceil(low):,} or {math.floor(high):,}, "
                "the nearest that it can tell"
            )


def save(
    results: evaluation.Results, out: Path, run: Path | None, objective: TrainedObjective | None = None
) -> list[Path]:
    """Writes results and figures; `summary.png` too where a run's metrics are at hand, with its schedule."""
    results.save(out / "results.json")
    replace_file(out / "results.csv", results.to_csv().encode())
    written = [out / "results.json", out / "results.csv"]
    figures = {
        "evaluation": evaluation.evaluation_figure(results),
        "curves": evaluation.curves_figure(results),
        "profiles": evaluation.profiles_figure(results),
    }
    rows = [] if run is None else _metrics_so_far(run)
    if rows:
        figures["summary"] = evaluation.learning_figure(rows, results, _draw_more(results, objective))
    for name, figure in figures.items():
        if figure is not None:
            written += evaluation.save_both(figure, out, name)
    return written


def _draw_more(
    results: evaluation.Results, objective: TrainedObjective | None
) -> list[Callable[[Axes], None]]:
    if objective is None or not objective.rule.schedule:
        return []
    lifetimes = sorted({cell.updates for cell in results.cells})
    return [lambda ax: draw_factors(ax, objective, lifetimes)]


def _metrics_so_far(run: Path) -> list[Row]:
    """The metrics up to what is damaged or cannot be read: results are saved all the same."""
    rows: list[Row] = []
    with contextlib.suppress(RunError):
        for line in metrics_lines(run):
            rows.append(line.row)  # noqa: PERF401 - what came before an error stays
    return rows


@contextlib.contextmanager
def _display(console: Console) -> Iterator[Callable[[evaluation.Stage], None]]:
    if not console.is_terminal:
        yield lambda stage: console.print(f"{stage.done:4.0%} {_describe(stage)}", soft_wrap=True)
        return
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
    what = TextColumn("{task.description}", markup=False)
    with Progress(*columns, what, console=console, transient=True) as bar:
        task = bar.add_task("preparing levels", total=1.0)
        yield lambda stage: bar.update(task, completed=stage.done, description=_describe(stage))


def _describe(stage: evaluation.Stage) -> str:
    if stage.done == 1:
        return "done"
    what = f"settings of {stage.objective}" if stage.tuning else stage.objective
    return f"{what} on {stage.environment}, horizon {stage.horizon}"

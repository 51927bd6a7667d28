"""`rl-discovery evaluate OBJECTIVE...`: train agents with objectives on levels they never saw."""

import contextlib
import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from rl_discovery import evaluation
from rl_discovery.checkpoints import load_objective, spelling
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import RunError
from rl_discovery.checkpoints.loading import find_path
from rl_discovery.checkpoints.objective_card import total_env_steps
from rl_discovery.checkpoints.objective_file import is_learned
from rl_discovery.checkpoints.run_directory import Row, metrics_lines
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.schedule import Scheduled, furthest_horizons
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs import suites
from rl_discovery.evaluation import tuning
from rl_discovery.evaluation.analysis.schedule import draw_factors
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import PlaceError, UsageError, check_devices
from rl_discovery.scripts.evaluate_arguments import parse_arguments
from rl_discovery.scripts.progress import progress_of_evaluation
from rl_discovery.scripts.tables import tables


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse_arguments(argv)
    check_devices(arguments.devices)
    chosen = list({suite.name: suite for suite in map(suites.suite, arguments.suite)}.values())
    if arguments.levels is not None:
        chosen = [dataclasses.replace(suite, levels_per_environment=arguments.levels) for suite in chosen]
    console = output.messages()
    with output.only_json():
        objectives, baselines = load(arguments.objectives, arguments.baselines)
        grid = tuning.STEP_SIZES if arguments.tune_step_size else tuning.GRID
        tune = _to_tune(objectives, grid) if arguments.tune or arguments.tune_step_size else []
        # Results of several objectives belong to none of them.
        paths = [find_path(name) for name in arguments.objectives]
        runs = [path for path in paths if path is not None and path.is_dir()]
        run = runs[0] if len(arguments.objectives) == len(runs) == 1 else None
        out = arguments.out or run
        if out is not None:
            check_writable(out)
        with progress_of_evaluation(console) as progress:
            results = evaluation.evaluate(
                objectives,
                chosen,
                arguments.horizons,
                range(arguments.seeds),
                mesh=make_mesh(arguments.devices),
                baselines=baselines,
                tune=tune,
                grid=grid,
                workers=arguments.workers
                or {suite.name: evaluation.trained_workers(objectives.values(), suite) for suite in chosen},
                hidden=arguments.hidden,
                block_size=arguments.block_size,
                points=arguments.curve_points or evaluation.CURVE_POINTS,
                store=evaluation.Store(None if arguments.no_cache else evaluation.default_folder()),
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


def _to_tune(objectives: Mapping[str, TrainedObjective], grid: Sequence[tuning.Settings]) -> list[str]:
    labels = [label for label, objective in objectives.items() if tuning.tunable(objective, grid)]
    if not labels and grid is tuning.GRID:
        raise UsageError("--tune: none of these objectives is hand-written and has an entropy bonus")
    if not labels:
        raise UsageError("--tune-step-size: none of these objectives has a step size")
    return labels


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write there, so that no result is computed in vain."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PlaceError(f"cannot write to {folder}: {error.strerror}") from error


def load(names: Sequence[str], baselines: Sequence[str]) -> tuple[dict[str, TrainedObjective], list[str]]:
    """Objectives by label, and which of them are baselines.

    A label is the objective's own name; of a file or a run it is the rule's, and where that is not unique,
    what the file is called follows.
    """
    asked = dict.fromkeys([*names, *baselines])
    own = {_one_spelling(name) for name in asked if find_path(name) is None}
    loaded = {_one_spelling(name): load_objective(name) for name in asked}
    names, baselines = [_one_spelling(name) for name in names], [_one_spelling(name) for name in baselines]
    called = {name: found.name for name, found in loaded.items()}
    labels = {
        name: label if name in own or [*called.values()].count(label) == 1 else f"{label} ({short})"
        for (name, label), short in zip(called.items(), spelling.short(loaded), strict=True)
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
            generations, steps = objective.card.get("generations"), total_env_steps(objective.card)
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

"""`rl-discovery evaluate OBJECTIVE...`: train agents with objectives on levels they never saw."""

import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import evaluation
from checkpoints import load_objective
from discovery.blocks import make_mesh
from discovery.objectives.base import TrainedObjective
from envs import suites
from scripts import output
from scripts.arguments import UsageError, parse

Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


class OutputError(RuntimeError):
    """The results cannot be written where they were asked for."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train agents from scratch with each objective on every level of a suite and score what they reach.

    Scores are (return - random policy) / (best policy - random policy), where both can be computed.
    """

    objectives: tyro.conf.Positional[tuple[str, ...]]
    """Run directories, exported .safetensors, shipped names, or hand-written ones (a2c, ppo, dpo, random)."""

    suite: str = "unseen"
    """What to train on (`rl-discovery list suites`)."""

    horizons: tuple[int, ...] = ()
    """Lifetimes in the suite's unit (default: the suite's own)."""

    seeds: int = 5
    """Agents per level; fewer than three give no confidence interval."""

    baselines: tuple[str, ...] = ("a2c", "random")
    """Objectives to compare with, named as OBJECTIVE is."""

    levels: int | None = None
    """Levels drawn from each environment of the suite (default: the suite's own number)."""

    workers: int | None = None
    """Workers of every agent (default: what the first objective was trained with, else the published)."""

    block_size: int | None = None
    """Agents trained side by side on a device (default: 128 workers' worth; a GPU wants thousands)."""

    devices: int | None = None
    """Devices to use (default: all; on a CPU one per core). Results do not depend on it."""

    out: Path | None = None
    """Folder for results.json and figures (default: the run directory, if OBJECTIVE is one)."""

    json: Flag = False
    """Print the results as one JSON document."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "evaluate")
    _check(arguments)
    suite = suites.suite(arguments.suite)
    if arguments.levels is not None:
        suite = dataclasses.replace(suite, levels_per_environment=arguments.levels)
    console = Console(stderr=True)
    with output.only_json():
        objectives = load(dict.fromkeys([*arguments.objectives, *arguments.baselines]))
        run = next((Path(name) for name in arguments.objectives if Path(name).is_dir()), None)
        out = arguments.out or run
        if out is not None:
            check_writable(out)
        with _display(console) as progress:
            results = evaluation.evaluate(
                objectives,
                suite,
                arguments.horizons or suite.horizons,
                range(arguments.seeds),
                mesh=make_mesh(arguments.devices),
                workers=arguments.workers or trained_workers(objectives, suite),
                block_size=arguments.block_size,
                progress=progress,
            )
        written = [] if out is None else save(results, out, run)
    if arguments.json:
        output.print_json(json.loads(results.to_json()))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(*tables(results, suite, objectives))
    for path in written:
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    return 0


def _check(arguments: Arguments) -> None:
    """Refuses impossible arguments before anything is loaded or computed."""
    if not arguments.objectives:
        raise UsageError("which objective? (`rl-discovery evaluate --help` says what can be named)")
    for name in ("seeds", "levels", "workers", "block_size", "devices"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if arguments.devices is not None and arguments.devices > jax.device_count():
        raise UsageError(f"--devices must be at most {jax.device_count()} here, not {arguments.devices}")
    for horizon in arguments.horizons:
        if horizon < 1:
            raise UsageError(f"--horizons must be at least 1, not {horizon}")
    if len(set(arguments.horizons)) < len(arguments.horizons):
        raise UsageError(f"--horizons must differ from each other, not {arguments.horizons}")


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write there, so that no result is computed in vain."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def load(names: Mapping[str, Any] | Sequence[str]) -> dict[str, TrainedObjective]:
    """Objectives by label: the rule's name, with where it came from where that is not unique."""
    loaded = {name: load_objective(name) for name in names}
    rules = [objective.name for objective in loaded.values()]
    return {
        objective.name
        if rules.count(objective.name) == 1 or name == objective.name
        else f"{objective.name} ({name})": objective
        for name, objective in loaded.items()
    }


def trained_workers(objectives: Mapping[str, TrainedObjective], suite: suites.Suite) -> int | None:
    """Workers of the agents that the first learned objective was trained on, if its card says so.

    Control tasks have published numbers of their own.
    """
    if suite.unit == "env_steps":
        return None
    for objective in objectives.values():
        found: Any = objective.card
        for name in ("config", "agent", "workers"):
            found = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(found, int) and found > 0:
            return found
    return None


def save(results: evaluation.Results, out: Path, run: Path | None) -> list[Path]:
    """Writes results and figures; `summary.png` too where a run's metrics are at hand."""
    results.save(out / "results.json")
    evaluation.save_figure(evaluation.evaluation_figure(results), out / "evaluation.png")
    written = [out / "results.json", out / "evaluation.png"]
    rows = [] if run is None else read_metrics(run / "metrics.jsonl")
    if rows:
        evaluation.save_figure(evaluation.learning_figure(rows, results), out / "summary.png")
        written.append(out / "summary.png")
    return written


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl, up to a line that is not whole: the run may be writing it right now."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


@contextlib.contextmanager
def _display(console: Console) -> Iterator[Callable[[evaluation.Stage], None]]:
    """A progress bar on a terminal, a line per stage elsewhere."""
    if not console.is_terminal:
        yield lambda stage: console.print(
            f"{stage.done:4.0%} {_describe(stage)}", highlight=False, soft_wrap=True
        )
        return
    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("preparing levels", total=1.0)
        yield lambda stage: bar.update(task, completed=stage.done, description=_describe(stage))


def _describe(stage: evaluation.Stage) -> str:
    return "done" if stage.done == 1 else f"{stage.objective} on {stage.environment}, horizon {stage.horizon}"


def tables(
    results: evaluation.Results, suite: suites.Suite, objectives: Mapping[str, TrainedObjective]
) -> list[Table]:
    """Scores, and below them raw returns, of every objective at every horizon.

    A suite without a common scale gets a row per environment, with returns alone.
    """
    horizons = list(dict.fromkeys(aggregate.horizon for aggregate in results.aggregate))
    labels = list(dict.fromkeys(aggregate.objective for aggregate in results.aggregate))
    found = {(a.objective, a.horizon): a for a in results.aggregate}
    scored = results.scored(suite.name)
    unit = "agent updates" if suite.unit == "updates" else "environment steps"
    table = Table(
        title=f"Normalised return on suite “{suite.name}” (0 random policy, 1 optimal)"
        if scored
        else f"Return on suite “{suite.name}”",
        caption=_caption(results, scored, objectives if len(horizons) > 1 else {}),
        title_justify="left",
        caption_justify="left",
        min_width=70,
    )
    if not scored:
        table.add_column("environment")
    table.add_column(f"objective \\ {unit}")
    for horizon in horizons:
        table.add_column(f"{horizon:,}", justify="right")
    if scored:
        for label in labels:
            mine = [found[label, horizon] for horizon in horizons]
            cells = [
                f"{_interval(aggregate.iqm, aggregate.ci_low, aggregate.ci_high)}\n"
                f"[dim]{_number(results.mean_return(aggregate))}[/dim]"
                for aggregate in mine
            ]
            table.add_row(escape(label), *cells)
        return [table]
    for environment in results.environments(suite.name):
        for label in labels:
            estimates = [
                results.environment_return(found[label, horizon], environment) for horizon in horizons
            ]
            cells = [_interval(*(estimate or (None,) * 3)) for estimate in estimates]
            table.add_row(environment if label == labels[0] else "", escape(label), *cells)
        table.add_section()
    return [table]


def _caption(results: evaluation.Results, scored: bool, objectives: Mapping[str, TrainedObjective]) -> str:
    """What the numbers are, and who does not see the horizon."""
    levels, seeds = results.cells[0].levels, len({cell.seed for cell in results.cells})
    agents = f"{levels} level{'s' * (levels > 1)} per environment" if scored else "stochastic policy"
    interval = "[95 % interval]" if seeds >= 3 else "no interval with fewer than three seeds"
    mean = "interquartile mean" if scored else "mean over seeds"
    text = f"{agents}, {seeds} seed{'s' * (seeds > 1)}; {mean} {interval}{', raw return below' * scored}"
    blind = [label for label, objective in objectives.items() if not objective.rule.uses_progress]
    if blind:
        text += f"\nWithout horizon inputs: {', '.join(blind)}"
    return escape(text)


def _interval(middle: float | None, low: float | None, high: float | None) -> str:
    """As in "0.81 [0.78, 0.83]", escaped for rich."""
    ends = "" if low is None else escape(f" [{_number(low)}, {_number(high)}]")
    return f"[bold]{_number(middle)}[/bold]{ends}"


def _number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"

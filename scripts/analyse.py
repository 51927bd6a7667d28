"""`rl-discovery analyse OBJECTIVE`: what evolution found, as figures and numbers."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table
from rich.text import Text

from rl_discovery.checkpoints import load_objective, save_objective
from rl_discovery.checkpoints.loading import find_path
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs import suites
from rl_discovery.evaluation import analysis
from rl_discovery.evaluation.analysis.record import Analysis, Curve, Estimated, Number, Surface
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import UsageError, check_devices, check_horizons, check_positive, parse
from rl_discovery.scripts.evaluate import check_writable, trained_workers

Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]

FORMULA = "closed_form.safetensors"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What an objective does with its inputs and over an agent's lifetime; figures and analysis.json.

    For LPG the response of pihat; for objectives in PPO's loop the drift beside PPO and DPO and, if it is
    learned, a formula for it that is an objective of its own. For both, agents over their lifetime, and what
    becomes of them if the objective is told a wrong n/N.
    """

    objective: tyro.conf.Positional[str] = ""
    """A run directory, an exported .safetensors, a shipped name, or a hand-written drift (ppo, dpo)."""

    out: Path | None = None
    """Folder for what is found (default: `analysis` in the run directory, if OBJECTIVE is one)."""

    horizons: tuple[int, ...] = ()
    """N at which response or drift are looked at (default: what the objective was evolved with, from its
    shortest to its longest lifetime)."""

    suite: str = "unseen"
    """Where agents are trained: on the first environment of this suite (`rl-discovery list suites`)."""

    levels: int = 16
    """Levels that agents are trained on."""

    seeds: int = 8
    """Agents per level; fewer than three give no confidence interval."""

    lifetime: int = 100
    """N of the agents that are trained, in agent updates."""

    workers: int | None = None
    """Workers of every agent (default: what the objective was evolved with, else the published)."""

    terms: int = 8
    """Terms that the formula may have."""

    devices: int | None = None
    """Devices to use (default: all). Results do not depend on it."""

    json: Flag = False
    """Print analysis.json."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "analyse")
    _check(arguments)
    suite = dataclasses.replace(suites.suite(arguments.suite), levels_per_environment=arguments.levels)
    console = output.messages()
    out = _folder(arguments)
    with output.only_json():
        objective = load_objective(arguments.objective)
        setting = analysis.Setting(
            suite,
            arguments.lifetime,
            arguments.seeds,
            make_mesh(arguments.devices),
            arguments.workers or trained_workers({objective.name: objective}, [suite]),
        )
        analysis.check(objective, setting)
        check_writable(out)
        findings = analysis.analyse(
            objective,
            arguments.objective,
            setting,
            arguments.horizons or analysis.trained_horizons(objective.card),
            most_terms=arguments.terms,
            progress=lambda stage: console.print(stage, soft_wrap=True),
        )
        written = save(findings, out)
    if arguments.json:
        output.print_json(findings.analysis.document())
    else:
        printer = output.results(output.WIDTH)
        with output.of_finished_work():
            for part in report(findings.analysis):
                printer.print(part)
    for line in (*findings.notes, *(f"wrote {path}" for path in written)):
        console.print(line, soft_wrap=True)
    return 0


def _check(arguments: Arguments) -> None:
    """Refuses impossible arguments before anything is loaded or computed."""
    if not arguments.objective:
        raise UsageError("which objective? (`rl-discovery analyse --help` says what can be named)")
    check_positive(arguments, "levels", "seeds", "lifetime", "workers", "terms")
    check_devices(arguments.devices)
    check_horizons(arguments.horizons)


def _folder(arguments: Arguments) -> Path:
    """Where to write."""
    if arguments.out is not None:
        return arguments.out
    path = find_path(arguments.objective)
    if path is not None and path.is_dir():
        return path / "analysis"
    raise UsageError("where to? give --out DIR")


def save(findings: analysis.Findings, out: Path) -> list[Path]:
    """Writes the document, the figures and the formula."""
    findings.analysis.save(out / "analysis.json")
    written = [out / "analysis.json"]
    for name, figure in analysis.figures(findings).items():
        written += analysis.save_both(figure, out, name)
    if findings.formula is not None:
        save_objective(out / FORMULA, findings.formula)
        written.append(out / FORMULA)
    return written


def report(found: Analysis) -> Iterator[Table | Text | str]:
    """What a person sees: the main numbers at one N, the ablation, the formula."""
    if found.drift is not None:
        yield _drift_table(found)
    if found.response is not None:
        yield _response_table(found)
    distance = found.horizon_blind.overall
    yield (
        f"Distance from its horizon-blind self: {_number(distance)} of its size (RMS)\n"
        if found.objective.sees_horizon
        else "It does not see the horizon.\n"
    )
    yield _lifetimes_table(found)
    if found.closed_form is not None:
        yield Text("Formula", "bold")
        yield found.closed_form.formula
        for error in found.closed_form.errors:
            where = {"met": "points that agents met", "grid": "the grid"}[error.points]
            yield f"  {error.of} on {where}: R^2 {_number(error.r2, 4)}, RMS error {_number(error.rms, 4)}"


def _drift_table(found: Analysis) -> Table:
    """The drift over the lifetime, and PPO's and DPO's."""
    assert found.drift is not None
    horizons = sorted({s.horizon for s in found.drift.surfaces if s.horizon is not None})
    middle = horizons[len(horizons) // 2] if horizons else None
    at = "" if middle is None else f" at N = {middle:,}"
    table = _table(f"Drift of {found.objective.name}{at}", "half: where half of the incentive is left")
    for column in (
        "",
        "half, A = -1",
        "half, A = 1",
        "clip, A = -1",
        "clip, A = 1",
        "pushed back",
        "max f(r, 0)",
    ):
        table.add_column(column, justify="right" if column else "left")
    low, high = (found.drift.advantage.index(A) for A in (-1.0, 1.0))
    for surface in found.drift.surfaces:
        if surface.horizon in (None, middle):
            ends = [surface.half[low], surface.half[high], surface.clip[low], surface.clip[high]]
            cells = [*map(_number, ends), _share(surface.rollback.all), _number(_largest(surface))]
            table.add_row(_surface_name(surface), *cells)
    return table


def _response_table(found: Analysis) -> Table:
    """pihat in the middle of lifetimes."""
    assert found.response is not None
    half_way = "" if not found.objective.sees_horizon else " at n/N = 0.5"
    table = _table(f"pihat of {found.objective.name}{half_way}", "below 0 the action is made likelier")
    sweeps = {sweep.input: sweep for sweep in found.response.sweeps}
    columns = [("reward", 0, "reward -1"), ("reward", 20, "0"), ("reward", 40, "+1")]
    columns += [("steps to a reward", k, f"+1 in {k} steps") for k in (1, 5, 10, 15)]
    for name in ("N", *(text for _, _, text in columns)):
        table.add_column(name, justify="right")
    for i, curve in enumerate(sweeps["reward"].curves):
        if curve.progress in (None, 0.5):
            cells = [_number(_curve(found, name, i).pihat[k]) for name, k, _ in columns]
            table.add_row("any" if curve.horizon is None else f"{curve.horizon:,}", *cells)
    return table


def _curve(found: Analysis, name: str, index: int) -> Curve:
    assert found.response is not None
    return next(sweep for sweep in found.response.sweeps if sweep.input == name).curves[index]


def _lifetimes_table(found: Analysis) -> Table:
    """What agents reach under each view of n/N."""
    lifetimes = found.lifetimes
    where = f"{lifetimes.levels} levels of {lifetimes.environment}, {lifetimes.seeds} seeds"
    table = _table(f"Agents over {lifetimes.horizon:,} updates", f"{where}; [95 % interval] over seeds")
    for column in ("n/N", "score", "difference", "return"):
        table.add_column(column, justify="right" if column != "n/N" else "left")
    for view in lifetimes.views:
        table.add_row(view.view, *(_interval(x, 3) for x in (view.score, view.difference, view.return_)))
    return table


def _table(title: str, caption: str) -> Table:
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        min_width=60,
    )


def _surface_name(surface: Surface) -> str:
    return surface.objective if surface.progress is None else f"n/N = {surface.progress:g}"


def _largest(surface: Surface) -> float:
    return max(value or 0.0 for value in surface.zero_advantage)


def _share(value: Number) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(value: Estimated | None, digits: int) -> str:
    """As in "0.812 [0.783, 0.834]"."""
    if value is None:
        return "–"
    ends = "" if value.low is None else f" [{_number(value.low, digits)}, {_number(value.high, digits)}]"
    return f"{_number(value.mean, digits)}{ends}"


def _number(value: float | None, digits: int = 2) -> str:
    """With so many decimals, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"

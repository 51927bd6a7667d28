"""`rl-discovery analyse OBJECTIVE`: what evolution found, as figures and numbers."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table as RichTable
from rich.text import Text

from rl_discovery import evaluation
from rl_discovery.checkpoints import load_objective, save_objective, spelling
from rl_discovery.discovery.formatting import number, percent
from rl_discovery.discovery.sharding import make_mesh
from rl_discovery.envs import suites
from rl_discovery.evaluation import analysis
from rl_discovery.evaluation.analysis.charts import fit_table, lifetimes_table
from rl_discovery.evaluation.analysis.record import Analysis, Drift, Response
from rl_discovery.evaluation.tables import Table
from rl_discovery.scripts import output
from rl_discovery.scripts.analyse_arguments import parse_arguments
from rl_discovery.scripts.arguments import check_devices
from rl_discovery.scripts.evaluate import check_writable
from rl_discovery.scripts.tables import draw

FORMULA = "closed_form.safetensors"


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse_arguments(argv)
    check_devices(arguments.devices)
    suite = dataclasses.replace(suites.suite(arguments.suite), levels_per_environment=arguments.levels)
    console = output.messages()
    out = arguments.out or spelling.path_of(arguments.objective) / "analysis"
    with output.only_json():
        objective = load_objective(arguments.objective)
        setting = analysis.Setting(
            suite,
            arguments.lifetime,
            arguments.seeds,
            make_mesh(arguments.devices),
            arguments.workers or evaluation.trained_workers([objective], suite),
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


def report(analysed: Analysis) -> Iterator[RichTable | Text | str]:
    """What a person sees: the main numbers at one N, the ablation, the formula."""
    if analysed.drift is not None:
        yield draw(_drift_table(analysed.objective.name, analysed.drift))
    if analysed.response is not None:
        yield draw(_response_table(analysed, analysed.response))
    yield (
        f"Distance from its horizon-blind self: {number(analysed.horizon_blind.overall)} of its size (RMS)\n"
        if analysed.objective.sees_horizon
        else "It does not see the horizon.\n"
    )
    yield draw(lifetimes_table(analysed))
    if analysed.closed_form is not None:
        yield Text("Formula", "bold")
        yield analysed.closed_form.formula
    if (fit := fit_table(analysed)) is not None:
        yield draw(fit)


def _drift_table(name: str, drift: Drift) -> Table:
    at = "" if drift.middle_horizon is None else f" at N = {drift.middle_horizon:,}"
    ends = [drift.advantage.index(A) for A in (-1.0, 1.0)]
    head = ("", "half, A = -1", "half, A = 1", "clip, A = -1", "clip, A = 1", "pushed back", "max f(r, 0)")
    rows = tuple(
        (
            surface.label,
            *(number(side[end]) for side in (surface.half, surface.clip) for end in ends),
            percent(surface.rollback.all),
            number(surface.largest_at_zero),
        )
        for surface in drift.at_middle
    )
    return Table(f"Drift of {name}{at}", head, rows, "half: where half of the incentive is left")


def _response_table(analysed: Analysis, response: Response) -> Table:
    half_way = "" if not analysed.objective.sees_horizon else " at n/N = 0.5"
    curves = {sweep.input: sweep.curves for sweep in response.sweeps}
    columns = [("reward", 0, "reward -1"), ("reward", 20, "0"), ("reward", 40, "+1")]
    columns += [("steps to a reward", k, f"+1 in {k} step{'s' * (k > 1)}") for k in (1, 5, 10, 15)]
    rows = tuple(
        (
            "any" if curve.horizon is None else f"{curve.horizon:,}",
            *(number(curves[name][i].pihat[k]) for name, k, _ in columns),
        )
        for i, curve in enumerate(curves["reward"])
        if curve.progress in (None, 0.5)
    )
    title = f"pihat of {analysed.objective.name}{half_way}"
    return Table(title, ("N", *(text for _, _, text in columns)), rows, "below 0 the action is made likelier")

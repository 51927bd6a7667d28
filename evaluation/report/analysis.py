"""An analysis for the page: figures and tables as in the files, and the explorer.

The explorer is figures that follow a choice of N and a slider over n/N: drift surfaces, or LPG's response.
The page holds every state and swaps the traces' numbers; nothing is interpolated between the moments that
`analyse` looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rl_discovery.discovery.formatting import number, percent
from rl_discovery.evaluation.analysis.charts import fit_table, lifetimes_table, schedule_charts, trace_charts
from rl_discovery.evaluation.analysis.record import Analysis, Curve, Drift, Response, Surface, Sweep
from rl_discovery.evaluation.report.document import AnalysisPart, Explorer, Figure
from rl_discovery.evaluation.report.figures import GREY, PALETTE, draw, faint, figure, line

SLICES = (-1.0, 1.0)
"""A of the slices through a drift."""

TICKS = (0.4, 0.6, 0.8, 1.0, 1.5, 2.5)
"""r on its logarithmic axis."""

NOW, OTHERS = PALETTE[1], faint(GREY, 0.45)
REFERENCES = {"ppo": ("dash", PALETTE[0]), "dpo": ("dot", PALETTE[2])}

GAIN = "d/dr (r A − f)"

DRIFT_FACTS = (
    "Half of the incentive is left at r, A = −1",
    "Half of the incentive is left at r, A = 1",
    "The agent gains no more at r, A = −1",
    "The agent gains no more at r, A = 1",
    "Share of (r, A) that is pushed back",
    "Largest f(r, 0)",
)

RESPONSE_FACTS = ("pihat after a reward of −1", "pihat after no reward", "pihat after a reward of +1")


def analysis_part(prefix: str, analysis: Analysis) -> AnalysisPart:
    """An analysis for the page.

    Args:
        prefix: unique in the page, what the names of its figures begin with.
        analysis: the document.
    """
    explorer = None
    if analysis.drift is not None:
        explorer = drift_explorer(prefix, analysis.drift, analysis.objective.name)
    elif analysis.response is not None:
        explorer = response_explorer(prefix, analysis.response)
    schedule = () if analysis.schedule is None else schedule_charts(analysis.schedule)
    fit = fit_table(analysis)
    return AnalysisPart(
        explorer=explorer,
        schedule=tuple(draw(chart, f"{prefix}-{chart.name}", height=300) for chart in schedule),
        figures=tuple(draw(chart, f"{prefix}-{chart.name}", height=300) for chart in trace_charts(analysis)),
        tables=(lifetimes_table(analysis), *([] if fit is None else [fit])),
        formula=None if analysis.closed_form is None else analysis.closed_form.formula,
        note=_note(analysis),
    )


def _note(analysis: Analysis) -> str:
    name, distance = analysis.objective.name, analysis.horizon_blind.overall
    if analysis.drift is None and analysis.response is None:
        return f"{name} is a hand-written rule with a schedule, and nothing else is learned."
    if not analysis.objective.sees_horizon:
        return f"{name} does not see the horizon: n and N are not among its inputs."
    return (
        f"Distance of {name} from its horizon-blind self, which is its mean over n/N: {number(distance, 3)} "
        "of its size (root mean square)."
    )


def drift_explorer(name: str, drift: Drift, objective: str) -> Explorer:
    """A drift's surfaces: a map of what the agent gains, and slices beside PPO and DPO.

    Args:
        name: unique in the page.
        drift: of the analysis.
        objective: whose surfaces change over the horizon.
    """
    mine = [s for s in drift.surfaces if s.objective == objective]
    references = [s for s in drift.surfaces if s.objective != objective]
    at = {(s.horizon, s.progress): s for s in mine}
    first = mine[0]
    maps = [_map(f"{name}-map", drift, first, f"{objective}: {GAIN}")]
    maps += [_map(f"{name}-{s.objective}", drift, s, f"{s.objective.upper()}: {GAIN}") for s in references]
    slices = [
        _slice(f"{name}-{field}-{i}", drift, mine, references, field, A)
        for field in ("drift", "slope")
        for i, A in enumerate(SLICES)
    ]

    def state(horizon: int | None, share: float | None) -> dict[str, Any]:
        now = at[horizon, share]
        others = [s for s in mine if s.horizon == horizon]
        changes: dict[str, Any] = {f"{name}-map": [{"z": _matrix(now.slope)}]}
        for field in ("drift", "slope"):
            for i, A in enumerate(SLICES):
                row = drift.advantage.index(A)
                lines = [getattr(s, field)[row] for s in (*others, now)]
                changes[f"{name}-{field}-{i}"] = [{"y": list(values)} for values in lines]
        return {"figures": changes, "facts": _drift_facts(drift, now)}

    return _explorer(name, list(at), (maps, slices), state, DRIFT_FACTS)


def response_explorer(name: str, response: Response) -> Explorer:
    """pihat over each input."""
    at = {(c.horizon, c.progress): i for i, c in enumerate(response.sweeps[0].curves)}
    sweeps = [_sweep(f"{name}-{i}", sweep) for i, sweep in enumerate(response.sweeps)]

    def state(horizon: int | None, share: float | None) -> dict[str, Any]:
        changes = {
            f"{name}-{i}": [
                {"y": list(curve.pihat)}
                for curve in (*_of_horizon(sweep, horizon), sweep.curves[at[horizon, share]])
            ]
            for i, sweep in enumerate(response.sweeps)
        }
        return {"figures": changes, "facts": _response_facts(response, at[horizon, share])}

    return _explorer(name, list(at), (sweeps,), state, RESPONSE_FACTS)


def _explorer(
    name: str,
    moments: Sequence[tuple[int | None, float | None]],
    groups: Sequence[Sequence[Figure]],
    state: Callable[[int | None, float | None], dict[str, Any]],
    facts: tuple[str, ...],
) -> Explorer:
    horizons = list(dict.fromkeys(horizon for horizon, _ in moments))
    shares = list(dict.fromkeys(share for _, share in moments))
    return Explorer(
        name=name,
        horizons=tuple("any" if horizon is None else f"{horizon:,}" for horizon in horizons),
        shares=tuple(0.0 if share is None else share for share in shares),
        groups=tuple(tuple(group) for group in groups),
        states=tuple(tuple(state(horizon, share) for share in shares) for horizon in horizons),
        facts=facts,
        start=len(horizons) // 2,
    )


def _map(name: str, drift: Drift, surface: Surface, title: str) -> Figure:
    import plotly.graph_objects as go

    heat = go.Heatmap(
        x=_ratio(drift), y=list(drift.advantage), z=_matrix(surface.slope), coloraxis="coloraxis",
        hovertemplate="r %{x:.2f}, A %{y}: %{z:.2f}<extra></extra>", zsmooth="best",
    )  # fmt: skip
    alt = f"{title}, over r and A at the chosen moment: positive where the agent gains by a larger r."
    return figure(
        name, title, alt, [heat], x=_ratio_axis(), y="advantage A",
        coloraxis={"cmin": -3, "cmax": 3, "colorbar": {"thickness": 10, "len": 0.95, "outlinewidth": 0}},
        height=300,
    )  # fmt: skip


def _slice(
    name: str,
    drift: Drift,
    mine: Sequence[Surface],
    references: Sequence[Surface],
    field: str,
    advantage: float,
) -> Figure:
    """f or its effect over r: now, at the other moments, PPO's and DPO's."""
    row, x = drift.advantage.index(advantage), _ratio(drift)
    first = [surface for surface in mine if surface.horizon == mine[0].horizon]
    traces = [
        line(x, getattr(s, field)[row], "other n/N", OTHERS, line={"width": 1.2}, hoverinfo="skip",
             showlegend=i == 0 and len(first) > 1)
        for i, s in enumerate(first)
    ]  # fmt: skip
    traces.append(line(x, getattr(mine[0], field)[row], mine[0].objective, NOW, line={"width": 3}))
    for surface in references:
        dash, colour = REFERENCES.get(surface.objective, ("dash", GREY))
        values = getattr(surface, field)[row]
        traces.append(line(x, values, surface.objective.upper(), colour, line={"width": 1.6, "dash": dash}))
    what = "Drift f" if field == "drift" else f"Gain {GAIN}"
    title = f"{what} at A = {number(advantage, 0)}"
    alt = f"{title} over r: {mine[0].objective} beside {', '.join(s.objective.upper() for s in references)}."
    return figure(name, title, alt, traces, x=_ratio_axis(), height=300)


def _sweep(name: str, sweep: Sweep) -> Figure:
    """pihat over one input: now, and at the other moments of the same N."""
    horizon = sweep.curves[0].horizon
    values = list(sweep.values)
    first = _of_horizon(sweep, horizon)
    traces = [
        line(values, curve.pihat, "other n/N", OTHERS, line={"width": 1.2}, hoverinfo="skip",
             showlegend=i == 0 and len(first) > 1)
        for i, curve in enumerate(first)
    ]  # fmt: skip
    traces.append(line(values, sweep.curves[0].pihat, "pihat", NOW, line={"width": 3}))
    title = f"pihat over {sweep.input}"
    return figure(
        name, title, f"{title}. {sweep.meaning}. Below 0 the action is made likelier.", traces,
        x=sweep.input, y="pihat", height=300,
    )  # fmt: skip


def _of_horizon(sweep: Sweep, horizon: int | None) -> list[Curve]:
    return [curve for curve in sweep.curves if curve.horizon == horizon]


def _drift_facts(drift: Drift, surface: Surface) -> list[str]:
    low, high = (drift.advantage.index(A) for A in SLICES)
    ends = [surface.half[low], surface.half[high], surface.clip[low], surface.clip[high]]
    return [
        *("nowhere on the grid" if end is None else number(end) for end in ends),
        percent(surface.rollback.all),
        number(surface.largest_at_zero, 3),
    ]


def _response_facts(response: Response, index: int) -> list[str]:
    """pihat at three rewards, by the nearest of the sweep's values."""
    sweep = next((sweep for sweep in response.sweeps if sweep.input == "reward"), response.sweeps[0])
    values = np.array(sweep.values, float)
    return [number(sweep.curves[index].pihat[int(np.abs(values - r).argmin())]) for r in (-1, 0, 1)]


def _ratio(drift: Drift) -> list[float]:
    return [round(float(np.exp(value)), 4) for value in drift.log_ratio if value is not None]


def _ratio_axis() -> Mapping[str, Any]:
    return {
        "type": "log",
        "title": {"text": "r = π / π<sub>old</sub>"},
        "tickvals": list(TICKS),
        "ticktext": [f"{tick:g}" for tick in TICKS],
    }


def _matrix(rows: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Four digits are more than a colour shows."""
    return [[None if value is None else float(f"{value:.4g}") for value in row] for row in rows]

"""The results of an analysis: the document that `analysis.json` holds and `analyse --json` prints.

Numbers have six significant digits; what is not finite, or not there, is null. `docs/analysis.md`
explains each part for a reader. Needs no JAX.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.evaluation.results import Record

DIGITS = 6
"""Significant digits of a number in the file."""


def _rounded(value: Any) -> Any:
    """To `DIGITS`; None in place of NaN and infinities, which JSON does not know."""
    if value is None:
        return None
    try:
        number = float(value)
    except TypeError as error:  # which pydantic would let through
        raise ValueError(str(error)) from None
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None


Number = Annotated[float | None, BeforeValidator(_rounded)]
Row = tuple[Number, ...]

LOOKED_AT = (-1.0, 1.0)
"""A that every drift is looked at, of which tables and slices tell."""


class AtMoment(Record):
    """A record of one moment of a lifetime, or of none where the horizon makes no difference."""

    horizon: int | None
    """N; None where it makes no difference."""
    progress: Number
    """n/N; None where it makes no difference."""


def _moments(entries: Sequence[AtMoment], of: str) -> list[tuple[int | None, float | None]]:
    """Their moments, which must be every n/N at every N, each once."""
    moments = [(entry.horizon, entry.progress) for entry in entries]
    horizons, shares = (dict.fromkeys(side) for side in zip(*moments, strict=True)) if moments else ({}, {})
    if not moments or moments != [(horizon, share) for horizon in horizons for share in shares]:
        raise ValueError(f"{of} does not have every n/N at every N")
    return moments


class Subject(Record):
    """The objective that was analysed."""

    name: str
    """Its name in the registry."""
    source: str
    """What it was loaded by."""
    learned: bool
    """Whether it has meta-parameters."""
    sees_horizon: bool
    """Whether n and N are among its inputs."""
    inputs: tuple[str, ...]
    """What it sees, as its card says; empty for hand-written ones."""


class Rollback(Record):
    """Share of a surface's points, those at A = 0 left out, where r A - f pushes r back towards 1."""

    all: Number
    positive: Number
    """Of the points with A > 0."""
    negative: Number
    """Of the points with A < 0."""


class Surface(AtMoment):
    """One drift at one moment of a lifetime, over the grid of A (rows) and log r (columns)."""

    objective: str
    """Whose drift."""
    drift: tuple[Row, ...]
    """f."""
    slope: tuple[Row, ...]
    """d/dr (r A - f): how much the agent gains by a larger r."""
    clip: Row
    """Implied clip range: for each A the r, away from 1, at which r A - f first stops rising; None at
    A = 0, and where it rises to the end of the grid."""
    half: Row
    """For each A the r at which half of the incentive is left: the slope has first fallen to A / 2."""
    zero_advantage: Row
    """f at A = 0 over log r: what moving costs where nothing is gained by it."""
    rollback: Rollback
    """Where the agent is pushed back."""

    @property
    def label(self) -> str:
        """The objective, or the moment."""
        return self.objective if self.progress is None else f"n/N = {self.progress:g}"

    @property
    def largest_at_zero(self) -> float | None:
        """The largest f at A = 0; None without finite ones."""
        return max((value for value in self.zero_advantage if value is not None), default=None)


class Drift(Record):
    """What a drift does, beside PPO and DPO."""

    log_ratio: Row
    """Columns of the surfaces."""
    advantage: Row
    """Rows of the surfaces."""
    surfaces: tuple[Surface, ...]
    """The objective's at every moment, then PPO's and DPO's."""

    @property
    def middle_horizon(self) -> int | None:
        """The N in the middle of all; None where the drift does not see it."""
        horizons = sorted({s.horizon for s in self.surfaces if s.horizon is not None})
        return horizons[len(horizons) // 2] if horizons else None

    @property
    def at_middle(self) -> tuple[Surface, ...]:
        """The surfaces at that N, and those that do not depend on it."""
        return tuple(s for s in self.surfaces if s.horizon in (None, self.middle_horizon))

    @model_validator(mode="after")
    def _check_shapes(self) -> "Drift":
        rows, columns = len(self.advantage), len(self.log_ratio)
        if None in self.log_ratio or not set(LOOKED_AT) <= set(self.advantage):
            raise ValueError(f"the grid has no log r, or lacks one of A = {LOOKED_AT}")
        for surface in self.surfaces:
            grids = (surface.drift, surface.slope)
            whole = all([len(row) for row in grid] == [columns] * rows for grid in grids)
            sides = {len(surface.clip), len(surface.half)} == {rows}
            if not (whole and sides and len(surface.zero_advantage) == columns):
                raise ValueError(f"a surface of {surface.objective} is not of the grid's shape")
        if not self.surfaces:
            raise ValueError("there are no surfaces")
        first = self.surfaces[0].objective
        _moments([s for s in self.surfaces if s.objective == first], first)
        return self


class Curve(AtMoment):
    """pihat over one input, at one moment of a lifetime."""

    pihat: Row
    """The objective's answer at the step whose input is varied; below 0 it makes the action likelier."""


class Sweep(Record):
    """One input of one step varied, all else neutral."""

    input: str
    meaning: str
    """What is varied, and what stays."""
    values: Row
    curves: tuple[Curve, ...]


class Response(Record):
    """LPG's outputs for made-up rollouts."""

    steps: int
    """T, steps of a rollout; the varied step is the first."""
    prediction_span: Row
    """Per N: total variation between the two predictions that the prediction difference moves between."""
    sweeps: tuple[Sweep, ...]

    @model_validator(mode="after")
    def _check_shapes(self) -> "Response":
        if not self.sweeps:
            raise ValueError("there are no sweeps")
        expected = _moments(self.sweeps[0].curves, f"the sweep of {self.sweeps[0].input}")
        for sweep in self.sweeps:
            if _moments(sweep.curves, f"the sweep of {sweep.input}") != expected:
                raise ValueError(f"the sweep of {sweep.input} has other moments than the first")
            if any(len(curve.pihat) != len(sweep.values) for curve in sweep.curves) or not sweep.values:
                raise ValueError(f"the sweep of {sweep.input} has not one answer to each value")
            if None in sweep.values:
                raise ValueError(f"the sweep of {sweep.input} has a value that is not a number")
        return self


class Distance(Record):
    """How far from the mean over n/N at one moment."""

    horizon: int
    """N."""
    progress: Number
    """n/N."""
    distance: Number
    """RMS of (output - its mean over n/N) over RMS of the output."""


class HorizonBlind(Record):
    """How far an objective is from its horizon-blind self, which is its mean over n/N."""

    over: str
    """Which outputs, at which inputs."""
    overall: Number
    """The distance over all moments; 0 for an objective that does not see the horizon."""
    distances: tuple[Distance, ...]
    """The distance at each of them."""


class Estimated(Record):
    """A mean with the ends of its 95 % bootstrap interval over seeds; None where an agent failed."""

    mean: Number
    """The mean; for scores and differences the interquartile mean."""
    low: Number
    high: Number
    """Both are None with fewer than three seeds."""


class Trace(Record):
    """A number over a lifetime, one entry per update."""

    mean: Row
    """Over seeds and levels."""
    deviation: Row
    """Standard deviation over seeds of the mean over levels."""

    @model_validator(mode="after")
    def _check_shapes(self) -> "Trace":
        if len(self.mean) != len(self.deviation):
            raise ValueError("a trace has not one deviation to each mean")
        return self


class Lifetime(Record):
    """Agents that learned with one view of the progress."""

    view: str
    """What the objective is told of n/N: `plain`, `fixed at 0`, `fixed at 0.5` or `shuffled`."""
    policy_entropy: Trace
    """Mean entropy of the policy where the workers stand, in nats."""
    update_size: Trace
    """Euclidean norm of the change of all agent parameters."""
    prediction_spread: Trace
    """Standard deviation of the second head's output over the states where the workers stand, root mean
    square over its components: of the prediction y (LPG) or of the value."""
    reward_per_step: Trace
    """Mean reward of the update's rollout."""
    returns: Row
    """Final return per seed, mean over levels."""
    scores: Row
    """Final score per seed, mean over levels that have exact bounds."""
    return_: Estimated = Field(alias="return")
    """Mean over the returns."""
    score: Estimated | None
    """Interquartile mean over seeds and levels; None without exact bounds."""
    difference: Estimated | None
    """Interquartile mean over seeds and levels of the final score (without exact bounds: return) minus that
    of the same agent under `plain`; None for `plain`."""


class Lifetimes(Record):
    """Agents trained from scratch, with the true n/N and with wrong ones."""

    suite: str
    """Where the levels are from."""
    environment: str
    """The suite's first environment."""
    levels: int
    """How many of its levels."""
    seeds: int
    """Agents per level."""
    horizon: int
    """N, in agent updates."""
    workers: int
    """W of every agent."""
    views: tuple[Lifetime, ...]
    """`plain` first; the ablation follows where the objective sees the horizon."""


class Term(Record):
    """One term of a formula."""

    name: str
    """Its name in the basis."""
    coefficient: Number


class FitError(Record):
    """How well the formula agrees with the learned drift."""

    points: Literal["met", "grid"]
    """`met`: (r, A, n/N) of agents, none of which were fitted. `grid`: that of the surfaces."""
    of: Literal["network", "drift"]
    """`network`: what stands before the ReLU. `drift`: f."""
    r2: Number
    """Share of the variance that is explained."""
    rms: Number
    """Root mean square of the difference."""


class Step(Record):
    """A formula of so many terms."""

    terms: int
    r2: Number
    """Cross-validated share of the variance that it explains."""


class ClosedForm(Record):
    """A formula for a learned drift."""

    formula: str
    """f, for reading."""
    terms: tuple[Term, ...]
    method: str
    basis: tuple[str, ...]
    """All terms that could have been in it."""
    path: tuple[Step, ...]
    errors: tuple[FitError, ...]
    fitted_points: int
    """Half of them met by agents, half uniform over the grid's range."""
    held_out_points: int
    """Met by agents."""
    outside: Number
    """Share of the points met by agents that lie outside the grid's range and were left out."""


class ScheduleCurve(Record):
    """One of the rule's constants over a lifetime."""

    constant: str
    """What it is called."""
    horizon: int
    """N, in agent updates."""
    values: Row
    """Over `progress`."""


class Schedule(Record):
    """A rule's constants under its schedule."""

    progress: Row
    """n/N."""
    curves: tuple[ScheduleCurve, ...]
    """Each constant at each N."""
    plain: dict[str, Row]
    """Each constant without the schedule."""


class Analysis(Record):
    """The whole document."""

    format: Literal[1] = 1
    """Version of this format."""
    objective: Subject
    """What was analysed."""
    definitions: dict[str, str]
    """What the measures mean."""
    drift: Drift | None
    """For an objective in PPO's loop."""
    response: Response | None
    """For LPG."""
    horizon_blind: HorizonBlind
    """How much it matters that it sees the horizon."""
    lifetimes: Lifetimes
    """Agents that learn with it."""
    schedule: Schedule | None = None
    """For a rule that has one."""
    closed_form: ClosedForm | None
    """For a learned drift; None also where scikit-learn is missing, or agents met too few points."""
    versions: dict[str, str]
    """Packages that produced it."""

    @model_validator(mode="after")
    def _check_names(self) -> "Analysis":
        if self.drift is not None and self.drift.surfaces[0].objective != self.objective.name:
            raise ValueError(f"the first surface is not of {self.objective.name}")
        return self

    def document(self) -> dict[str, Any]:
        """The document as JSON objects."""
        return self.model_dump(mode="json", by_alias=True)

    def save(self, path: Path) -> None:
        """Writes `analysis.json` so that the file is whole or not there.

        Raises:
            CheckpointError: it cannot be written.
        """
        replace_file(path, f"{json.dumps(self.document(), allow_nan=False)}\n".encode())

"""`analyse`: the whole analysis of one objective, as one document."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rl_discovery.checkpoints.objective_file import is_learned
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.discovery.objectives.a2c import A2C
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.registry import UnknownNameError
from rl_discovery.envs.registry import distribution
from rl_discovery.evaluation.analysis import closed_form, drift, lifetimes, response, schedule
from rl_discovery.evaluation.analysis.lifetimes import Setting, analyse_lifetimes
from rl_discovery.evaluation.analysis.moments import Moment, horizon_blind, moments
from rl_discovery.evaluation.analysis.record import Analysis, ClosedForm, Subject
from rl_discovery.evaluation.analysis.rollout_samples import sample_rollouts

HORIZONS = (10, 50, 250)
"""N that are looked at where nobody knows what an objective has lived for, as in gridworld/all_vrandlife."""

DEFINITIONS = {
    "horizon_blind": "RMS of (output - its mean over n/N at the same N) relative to the RMS of the output; "
    "0 for an objective that does not see n/N"
}


class AnalysisError(ValueError):
    """The request cannot be analysed; the message says why."""


@dataclasses.dataclass(frozen=True)
class Findings:
    """The results of an analysis.

    Attributes:
        analysis: the document.
        formula: a learned drift's, as an objective.
        notes: what is missing, and why.
    """

    analysis: Analysis
    formula: TrainedObjective | None = None
    notes: tuple[str, ...] = ()


def check(objective: TrainedObjective, setting: Setting) -> None:
    """Refuses what cannot be analysed, before anything is computed.

    Raises:
        AnalysisError: neither pihat nor a drift, or agents that cannot learn there.
    """
    scheduled = isinstance(objective.rule, A2C) and objective.rule.schedule
    if not (scheduled or isinstance(objective.rule, LPG | MirrorLearning)):
        raise AnalysisError(
            f"there is nothing to analyse in {objective.name}: it has neither a drift nor a learned response"
        )
    try:
        setting.learner(objective)
    except ValueError as error:  # an environment that no agent of ours fits
        raise AnalysisError(str(error)) from error


def analyse(
    objective: TrainedObjective,
    source: str,
    setting: Setting,
    horizons: Sequence[int],
    *,
    most_terms: int = 8,
    progress: Callable[[str], None] = lambda stage: None,
) -> Findings:
    """Everything: response or drift, lifetimes with and without the true n/N, and a formula.

    Args:
        objective: LPG, TA-LPG, or anything in PPO's loop.
        source: what it was loaded by.
        setting: where agents are trained.
        horizons: N at which the objective itself is looked at.
        most_terms: that the formula may have.
        progress: called with what is about to be done.

    Raises:
        AnalysisError: nothing to analyse.
    """
    check(objective, setting)
    rule, when = objective.rule, moments(horizons)
    parts: dict[str, Any] = {"drift": None, "response": None}
    parts["schedule"] = schedule.analyse_schedule(objective, horizons, setting.agent(objective).anneal)
    meanings = {} if parts["schedule"] is None else schedule.DEFINITIONS
    if isinstance(rule, A2C):
        outputs, over = _schedule_outputs(objective, when), "the factors of the schedule"
    elif isinstance(rule, LPG):
        progress("response of pihat")
        parts["response"], outputs = response.analyse_response(objective, when)
        over = "pihat at all points of the response's sweeps"
        meanings = meanings | response.DEFINITIONS
    else:
        progress("drift over r and A")
        parts["drift"], outputs = drift.analyse_drift(objective, when)
        over, meanings = "f over the grid of r and A", meanings | drift.DEFINITIONS
    watched = analyse_lifetimes(objective, setting, lambda view: progress(f"lifetimes, n/N {view}"))
    formula, note = None, None
    record: ClosedForm | None = None
    if closed_form.can_fit(objective):
        progress("formula")
        try:
            samples = sample_rollouts(objective, setting)
            record, formula = closed_form.fit(objective, samples, setting.horizon, horizons, most_terms)
        except closed_form.TooFewPointsError as error:
            note = str(error)
    analysis = Analysis(
        objective=_subject(objective, source),
        definitions=DEFINITIONS | meanings | lifetimes.DEFINITIONS,
        **parts,
        horizon_blind=horizon_blind(outputs, horizons, over),
        lifetimes=watched,
        closed_form=record,
        versions=versions(),
    )
    return Findings(analysis, formula, (note,) if note else ())


def _schedule_outputs(objective: TrainedObjective, when: Sequence[Moment]) -> np.ndarray:
    rule: Any = objective.rule
    scales = [rule.scales(objective.meta_params, moment.progress) for moment in when]
    return np.log(np.array([[float(factor) for factor in factors] for factors in scales]))


def trained_horizons(card: Mapping[str, Any]) -> tuple[int, ...]:
    """The shortest and the longest N that an objective was evolved with, and one between.

    `HORIZONS` where its card has none.
    """
    levels: Any = card.get("config") or {}
    levels = levels.get("levels") or {} if isinstance(levels, Mapping) else {}
    low, high = levels.get("horizon"), levels.get("longest_horizon")
    if low is None:
        try:
            low, high = distribution(str(levels.get("distribution"))).horizon or (None, None)
        except UnknownNameError:
            return HORIZONS
    if not isinstance(low, int):
        return HORIZONS
    high = high if isinstance(high, int) else low
    return tuple(sorted({low, round(math.sqrt(low * high)), high}))


def _subject(objective: TrainedObjective, source: str) -> Subject:
    return Subject(
        name=objective.name,
        source=source,
        learned=is_learned(objective.rule),
        sees_horizon=objective.rule.uses_progress,
        inputs=tuple(objective.card.get("inputs", ())),
    )

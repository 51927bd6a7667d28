"""An objective as one readable Python file for another framework: its drift, its schedule, or both.

The file needs that framework and nothing else, and has all numbers written in it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import CheckpointError, one_line
from rl_discovery.checkpoints.python_parts import (
    DRIFTS,
    FRAMEWORKS,
    Framework,
    drift_of,
    scaled_progress_of,
    schedule_of,
)
from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.objectives.ppo import NoDrift
from rl_discovery.discovery.objectives.registry import RULES
from rl_discovery.discovery.objectives.schedule import Scheduled

LOOP = (
    "An agent in PPO's loop maximises mean(r A - f(r, A)): r = pi/pi_old of the actions taken, A their\n"
    "advantages, normalised over the minibatch, and f the drift"
)

CONSTANTS = {
    "step_size": "the optimiser's step; with Adam this is the learning rate, not the loss",
    "entropy": "the weight of the entropy bonus",
    "clip_below": "eps of the lower bound 1 - eps of PPO's clip",
    "clip_above": "eps of its upper bound 1 + eps",
    "one_minus_gamma": "1 - gamma; keep gamma within [0, 1]",
}
"""What a schedule's factors are on."""


class NotExportableError(CheckpointError, ValueError):
    """An objective cannot be written for another framework; says why."""


def save_python(path: Path | str, objective: TrainedObjective, framework: str) -> None:
    """Writes an objective as one Python file that needs `framework` only.

    It defines `drift(log_ratio, advantage)`, or `drift(log_ratio, advantage, done, horizon)` where the drift
    depends on n and N, and `schedule(done, horizon)` where the rule has a schedule.

    Args:
        path: where to; replaced if it is there.
        objective: one with a drift of ours (`ppo`, `dpo`, `lpo`, `ta-lpo`, closed forms) or a schedule.
        framework: one of `FRAMEWORKS`: "torch" or "numpy".

    Raises:
        NotExportableError: the objective has neither, or a part that is no such function.
        CheckpointError: the file cannot be written.
    """
    replace_file(Path(path), write_python(objective, FRAMEWORKS[framework]).encode())


def write_python(objective: TrainedObjective, framework: Framework) -> str:
    """The text of the file; arguments and errors as for `save_python`."""
    rule: Any = objective.rule
    if reason := _why_not(rule):
        raise NotExportableError(f"{rule.name} cannot be written for {framework.title}: {reason}")
    schedule = schedule_of(rule, objective.meta_params) if rule.schedule else None
    drift = drift_of(rule, objective.meta_params, framework) if isinstance(rule, DRIFTS) else None
    parts = [part for part in (schedule, drift) if part is not None]
    functions = [part.code for part in parts]
    if any("scaled_progress(" in code for code in functions):
        functions.insert(0, scaled_progress_of(rule))
    code = "\n\n\n".join(functions)
    imports = ["import math"] if "math." in code else []
    imports += [framework.imported] if drift is not None else []
    docstring = _docstring(objective, framework, None if drift is None else drift.formula)
    numbers = [part.numbers for part in parts if part.numbers]
    below = [f"\n{text}" for text in ["\n\n".join(numbers)] if text]
    return "\n\n".join([docstring, *imports, f"\n{code}", *below]) + "\n"


def _why_not(rule: Objective) -> str:
    """Why a rule cannot be exported; empty if it can."""
    if isinstance(rule, LPG):
        return (
            "its network reads whole rollouts backwards in time, so it is no function of a ratio and an "
            "advantage; drifts (lpo, ta-lpo, ppo, dpo, closed forms) and schedules (ta-ppo, ta-a2c) can be"
        )
    if type(rule) in DRIFTS or (rule.schedule and not isinstance(rule, MirrorLearning)):
        return ""
    if isinstance(rule, MirrorLearning) and not isinstance(rule, NoDrift):
        return "its drift is code of a plug-in, which only its author can translate"
    return "it has neither a drift nor a schedule"


def _docstring(objective: TrainedObjective, framework: Framework, drift: str | None) -> str:
    rule: Any = objective.rule
    subject = " and ".join(([] if drift is None else ["drift"]) + (["schedule"] if rule.schedule else []))
    where = f" for {framework.title}" if drift is not None else ""
    description = RULES.find(rule.name).description
    paragraphs = [f"The {subject} of `{rule.name}`{where}.", f"{description[0].upper()}{description[1:]}."]
    if drift is not None:
        arguments = "log_ratio, advantage, n, N" if rule.uses_progress else "log_ratio, advantage"
        paragraphs += [
            LOOP,
            drift,
            "In place of PPO's clip, with log_ratio = log pi - log pi_old:",
            f"    loss = mean(drift({arguments}) - exp(log_ratio) * advantage)",
        ]
    if rule.schedule:
        paragraphs += [
            "The schedule says how constants change over a training. Before each update, multiply them by\n"
            "the factors that `schedule(n, N)` returns:",
            "\n".join(f"    {name:<15}  {CONSTANTS[name]}" for name in rule.scheduled),
            _own_constants(rule, objective.card),
        ]
    if rule.schedule or rule.uses_progress:
        paragraphs.append("n counts the updates (rollouts) done so far, from 0; N is their number in all.")
    paragraphs.append(_origin(objective))
    return '"""' + "\n\n".join(paragraphs) + '\n"""'


def _own_constants(rule: Scheduled, card: Mapping[str, Any]) -> str:
    """What the factors multiply, where the rule or its card says so."""
    names = ("entropy_coef", "clip", "discount")
    own = [f"{name} {getattr(rule, name):g}" for name in names if hasattr(rule, name)]
    text = f"Constants of {rule.name}: {', '.join(own)}."
    agent = (card.get("config") or {}).get("agent")
    if isinstance(agent, Mapping) and isinstance(agent.get("anneal"), bool):
        also = "was also multiplied by 1 - n/N" if agent["anneal"] else "was changed by nothing else"
        text += f"\nDuring its evolution the step size {also}."
    return text


def _origin(objective: TrainedObjective) -> str:
    """Where the numbers come from, as far as the card says it."""
    card = objective.card
    facts = [f"formula that `analyse` fitted to {card['closed_form_of']}"] if "closed_form_of" in card else []
    facts += [f"imported from {card['imported_from']}"] if "imported_from" in card else []
    facts += [f"preset {card['preset']}"] if card.get("preset") is not None else []
    counted = {
        "generations": "generations",
        "env_steps": "environment steps",
        "earlier_env_steps": "in runs before it",
    }
    facts += [f"{card[name]:,} {unit}" for name, unit in counted.items() if card.get(name) is not None]
    facts += [f"seed {card['seed']}"] if card.get("seed") is not None else []
    if version := card.get("versions", {}).get("rl-discovery"):
        facts.append(f"rl-discovery {version}")
    origin = ", ".join(map(_harmless, facts)) or "written by hand, nothing in it is learned"
    return f"Origin: {origin}.\nWritten by `rl-discovery export --to`."


def _harmless(text: str) -> str:
    """Text of a card, which anybody may have written, so that it cannot end the docstring."""
    return one_line(text).replace("\\", "/").replace('"', "'")

"""A run directory with everything that a report shows, made without training."""

import dataclasses
import functools
import json

import jax

from rl_discovery.checkpoints import save_objective
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.evaluation.analysis.drift import analyse_drift
from rl_discovery.evaluation.analysis.moments import horizon_blind, moments
from rl_discovery.evaluation.analysis.record import Analysis, ClosedForm, Lifetime, Lifetimes, Subject, Trace
from rl_discovery.evaluation.analysis.response import analyse_response
from rl_discovery.evaluation.results import Cell, Results
from rl_discovery.meta.config import to_json
from rl_discovery.meta.objective_settings import objective_settings
from tests.meta.tiny import tiny

HORIZONS = (2, 8)
GENERATIONS = 6


def config(kind="lpo", **changes):
    """Of a run that evolves a tiny TA-LPO or TA-LPG."""
    if kind == "lpo":
        parts = {
            "objective": objective_settings(
                LPO, width=3, progress_inputs=True, horizon_inputs=True, longest_horizon=8
            ),
            "agent": dataclasses.replace(tiny().agent, epochs=2),
        }
    else:
        parts = {"objective": objective_settings(LPG, width=4, bins=3, embedding_width=2)}
    return dataclasses.replace(tiny(), **(parts | changes))


def objective_of(config):
    """Random, and not as `init` makes it: a new drift is 0 everywhere."""
    rule = config.build_objective()
    leaves, tree = jax.tree.flatten(rule.init(jax.random.key(1)))
    noise = [0.5 * jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
    return TrainedObjective(rule, jax.tree.unflatten(tree, noise), {"generations": 4, "inputs": ["x"]})


def rows(count=GENERATIONS, **extra):
    """Of metrics.jsonl; generation i has fitness i."""
    return [
        {
            "generation": i, "wall_s": 60.0 * (i + 1), "env_steps": 1000 * (i + 1), "fitness_mean": float(i),
            "fitness_best": i + 0.5, "pair_agreement": None if i == 0 else 0.5,
        } | extra
        for i in range(count)
    ]  # fmt: skip


def cells(objective, scores, *, suite="unseen", horizon=2, environment="gridworld/all"):
    """One per seed."""
    return [
        Cell.model_validate(
            {
                "objective": objective, "suite": suite, "environment": environment,
                "horizon": horizon, "seed": seed, "return": 10 * score, "score": score,
                "efficiency": score / 2, "updates": horizon, "env_steps": 100 * horizon, "levels": 4,
                "unscored_levels": 0,
                "curve": [{"env_steps": 50 * horizon, "return": 5 * score},
                          {"env_steps": 100 * horizon, "return": 10 * score}],
            }
        )
        for seed, score in enumerate(scores)
    ]  # fmt: skip


def results(name="ta-lpo", scores=(0.5, 0.6, 0.7)):
    found = [
        *cells(name, scores),
        *cells(name, [score + 0.1 for score in scores], horizon=8),
        *cells("ppo", (0.4, 0.5, 0.6)),
        *cells("ppo", (0.5, 0.6, 0.7), horizon=8),
    ]
    return Results.of(found, baselines=["ppo"])


@functools.cache
def analysis(kind="lpo"):
    """Real surfaces or responses, made-up lifetimes."""
    objective = objective_of(config(kind))
    parts = {"drift": None, "response": None}
    if hasattr(objective.rule, "drift"):
        parts["drift"], outputs = analyse_drift(objective, moments(HORIZONS))
    else:
        parts["response"], outputs = analyse_response(objective, moments(HORIZONS))
    trace = Trace(mean=(1.0, 0.5), deviation=(0.1, 0.1))
    names = ("policy_entropy", "update_size", "prediction_spread", "reward_per_step")
    estimate = {"mean": 0.25, "low": 0.2, "high": 0.3}
    views = tuple(
        Lifetime.model_validate(
            dict.fromkeys(names, trace)
            | {"view": view, "returns": (1, 2, 3), "scores": (0.2, 0.25, 0.3), "return": estimate}
            | {"score": estimate, "difference": None if view == "plain" else estimate}
        )
        for view in ("plain", "shuffled")
    )
    formula = ClosedForm(
        formula="f = ReLU(x <b>)", terms=(), method="m", basis=(), path=(),
        errors=({"points": "met", "of": "drift", "r2": 0.98765, "rms": 0.01},),
        fitted_points=1, held_out_points=1, outside=0.0,
    )  # fmt: skip
    return Analysis(
        objective=Subject(name=objective.name, source="x", learned=True, sees_horizon=True, inputs=()),
        definitions={}, **parts, horizon_blind=horizon_blind(outputs, HORIZONS, "all"),
        lifetimes=Lifetimes(
            suite="unseen", environment="gridworld/all", levels=4, seeds=3, horizon=2, workers=2, views=views
        ),
        closed_form=formula if parts["drift"] else None, versions={"jax": "0.0.1"},
    )  # fmt: skip


def make(folder, kind="lpo", *, evaluated=True, analysed=True, scores=(0.5, 0.6, 0.7), **changes):
    """Writes a run directory."""
    folder.mkdir(parents=True)
    settings = config(kind, **changes)
    document = {"format": 1, "config": to_json(settings), "versions": {"jax": "0.0.2"}}
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    objective = objective_of(settings)
    save_objective(folder / "objective.safetensors", objective)
    if evaluated:
        results(objective.name, scores).save(folder / "results.json")
    if analysed:
        (folder / "analysis").mkdir()
        analysis(kind).save(folder / "analysis" / "analysis.json")
    return folder

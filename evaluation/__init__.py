"""Evaluation of objectives: train agents from scratch on a suite, aggregate, draw.

    objectives = {"mine": checkpoints.load_objective("runs/quickstart"), "a2c": ...}
    results = evaluation.evaluate(objectives, envs.suite("unseen"), (25, 100), range(5), mesh=make_mesh())
    evaluation.save_figure(evaluation.evaluation_figure(results), Path("evaluation.png"))

Imports discovery, envs and checkpoints only. The command is `rl-discovery evaluate`.
"""

from evaluation.plots import evaluation_figure, learning_figure, save_figure
from evaluation.protocol import EvaluationError, Stage, evaluate
from evaluation.results import Aggregate, Cell, Results, ResultsError
from evaluation.statistics import Interval, bootstrap_interval, interquartile_mean

__all__ = [
    "Aggregate",
    "Cell",
    "EvaluationError",
    "Interval",
    "Results",
    "ResultsError",
    "Stage",
    "bootstrap_interval",
    "evaluate",
    "evaluation_figure",
    "interquartile_mean",
    "learning_figure",
    "save_figure",
]

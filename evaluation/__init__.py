"""Evaluation of objectives: train agents from scratch on a suite, aggregate, draw.

    results = rl_discovery.evaluate(["runs/quickstart", "a2c"], "unseen", (25, 100), range(5))
    evaluation.save_figure(evaluation.evaluation_figure(results), Path("evaluation.png"))

Imports discovery, envs and checkpoints only. The command is `rl-discovery evaluate`.
"""

from rl_discovery.evaluation.errors import EvaluationError, ResultsError
from rl_discovery.evaluation.plots import (
    curves_figure,
    evaluation_figure,
    learning_figure,
    profiles_figure,
    save_both,
    save_figure,
)
from rl_discovery.evaluation.protocol import CURVE_POINTS, Stage, evaluate, trained_workers
from rl_discovery.evaluation.results import Aggregate, Cell, Improvement, Outcome, Point, Results
from rl_discovery.evaluation.statistics import (
    Interval,
    bootstrap_interval,
    interquartile_mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from rl_discovery.evaluation.store import Store, default_folder
from rl_discovery.evaluation.tables import markdown_table

__all__ = [
    "CURVE_POINTS",
    "Aggregate",
    "Cell",
    "EvaluationError",
    "Improvement",
    "Interval",
    "Outcome",
    "Point",
    "Results",
    "ResultsError",
    "Stage",
    "Store",
    "bootstrap_interval",
    "curves_figure",
    "default_folder",
    "evaluate",
    "evaluation_figure",
    "interquartile_mean",
    "learning_figure",
    "markdown_table",
    "optimality_gap",
    "performance_profile",
    "probability_of_improvement",
    "profiles_figure",
    "save_both",
    "save_figure",
    "trained_workers",
]

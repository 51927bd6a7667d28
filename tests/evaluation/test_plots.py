import io
import math

import matplotlib.image
import pytest

from rl_discovery.evaluation.plots import evaluation_figure, learning_figure, save_figure
from rl_discovery.evaluation.results import Cell, Results


def results(
    score=0.5, seeds=3, objectives=("ta-lpg", "a2c", "random"), suites=("unseen",), environments=("e",)
):
    return Results.of(
        [
            Cell(
                objective=objective, suite=suite, environment=environment, horizon=horizon, seed=seed,
                return_=1.0, score=score, updates=horizon, env_steps=horizon * 320, levels=4,
                unscored_levels=0,
            )
            for objective in objectives for suite in suites for environment in environments
            for horizon in (25, 100) for seed in range(seeds)
        ]
    )  # fmt: skip


def metrics(generations, **changes):
    row = {"fitness_mean": 1.0, "fitness_best": 2.0, "fitness_std": 0.5, "env_steps": 1000} | changes
    return [row | {"generation": i, "env_steps": 1000 * i} for i in range(generations)]


def drawn(figure):
    """Draws it for real, as layout and labels come into being only then."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return figure


def texts(ax):
    return " ".join([ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")])


def test_the_learning_figure_shows_training_left_and_evaluation_right(tmp_path):
    figure = learning_figure(metrics(100), results())
    training, evaluation = figure.axes
    assert "Generation" in texts(training)
    assert "Lifetime (agent updates)" in texts(evaluation)
    assert [text.get_text() for text in evaluation.get_legend().get_texts()] == ["ta-lpg", "a2c", "random"]
    save_figure(figure, tmp_path / "summary.png")
    assert matplotlib.image.imread(tmp_path / "summary.png").shape[1] > 1000


def test_the_learning_figure_shows_how_far_an_objective_is_ahead_of_a_baseline_that_learns():
    cells = results(score=0.5).cells
    cells = [c.model_copy(update={"score": 0.6}) if c.objective == "ta-lpg" else c for c in cells]
    figure = drawn(learning_figure(metrics(9), Results.of(cells, ["a2c", "random"]), [lambda ax: None]))
    assert len(figure.axes) == 4
    ahead = figure.axes[2]
    (legend,) = ahead.get_legend().get_texts()
    assert legend.get_text() == "ta-lpg minus a2c: mean +0.100 ± 0.000"
    *_, line = ahead.get_lines()
    assert list(line.get_ydata()) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("generations", [1, 2, 7])
def test_a_run_of_few_generations_can_be_drawn(generations):
    drawn(learning_figure(metrics(generations), results()))


def test_gaps_in_the_metrics_can_be_drawn():
    drawn(learning_figure(metrics(3) + metrics(3, fitness_mean=math.nan, fitness_best=None), results()))


def test_metrics_without_fitness_are_refused():
    with pytest.raises(ValueError, match="fitness_mean"):
        learning_figure([{"generation": 0}], results())
    with pytest.raises(ValueError, match="no generation"):
        learning_figure([], results())


def test_suites_stand_side_by_side():
    assert len(drawn(evaluation_figure(results(suites=("unseen", "mazes")))).axes) == 2


def test_without_scores_the_returns_of_each_environment_are_drawn():
    axes = drawn(evaluation_figure(results(score=None, environments=("CartPole-v1", "Acrobot-v1")))).axes
    for ax, name in zip(axes, ("CartPole-v1", "Acrobot-v1"), strict=True):
        assert name in texts(ax)
        assert "Return (mean, 95 % interval)" in texts(ax)
        assert all(line.get_ydata()[0] == 1.0 for line in ax.get_lines())


def test_many_environments_stand_in_rows_of_three():
    names = tuple(f"e{i}" for i in range(4))
    assert len(drawn(evaluation_figure(results(score=None, environments=names))).axes) == 4
    figure = drawn(learning_figure(metrics(3), results(score=None, environments=names)))
    assert len({round(ax.get_position().y0, 2) for ax in figure.axes}) == 2


def test_a_figure_says_where_it_draws_no_interval():
    (ax,) = drawn(evaluation_figure(results(seeds=2))).axes
    assert "no interval with fewer than 3 seeds" in texts(ax)
    assert "95 %" not in texts(ax)
    (ax,) = drawn(evaluation_figure(results(seeds=3))).axes
    assert "95 % interval" in texts(ax)


def test_every_objective_looks_different():
    (ax,) = evaluation_figure(results(objectives=[f"o{i}" for i in range(6)])).axes
    looks = [(line.get_color(), line.get_marker()) for line in ax.get_legend().get_lines()]
    assert len(set(looks)) == 6


def test_the_same_figure_is_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        save_figure(evaluation_figure(results()), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

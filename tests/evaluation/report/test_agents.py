"""Agents before and after: lifetimes as long as they should be, episodes that follow the environment."""

import dataclasses

import jax
import numpy as np
import pytest

from rl_discovery.evaluation.report import agents, boards
from rl_discovery.evaluation.report.agents import ReportedRun, train_agents
from tests.evaluation.report import tiny_run


def subject_of(kind="lpo", **levels):
    config = tiny_run.config(kind)
    config = dataclasses.replace(config, levels=dataclasses.replace(config.levels, **levels))
    distribution = config.levels.build()
    return ReportedRun(tiny_run.objective_of(config), distribution, "gridworld/small", config.agent)


@pytest.fixture(scope="module")
def histories():
    reported = subject_of(horizon=12)
    return reported, train_agents(reported, reported.levels(0, 2), 0)


@pytest.mark.slow
def test_an_agent_learns_for_its_levels_lifetime(histories):
    _, found = histories
    assert [history.horizon for history in found] == [12, 12]
    for history in found:
        assert history.updates[0] == 0
        assert history.updates[-1] == 12
        assert len(history.returns) == len(history.updates) == agents.POINTS + 1
        assert history.random < history.optimal


def test_an_episode_is_one_that_the_level_allows(histories):
    reported, found = histories
    env = reported.distribution.env
    for history in found:
        for episode in (history.before, history.after):
            assert episode.cells[0] == int(history.level.start)
            assert len(episode.cells) == len(episode.present) == len(episode.gained)
            assert len(episode.cells) - 1 <= min(
                agents.EPISODE_STEPS, int(history.level.max_steps_in_episode)
            )
            rows, columns = np.divmod(np.array(episode.cells), env.max_size)
            assert (np.abs(np.diff(rows)) + np.abs(np.diff(columns)) <= 1).all()
            assert not np.asarray(history.level.walls)[list(episode.cells)].any()
            # Whatever is gained at a step is the reward of an object that was there.
            rewards = np.asarray(history.level.object_rewards)
            for step in np.flatnonzero(np.diff(episode.gained)):
                there = [
                    i
                    for i, cell in enumerate(np.asarray(history.level.object_cells))
                    if cell == episode.cells[step + 1] and episode.present[step] >> i & 1
                ]
                gain = episode.gained[step + 1] - episode.gained[step]
                np.testing.assert_allclose(gain, rewards[there].sum(), rtol=1e-5)


def test_both_episodes_of_a_level_begin_alike_and_the_same_seed_gives_the_same_page(histories):
    reported, found = histories
    assert all(history.before.cells[0] == history.after.cells[0] for history in found)
    again = train_agents(reported, reported.levels(0, 2), 0)
    assert [history.after for history in again] == [history.after for history in found]
    assert reported.levels(0, 2).params.start.tolist() != reported.levels(3, 2).params.start.tolist()


def test_a_long_lifetime_is_cut_and_said_to_be(monkeypatch):
    reported = subject_of(horizon=50)
    monkeypatch.setattr(agents, "MOST_STEPS", 3 * reported.agent.steps_per_update)
    (history,) = train_agents(reported, reported.levels(0, 1), 0)
    assert (history.horizon, history.own_horizon) == (3, 50)
    assert history.updates[-1] == 3


@pytest.mark.slow
def test_an_environment_that_cannot_be_drawn_has_returns_alone():
    reported = subject_of(distribution="SimpleBandit-bsuite", horizon=2)
    agent = dataclasses.replace(reported.agent, network="mlp", hidden=(4,))
    reported = dataclasses.replace(reported, agent=agent, environment="SimpleBandit-bsuite")
    assert not reported.drawable
    (history,) = train_agents(reported, reported.levels(0, 1), 0)
    assert (history.level, history.before, history.after) == (None, None, None)
    assert np.isfinite(history.returns).all()


def test_a_board_shows_the_level(histories):
    reported, found = histories
    level, env = found[0].level, reported.distribution.env
    board = boards.board(env, level)
    size = int(level.size)
    open_cells = {
        (column, row)
        for row in range(size)
        for column in range(size)
        if not level.walls[row * env.max_size + column]
    }
    assert len(board.walls) + len(open_cells) == size * size
    assert not set(board.walls) & open_cells
    row, column = divmod(int(level.start), env.max_size)
    assert board.agent == (column + 0.5, row + 0.5)
    assert len(board.discs) == int(level.object_active.sum())
    kinds = [disc.kind for disc in board.discs]
    rewards = np.asarray(level.object_rewards)[np.asarray(level.object_active)]
    assert kinds == ["positive" if reward >= 0 else "negative" for reward in rewards]
    assert f"{size} by {size} cells" in board.alt


def test_the_frames_of_a_walk_are_its_episode(histories):
    reported, found = histories
    shown = boards.agent_level(reported.distribution.env, "Level 1", found[0])
    before, after = shown.walks
    assert len(before.frames) == len(found[0].before.cells)
    assert after.frames[-1]["gained"] == pytest.approx(found[0].after.gained[-1], abs=0.005)
    assert before.frames[0]["agent"] == before.board.agent
    assert all(len(frame["present"]) == len(before.board.discs) for frame in before.frames)
    assert "best policy" in shown.facts


@pytest.mark.slow
def test_objects_that_move_are_followed():
    reported = subject_of(distribution="rand_small", horizon=2, observation="planes")
    agent = dataclasses.replace(reported.agent, network="mlp", hidden=(4,))
    reported = dataclasses.replace(reported, agent=agent)
    levels = jax.eval_shape(lambda: reported.distribution.sample(jax.random.key(0)))
    assert levels.params.walls.shape == (reported.distribution.env.cells,)
    (history,) = train_agents(reported, reported.levels(0, 1), 0)
    assert history.after.places is not None
    assert boards.board(reported.distribution.env, history.level).agent is None
    walk = boards.agent_level(reported.distribution.env, "x", history).walks[1]
    assert all(len(frame["places"]) == len(walk.board.discs) > 0 for frame in walk.frames)

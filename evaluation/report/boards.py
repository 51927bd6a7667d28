"""Gridworld levels and episodes as vector drawings, in the style of `envs.gridworld.render`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_discovery.discovery.formatting import number, plural
from rl_discovery.envs.gridworld.env import GridLevel, GridWorld
from rl_discovery.envs.gridworld.render import RING_FROM
from rl_discovery.evaluation.report.agents import AgentHistory, Episode
from rl_discovery.evaluation.report.document import AgentLevel, Board, Disc, Walk

ENDS = {
    "terminated": "an object ended the episode",
    "truncated": "until the time limit",
    "running": "the episode goes on",
}


def board(env: GridWorld, level: GridLevel, episode: Episode | None = None) -> Board:
    """A level as an episode begins.

    Args:
        env: its environment.
        level: one level.
        episode: where agent and objects are, where the level does not say.
    """
    size, columns = int(level.size), env.max_size
    walls = np.asarray(level.walls).reshape(columns, columns)[:size, :size]
    placed = not env.random_placement or episode is not None
    start = int(level.start) if episode is None else episode.cells[0]
    return Board(
        size=size,
        walls=tuple((int(column), int(row)) for row, column in np.argwhere(walls)),
        discs=_discs(env, level, episode) if placed else (),
        agent=_centre(start, columns) if placed else None,
        alt=_words(level, size, int(walls.sum())),
    )


def _discs(env: GridWorld, level: GridLevel, episode: Episode | None) -> tuple[Disc, ...]:
    """Every object slot in use, larger and stronger the larger its reward."""
    active = np.flatnonzero(np.asarray(level.object_active))
    rewards = np.asarray(level.object_rewards, float)
    cells = np.asarray(level.object_cells)
    if episode is not None and episode.places is not None:
        cells = np.asarray(episode.places[0])
    largest = max(1.0, float(np.abs(rewards[active]).max(initial=0.0)))
    discs = []
    for i in active:
        x, y = _centre(int(cells[i]), env.max_size)
        strength = abs(rewards[i]) / largest
        discs.append(
            Disc(
                x=x,
                y=y,
                radius=round(0.16 + 0.14 * strength, 3),
                strength=round(0.35 + 0.65 * strength, 3),
                kind="positive" if rewards[i] >= 0 else "negative",
                ring=bool(level.end_probs[i] >= RING_FROM),
            )
        )
    return tuple(discs)


def _words(level: GridLevel, size: int, walls: int) -> str:
    active = np.flatnonzero(np.asarray(level.object_active))
    rewards = ", ".join(number(float(level.object_rewards[i]), sign=True) for i in active)
    objects = plural(len(active), "object")
    return (
        f"Gridworld of {size} by {size} cells, {walls} of them walls, with {objects}"
        f"{f' of reward {rewards}' if rewards else ''}"
    )


def agent_level(env: GridWorld, title: str, history: AgentHistory) -> AgentLevel:
    """A level with the episodes of its agent.

    Args:
        env: its environment.
        title: of the level.
        history: what was recorded there.

    Raises:
        ValueError: nothing was recorded.
    """
    if history.level is None or history.before is None or history.after is None:
        raise ValueError("this level cannot be drawn")
    updates = plural(history.horizon, "update")
    ends = (
        f"; random policy {number(history.random)}, best policy {number(history.optimal)}"
        if history.random is not None and history.optimal is not None
        else ""
    )
    before, after = number(history.returns[0]), number(history.returns[-1])
    walks = (
        _walk(env, history.level, "Untrained", history.before),
        _walk(env, history.level, f"After {updates}", history.after),
    )
    return AgentLevel(
        title=title, facts=f"Mean return {before} before, {after} after {updates}{ends}", walks=walks
    )


def _walk(env: GridWorld, level: GridLevel, title: str, episode: Episode) -> Walk:
    steps = len(episode.cells) - 1
    drawn = board(env, level, episode)
    result = f"return {number(episode.gained[-1])} in {plural(steps, 'step')}; {ENDS[episode.ended]}"
    return Walk(title=title, result=result, board=drawn, frames=_frames(env, level, episode))


def _frames(env: GridWorld, level: GridLevel, episode: Episode) -> list[Mapping[str, Any]]:
    active = [int(i) for i in np.flatnonzero(np.asarray(level.object_active))]
    frames: list[Mapping[str, Any]] = []
    for step, cell in enumerate(episode.cells):
        frame: dict[str, Any] = {
            "agent": _centre(cell, env.max_size),
            "present": [episode.present[step] >> i & 1 for i in active],
            "gained": round(episode.gained[step], 2),
        }
        if episode.places is not None:
            frame["places"] = [_centre(episode.places[step][i], env.max_size) for i in active]
        frames.append(frame)
    return frames


def _centre(cell: int, columns: int) -> tuple[float, float]:
    row, column = divmod(cell, columns)
    return column + 0.5, row + 0.5

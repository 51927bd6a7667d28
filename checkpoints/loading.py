"""Finds an objective by name or path: a shipped one, a file, a run directory, a hand-written rule."""

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Any

import jax

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.errors import AmbiguousObjectiveError, UnknownObjectiveError
from rl_discovery.checkpoints.objective_card import file_of, read_card
from rl_discovery.checkpoints.objective_file import is_learned, read_objective
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective


def load_objective(name_or_path: str | Path) -> TrainedObjective:
    """Loads an objective.

    A `Path`, or a string with a folder in it ("./ta-lpg"), is always a path; "shipped:ta-lpg" is always a
    name. Other strings are what there is of that name, and refused where there is both.

    Args:
        name_or_path: a shipped name ("ta-lpg"), an exported `.safetensors`, a run directory, or the
            name of a hand-written rule ("a2c", "ppo", "random" ...).

    Returns:
        The rule with its meta-parameters (none for a hand-written one) and its card.

    Raises:
        UnknownObjectiveError: nothing has this name; the message lists what there is.
        AmbiguousObjectiveError: an objective has this name, and so has a file or folder here.
        ObjectiveFileError: the file is not an objective of ours, or is damaged.
    """
    path = find_path(name_or_path)
    if path is None:
        return _read_named(str(name_or_path).removeprefix(spelling.SHIPPED))
    if path.exists():
        return read_objective(file_of(path))
    raise UnknownObjectiveError(_nothing_called(str(name_or_path)))


def find_path(name_or_path: str | Path) -> Path | None:
    """The path that a name stands for; None for an objective that comes with the package.

    Raises:
        UnknownObjectiveError: "shipped:" and no such name, or `~` and no such home.
        AmbiguousObjectiveError: it may be either; the message has both spellings.
    """
    if isinstance(name_or_path, Path):
        return name_or_path
    if name_or_path.startswith(spelling.SHIPPED):
        if not is_named(name_or_path.removeprefix(spelling.SHIPPED)):
            raise UnknownObjectiveError(_nothing_called(name_or_path))
        return None
    try:
        path = spelling.path_of(name_or_path)
    except spelling.HomeError as error:
        raise UnknownObjectiveError(str(error)) from None
    if path.name != name_or_path or not is_named(name_or_path):
        return path
    if path.exists() or path.is_symlink():
        kind = "folder" if path.is_dir() else "file"
        raise AmbiguousObjectiveError(
            f"{path} is a {kind} here and the name of an objective: say ./{path} for the {kind} "
            f"or {spelling.SHIPPED}{path} for the objective"
        )
    return None


def is_named(name: str) -> bool:
    """Whether a shipped or a hand-written objective has this name."""
    return name in _shipped_files() or (name in RULES and not is_learned(make_objective(name)))


def shipped() -> dict[str, dict[str, Any]]:
    """The objectives that come with the package: their cards by name."""
    cards = {}
    for name in _shipped_files():
        with resources.as_file(_folder() / f"{name}{spelling.SUFFIX}") as path:
            cards[name] = read_card(path)
    return cards


def _folder() -> Any:
    return resources.files("rl_discovery.checkpoints") / "shipped"


def _shipped_files() -> tuple[str, ...]:
    """Names of the shipped objectives."""
    folder = _folder()
    files = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return tuple(
        sorted(name.removesuffix(spelling.SUFFIX) for name in files if name.endswith(spelling.SUFFIX))
    )


def _read_named(name: str) -> TrainedObjective:
    if name not in _shipped_files():
        rule = make_objective(name)
        return TrainedObjective(rule, rule.init(jax.random.key(0)))
    # As a real file, should the package be imported from an archive.
    with resources.as_file(_folder() / f"{name}{spelling.SUFFIX}") as path:
        return dataclasses.replace(read_objective(path), shipped_as=name)


def _nothing_called(name: str) -> str:
    """Why a name cannot be loaded, and what can."""
    learned = [rule for rule in RULES if is_learned(make_objective(rule))]
    name = name.removeprefix(spelling.SHIPPED)
    if name in learned:
        return (
            f"{name!r} is a learned rule of which no trained objective is shipped: "
            "give a run directory or an exported .safetensors (`rl-discovery meta-train` makes both)"
        )
    known = sorted({*_shipped_files(), *RULES} - ({*learned} - {*_shipped_files()}))
    return spelling.nothing_called(name, known)

"""The contents of the index: see `index`. Imports everything, so it is imported only to make one."""

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from rl_discovery.checkpoints.fields import flatten
from rl_discovery.checkpoints.objective_file import is_learned
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from rl_discovery.meta.config import RunConfig, to_json
from rl_discovery.meta.objective_settings import ObjectiveSettings, field_docs, objective_settings
from rl_discovery.meta.presets import PRESETS
from rl_discovery.scripts import list_
from rl_discovery.scripts.arguments import field_texts
from rl_discovery.scripts.index import FILES, SWITCH


def index_document() -> dict[str, Any]:
    """Everything that is kept, as JSON values.

    Returns:
        `names` with descriptions by listing; objectives that are `loadable` and that can be `learned`;
        `fields` of a configuration but the objective's, by dotted name, and `settings` of each rule: JSON
        schemas with the fields' docstrings; `rules` by the names that stand for one; and `presets` with
        their values.
    """
    rules = {name: rule for name in RULES if dataclasses.is_dataclass(type(rule := make_objective(name)))}
    classes = {name: type(objective_settings(name)) for name in rules}
    return {
        "names": {kind: dict(_names(kind)) for kind in get_args(list_.Kind)},
        "loadable": [entry["name"] for entry in list_.objectives() if entry["kind"] != "learned"],
        "learned": [name for name, rule in rules.items() if is_learned(rule)],
        "fields": dict(_fields(RunConfig)),
        "rules": {name: cls.__name__ for name, cls in classes.items()},
        "settings": {cls.__name__: dict(_settings(cls)) for cls in set(classes.values())},
        "presets": {name: flatten(to_json(preset.config)) for name, preset in PRESETS.items()},
    }


def _names(kind: list_.Kind) -> Iterator[tuple[str, str]]:
    for entry in list_.entries(kind):
        yield entry["name"], entry["description"]
        short = entry["name"].partition("/")[2]
        if short and kind in ("envs", "distributions"):
            yield short, entry["description"]


def _fields(cls: type[Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    docs = field_texts(cls)
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if name.startswith("__") or hint is ObjectiveSettings:
            continue
        if dataclasses.is_dataclass(hint):
            yield from _fields(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + name, _schema(hint) | {"doc": docs.get(name, "")}


def _settings(cls: type[ObjectiveSettings]) -> Iterator[tuple[str, dict[str, Any]]]:
    docs, hints = field_docs(cls), get_type_hints(cls, include_extras=True)
    for name in cls.names():
        yield name, _schema(hints[name]) | {"doc": docs.get(name, "")}


def _schema(hint: Any) -> dict[str, Any]:
    try:
        return TypeAdapter(hint).json_schema()
    except Exception:  # a type of somebody's own: its values are checked later
        return {}


def commands() -> dict[str, dict[str, Any]]:
    """What may follow each flag of each command."""
    return dict(_commands())


def _commands() -> Iterator[tuple[str, dict[str, Any]]]:
    from rl_discovery.scripts.cli import COMMANDS

    for name, command in COMMANDS.items():
        module = importlib.import_module(f"rl_discovery.scripts.{command.arguments or command.module}")
        yield name, dict(_flags(module.Arguments))


def _flags(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """What follows each flag of a command: choices, a listing, files, a switch's nothing, or anything."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        flag = "--" + field.name.replace("_", "-")
        kinds = {hint, *get_args(hint)}
        if bool in kinds:
            yield flag, SWITCH
        elif Path in kinds:
            yield flag, FILES
        elif get_origin(hint) is Literal:
            yield flag, list(get_args(hint))
        else:
            yield flag, next((list(get_args(kind)) for kind in kinds if get_origin(kind) is Literal), None)

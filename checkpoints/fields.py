"""Dotted names of the fields in a config.json, as flags have them: `es.sigma`, `also.0.levels.horizon`."""

from collections.abc import Collection
from typing import Any

from rl_discovery.checkpoints.errors import one_line
from rl_discovery.discovery.registry import did_you_mean, nearest


def flatten(document: Any, prefix: str = "") -> dict[str, Any]:
    """The fields of nested JSON by their dotted names; objects in a list are counted from 0.

    Args:
        document: JSON, or a part of it.
        prefix: name of that part.
    """
    if isinstance(document, list) and document and all(isinstance(entry, dict) for entry in document):
        document = {str(number): entry for number, entry in enumerate(document)}
    if not isinstance(document, dict):
        return {prefix: document}
    fields: dict[str, Any] = {}
    for name, value in document.items():
        fields |= flatten(value, f"{prefix}.{name}" if prefix else name)
    return fields


def differences(old: Any, new: Any) -> list[str]:
    """The fields in which two JSON documents differ, each as `NAME was VALUE, now VALUE`."""
    before, after = flatten(old), flatten(new)
    return [
        f"{name} was {before.get(name)}, now {after.get(name)}"
        for name in before | after
        if before.get(name) != after.get(name)
    ]


def changed(new: Any, old: Any) -> dict[str, Any]:
    """The fields of `new` whose values differ from those in `old`."""
    before = flatten(old)
    return {name: value for name, value in flatten(new).items() if value != before.get(name)}


def nearest_field(name: str, known: Collection[str]) -> str | None:
    """The field that a misspelt name may mean, also where it lacks its prefix: `sgima` is `es.sigma`."""
    if (close := nearest(name, known)) is not None:
        return close
    by_last = {field.rpartition(".")[2]: field for field in reversed(list(known))}
    last = nearest(name.rpartition(".")[2], by_last)
    return None if last is None else by_last[last]


def unknown_field(name: str, known: Collection[str]) -> str:
    """Why a field cannot be set, in words."""
    close = nearest_field(name, known)
    hint = "" if close is None else f"did you mean {close!r}? "
    return f"unknown field {name!r}: {hint}`rl-discovery meta-train --print-config` shows them all"


def unknown_setting(kind: str, name: str, known: Collection[str]) -> str:
    """Why a rule cannot have a setting, in words."""
    hint = did_you_mean(name, known)
    return (
        f"objective.{one_line(name)}: {one_line(kind)} has no such setting: {hint}it has {', '.join(known)}"
    )

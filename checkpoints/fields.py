"""Dotted names of the fields in a config.json, as flags have them: `es.sigma`, `also.0.levels.horizon`."""

from typing import Any


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

"""Fields of a configuration by dotted names, as flags have them: `es.sigma`, `also.0.levels.horizon`."""

from typing import Any


def dotted(document: Any, prefix: str = "") -> dict[str, Any]:
    """Every field of a configuration's JSON; environments of `also` are counted from 0.

    Args:
        document: the JSON, or a part of it.
        prefix: the part's name.
    """
    if isinstance(document, list) and document and all(isinstance(entry, dict) for entry in document):
        document = {str(number): entry for number, entry in enumerate(document)}
    if not isinstance(document, dict):
        return {prefix: document}
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= dotted(value, f"{prefix}.{name}" if prefix else name)
    return found


def differences(old: Any, new: Any) -> list[str]:
    """Fields in which two configurations' JSON differ, each in words."""
    before, after = dotted(old), dotted(new)
    return [
        f"{name} was {before.get(name)}, now {after.get(name)}"
        for name in before | after
        if before.get(name) != after.get(name)
    ]


def changed(new: Any, old: Any) -> dict[str, Any]:
    """Fields whose values differ from another configuration's JSON."""
    before = dotted(old)
    return {name: value for name, value in dotted(new).items() if value != before.get(name)}

"""A configuration as flags of `meta-train`: what `report` tells to repeat a run, and what `sweep` runs."""

from collections.abc import Sequence


def changes(new: object, old: object, prefix: str = "") -> list[tuple[str, object]]:
    """Fields of a configuration (JSON values) that differ from another's, by their dotted names."""
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old) and _nested(new):
        new, old = ({str(i): entry for i, entry in enumerate(entries)} for entries in (new, old))
    if not isinstance(new, dict) or not isinstance(old, dict):
        return [(prefix, new)] if new != old else []
    dot = f"{prefix}." if prefix else ""
    return [change for name in new for change in changes(new[name], old.get(name), f"{dot}{name}")]


def flag(name: str, value: object) -> list[str]:
    """As `meta-train` takes it: a switch is named by its state, a tuple is several words."""
    words = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        parts = words.removeprefix("--").rsplit(".", 1)
        parts[-1] = parts[-1] if value else f"no-{parts[-1]}"
        return [f"--{'.'.join(parts)}"]
    return [words, *map(str, value)] if isinstance(value, list) else [words, str(value)]


def _nested(entries: Sequence[object]) -> bool:
    return any(isinstance(entry, dict) for entry in entries)

"""What computed a run's generations: versions, device and all else that decides last bits, in config.json.

An entry of the history is `{"generation": FIRST, "versions": {...}, "numerics": {...}}`: these computed the
generations from that one on. Run directories that are older than it know the newest versions alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rl_discovery.checkpoints import numerics
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.untrusted import RefusedError
from rl_discovery.meta.fields import dotted

Entry = dict[str, Any]


def present() -> Entry:
    """What computes here and now, but for the generation."""
    return {"versions": versions(), "numerics": numerics.rounding()}


def read(document: Mapping[str, Any]) -> list[Entry]:
    """The history in a config.json.

    Raises:
        RefusedError: it is none.
    """
    entries = document.get("history", [{"generation": 0, "versions": document.get("versions")}])
    if not (isinstance(entries, list) and all(map(_is_entry, entries))):
        raise RefusedError("holds a history that is none")
    return entries


def extended(entries: Sequence[Entry], generation: int, now: Entry) -> list[Entry]:
    """The history of a run that goes on: what came at that generation or later is computed again."""
    kept = [entry for entry in entries if entry["generation"] < generation]
    if kept and all(kept[-1].get(name) == value for name, value in now.items()):
        return kept
    return [*kept, {"generation": generation, **now}]


def changes(entries: Sequence[Entry]) -> list[str]:
    """How the newest entry differs from the one before, in words, where both know something."""
    if len(entries) < 2:
        return []
    old, new = (dotted(entry) for entry in entries[-2:])
    return [
        f"{name.partition('.')[2]} was {old[name]}, now {new[name]}"
        for name in old
        if name in new and name != "generation" and old[name] != new[name]
    ]


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("generation")) is int

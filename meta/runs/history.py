"""What computed a run's generations: versions, device and all else that decides last bits.

`checkpoints.run_directory` reads and writes the history, which is a part of config.json.
"""

from collections.abc import Sequence

from rl_discovery.checkpoints import numerics
from rl_discovery.checkpoints.fields import flatten
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.run_directory import HistoryEntry


def present() -> HistoryEntry:
    """What computes in this process; the caller adds the generation."""
    return {"versions": versions(), "numerics": numerics.rounding()}


def extended(entries: Sequence[HistoryEntry], generation: int, now: HistoryEntry) -> list[HistoryEntry]:
    """The history of a run that goes on at a generation; entries from that one on are dropped.

    Args:
        entries: the history so far.
        generation: the first one that is computed now.
        now: what computes it.
    """
    kept = [entry for entry in entries if entry["generation"] < generation]
    if kept and all(kept[-1].get(name) == value for name, value in now.items()):
        return kept
    return [*kept, {"generation": generation, **now}]


def changes(entries: Sequence[HistoryEntry]) -> list[str]:
    """How the newest entry differs from the one before, in words, in the fields that both have."""
    if len(entries) < 2:
        return []
    old, new = (flatten(entry) for entry in entries[-2:])
    return [
        f"{name.partition('.')[2]} was {old[name]}, now {new[name]}"
        for name in old
        if name in new and name != "generation" and old[name] != new[name]
    ]

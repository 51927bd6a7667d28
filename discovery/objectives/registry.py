"""Every objective by name, found in the modules of this package that define `OBJECTIVES`.

A new objective is one file: it appears here, in `list objectives`, in the command line and in the
tests that run over the registry. `OBJECTIVES` maps a name to (factory, one-line description); the
factory takes the rule's settings as keywords.
"""

import dataclasses
import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from rl_discovery.discovery import objectives as package
from rl_discovery.discovery.objectives.base import Objective


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered objective."""

    name: str
    description: str
    factory: Callable[..., Objective]


class UnknownRuleError(ValueError):
    """The name is not in the registry."""


@functools.cache
def registry() -> Mapping[str, Entry]:
    """All objectives by name."""
    entries = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        found = getattr(importlib.import_module(module.name), "OBJECTIVES", {})
        for name, (factory, description) in found.items():
            entries[name] = Entry(name, description, factory)
    return entries


def make_objective(name: str, **settings: Any) -> Objective:
    """Builds an objective.

    Args:
        name: a registered name, such as "ta-lpg" or "a2c".
        settings: fields of the rule, such as `width=32`.

    Raises:
        UnknownRuleError: no such name; the message lists the ones there are.
        TypeError: a setting that the rule does not have.
    """
    entries = registry()
    if name not in entries:
        close = difflib.get_close_matches(name, entries, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UnknownRuleError(f"unknown objective {name!r}{hint} (there are: {', '.join(sorted(entries))})")
    return entries[name].factory(**settings)

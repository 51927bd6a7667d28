"""All objectives by name, collected from the modules of this package that define `OBJECTIVES`.

`OBJECTIVES` maps a name to (factory, one-line description); the factory takes the rule's settings as
keywords. A new objective is one file: it appears here, in `list objectives`, in the command line and in the
tests of all objectives.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from rl_discovery.discovery import objectives as package
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.registry import Registry


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered objective."""

    description: str
    factory: Callable[..., Objective]


def _ours() -> Mapping[str, Entry]:
    entries = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        objectives = getattr(importlib.import_module(module.name), "OBJECTIVES", {})
        for name, (factory, description) in objectives.items():
            entries[name] = Entry(description, factory)
    return entries


RULES = Registry("objective", "objectives", Entry, _ours)
"""All objectives by name."""


def make_objective(name: str, **settings: Any) -> Objective:
    """Builds an objective.

    Args:
        name: a registered name, such as "ta-lpg" or "a2c".
        settings: fields of the rule, such as `width=32`.

    Raises:
        UnknownNameError, BrokenPluginError: no such name, or one that cannot be used.
        TypeError: a setting that the rule does not have.
    """
    return RULES.find(name).factory(**settings)

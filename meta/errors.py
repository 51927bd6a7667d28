"""Failures of a run that a person can do something about: one clear line each."""

import difflib
from collections.abc import Collection


class RunError(RuntimeError):
    """The run directory cannot be used as asked."""


class ConfigError(ValueError):
    """A configuration that cannot work, or that is not the one a run was started with."""


def unknown_name(kind: str, name: str, known: Collection[str]) -> ConfigError:
    """The error for a name that a registry of this package lacks: the closest one, and all there are."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return ConfigError(f"unknown {kind} {name!r}{hint} (there are: {', '.join(known)})")


class LeaderError(RuntimeError):
    """Process 0 of several failed, and the others cannot go on without it."""


class DivergedError(RuntimeError):
    """A run cannot go on: nothing finite to learn from, or held-out fitness fell and was to stop it."""

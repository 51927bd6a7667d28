"""Errors of a run that a user can act on: one clear line each."""

from collections.abc import Sequence
from pathlib import Path

from rl_discovery.checkpoints.errors import RunError

__all__ = ["ConfigError", "DivergedError", "LeaderError", "RunError"]


class ConfigError(ValueError):
    """A configuration that cannot work, or that is not the one a run was started with."""


class LeaderError(RuntimeError):
    """Process 0 of several failed, and the others cannot go on without it."""


class DivergedError(RuntimeError):
    """A run cannot go on: nothing finite to learn from, or held-out fitness fell and is set to stop it."""


def other_configuration(run_dir: Path, differ: Sequence[str]) -> str:
    """Why a run cannot be resumed: how what is asked for differs from what it began with."""
    return f"{run_dir} holds a run of another configuration ({'; '.join(differ)}); choose another --run-dir"

"""The arguments of `export`, checked before JAX is imported."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from rl_discovery.scripts import index
from rl_discovery.scripts.arguments import parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write the objective of a run to a .safetensors file that `load_objective` and `evaluate` take.

    With `--to`, write its drift or schedule to one Python file for another framework.
    """

    run: tyro.conf.Positional[str]
    """A run directory (or anything else that `evaluate` takes)."""

    file: tyro.conf.Positional[Path]
    """The file to write; replaced if it is there."""

    to: Literal["torch", "numpy"] | None = None
    """Write a Python file that needs this framework only."""

    evaluation: Path | None = None
    """A results.json of `evaluate` to quote on the card, with the command that computes it again."""

    json: bool = False
    """Print the card as JSON."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments.

    Raises:
        UsageError, UnknownObjectiveError: they make no sense; one line.
    """
    arguments = parse(Arguments, argv, "export")
    index.check_objective(arguments.run)
    return arguments

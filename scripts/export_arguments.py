"""The arguments of `export`, checked before JAX is imported."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import tyro

from rl_discovery.checkpoints.errors import ObjectiveFileError
from rl_discovery.scripts import index
from rl_discovery.scripts.arguments import PlaceError, check_folder, parse

Framework = Literal["torch", "numpy"]


class ExportTargetError(ValueError):
    """The file to write is not named as one."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write the objective of a run to a .safetensors file that `load_objective` and `evaluate` take.

    With `--to`, write its drift or schedule to one Python file for another framework.
    """

    run: tyro.conf.Positional[str]
    """A run directory (or anything else that `evaluate` takes)."""

    file: tyro.conf.Positional[Path]
    """The file to write; replaced if it is there."""

    to: Framework | None = None
    """Write a Python file that needs this framework only."""

    evaluation: Path | None = None
    """A results.json of `evaluate` to quote on the card, with the command that computes it again."""

    json: bool = False
    """Print the card as JSON."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments.

    Raises:
        UsageError, PlaceError, ExportTargetError, CheckpointError: they make no sense; one line.
    """
    arguments = parse(Arguments, argv, "export")
    index.check_objective(arguments.run)
    _check(arguments)
    return arguments


def _check(arguments: Arguments) -> None:
    file = arguments.file
    check_target(file, ".safetensors" if arguments.to is None else ".py")
    if arguments.to is not None and not file.stem.isidentifier():
        name = re.sub(r"\W|^(?=\d)", "_", file.stem)
        raise ExportTargetError(f"Python cannot import {file.name}: call it {name}.py")
    if arguments.to is not None and file.stem in ("math", *get_args(Framework)):
        raise ExportTargetError(f"{file.name} would hide Python's {file.stem}: call it drift.py")
    if arguments.to is not None and arguments.evaluation is not None:
        raise ExportTargetError("--evaluation is quoted on the card of a .safetensors file: leave out --to")
    if arguments.evaluation is not None and not arguments.evaluation.exists():
        raise PlaceError(f"--evaluation: there is no {arguments.evaluation}")


def check_target(file: Path, suffix: str) -> None:
    """Refuses a file to write that has another suffix, or no folder to be in.

    Raises:
        ExportTargetError, ObjectiveFileError: says which.
    """
    if file.suffix != suffix:
        hint = " (for a Python file, say --to torch or --to numpy)" if file.suffix == ".py" else ""
        raise ExportTargetError(f"{file} does not end in {suffix}{hint}")
    if not file.parent.is_dir():
        raise ObjectiveFileError(f"cannot write {file}: no folder {file.parent}")
    check_folder(file.parent)

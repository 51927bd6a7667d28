"""Command-line arguments by tyro, with its complaints as one line like all others."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from rl_discovery.checkpoints import spelling

T = TypeVar("T")

CONSTRUCTORS = tyro.constructors.ConstructorRegistry()


@CONSTRUCTORS.primitive_rule
def _path(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    """Paths as a person means them: a shell leaves the `~` of `--run-dir=~/x` to us."""
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: spelling.path_of(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


class UsageError(ValueError):
    """Arguments that make no sense."""


def parse(
    arguments: type[T],
    argv: Sequence[str],
    command: str,
    description: str | None = None,
    *,
    negative_switches: bool = False,
) -> T:
    """The arguments of a command; flags are dotted where they nest.

    Args:
        arguments: a dataclass.
        argv: what follows the command's name.
        command: the command's name.
        description: for `--help`, in place of the dataclass's docstring.
        negative_switches: give every switch a `--no-` form, whatever its default.

    Raises:
        UsageError: an unknown flag or an impossible value, in one line.
        SystemExit: after `--help`.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                arguments,
                prog=f"rl-discovery {command}",
                args=list(argv),
                description=description,
                registry=CONSTRUCTORS,
                config=() if negative_switches else (tyro.conf.FlagCreatePairsOff,),
            )
    except spelling.HomeError as error:  # no ValueError, of which tyro would make something longer
        raise UsageError(str(error)) from None
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(
            f"{_first_paragraph(complaint.getvalue())}; see `rl-discovery {command} --help`"
        ) from None


def check_positive(arguments: Any, *names: str) -> None:
    """Refuses numbers below 1; None stands for a default.

    Raises:
        UsageError: the first of them, by its flag.
    """
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


def check_devices(devices: int | None) -> None:
    """Refuses fewer devices than one and more than there are; None stands for all.

    Raises:
        UsageError: says how many there are.
    """
    import jax  # here, because `doctor` parses arguments where JAX may be broken

    if devices is not None and not 1 <= devices <= jax.device_count():
        raise UsageError(f"--devices must be between 1 and {jax.device_count()} here, not {devices}")


def check_horizons(horizons: Sequence[int]) -> None:
    """Refuses horizons below 1 and equal ones.

    Raises:
        UsageError: the first of them.
    """
    for horizon in horizons:
        if horizon < 1:
            raise UsageError(f"--horizons must be at least 1, not {horizon}")
    if len(set(horizons)) < len(horizons):
        raise UsageError(f"--horizons must differ from each other, not {tuple(horizons)}")


def _first_paragraph(box: str) -> str:
    """What tyro's box says before its first rule, on one line."""
    words: list[str] = []
    for line in box.splitlines():
        text = line.strip("│╭╮╰╯─ ")
        if not text:
            if words:  # a rule or an edge below what was said
                break
        elif not line.startswith("╭"):
            words += text.split()
    return " ".join(words).rstrip(".") or "these arguments make no sense"

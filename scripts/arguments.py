"""Command-line arguments by tyro, with its complaints as one line like all others."""

import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

import tyro

T = TypeVar("T")


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
                config=() if negative_switches else (tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(
            f"{_first_paragraph(complaint.getvalue())}; see `rl-discovery {command} --help`"
        ) from None


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

"""What commands print: one JSON document, columns and tables for people."""

import contextlib
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from rl_discovery.scripts import streams

WIDTH = 120
"""Width of tables that go to a file or a pipe, in characters."""


class _Plain(Console):
    """Prints text as it is: paths and names are the user's, and `[x]` or `:car:` in them mean nothing.

    What is bold or coloured is a `rich.text.Text`.
    """

    def __init__(self, file: Any, width: int | None = None) -> None:
        # The file is named: rich takes the encoding from it.
        super().__init__(file=file, width=width, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Leaves it to the caller, where rich would end the process with status 1."""
        raise


def messages() -> Console:
    """Standard error, for progress and messages."""
    return _Plain(sys.stderr)


def results(width: int | None = None) -> Console:
    """Standard output, for tables.

    Args:
        width: in columns, where it is no terminal; rich's default there is 80.
    """
    return _Plain(sys.stdout, None if sys.stdout.isatty() else width)


@contextlib.contextmanager
def of_finished_work() -> Iterator[None]:
    """For printing about work that is done and in files: a failure to print is then no failure."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename != streams.STDOUT:
            raise
        if not isinstance(error, BrokenPipeError):
            messages().print(f"{error.filename}: {error.strerror}; all files are written", soft_wrap=True)


@contextlib.contextmanager
def only_json() -> Iterator[None]:
    """Sends whatever is printed inside to standard error, so that standard output stays one document."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def print_json(document: Any) -> None:
    """Prints the one document of `--json`."""
    print(json.dumps(document, indent=2, allow_nan=False))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns; on a terminal the last one is wrapped, in a pipe every row is one line."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = shutil.get_terminal_size().columns - indent
    lines = []
    for row in rows:
        fixed = "".join(f"{cell:<{width}}  " for cell, width in zip(row, widths, strict=False))
        wrapped = textwrap.wrap(row[-1], room) if sys.stdout.isatty() and room > 20 else [row[-1]]
        lines += [(fixed if i == 0 else " " * indent) + part for i, part in enumerate(wrapped or [""])]
    return "\n".join(line.rstrip() for line in lines)

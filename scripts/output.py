"""What commands print: one JSON document, or columns for people."""

import contextlib
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any


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

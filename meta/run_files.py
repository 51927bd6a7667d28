"""Reading a run directory's files, without JAX: `run_dir` resumes from them, `status` tells how a run goes.

Nothing here locks or writes, so that it works on runs that other processes write and on read-only copies.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from meta.errors import RunError

FORMAT = 1
"""Version of the run directory's layout; a higher one is refused."""


def read_document(path: Path) -> dict[str, Any]:
    """What a run's config.json says: `format`, `config` and `versions`, the configuration unchecked.

    Raises:
        RunError: unreadable, damaged, foreign, or of a newer format.
    """
    try:
        document = json.loads(path.read_text())
        version = document["format"]
        if version > FORMAT:
            raise RunError(f"{path} has format {version}, newer than {FORMAT}: install a newer rl-discovery")
        if not isinstance(document["config"], dict):
            raise TypeError("config must be an object")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise foreign(path, error) from None
    return document


def foreign(path: Path, error: Exception) -> RunError:
    """The error for a config.json that says something else."""
    return RunError(
        f"{path} is not a configuration of rl-discovery ({type(error).__name__}); choose another directory"
    )


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of metrics.jsonl; a line cut short by a crash ends the iteration."""
    if not path.exists():
        return
    with path.open(errors="replace") as file:
        yield from parse_metrics(file)


def parse_metrics(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Rows until the first line that is none, or that does not end in a newline."""
    for line in lines:
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            return
        if not isinstance(row, dict) or "generation" not in row or not line.endswith("\n"):
            return
        yield row

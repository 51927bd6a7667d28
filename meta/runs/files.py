"""Reading a run directory's files, without JAX: `run_dir` resumes from them, `status` tells how a run goes.

Nothing here locks or writes, so that it works on runs that other processes write and on read-only copies.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.errors import one_line, reason
from rl_discovery.meta.errors import RunError

FORMAT = 1
"""Version of the run directory's layout; a higher one is refused."""


def read_document(path: Path) -> dict[str, Any]:
    """What a run's config.json says: `format`, `config` and `versions`, the configuration unchecked.

    Raises:
        RunError: unreadable, damaged, foreign, or of a newer format.
    """
    try:
        document = untrusted.read_json(path, untrusted.CONFIG)
        if isinstance(document, dict) and type(version := document.get("format")) is int and version > FORMAT:
            raise RunError(f"{path} has format {version}, newer than {FORMAT}: install a newer rl-discovery")
        untrusted.check_version(document, FORMAT)
        if not isinstance(document.get("config"), dict):
            raise untrusted.RefusedError("holds no configuration")
    except (OSError, untrusted.RefusedError) as error:
        raise foreign(path, error) from None
    return document


def foreign(path: Path, error: Exception) -> RunError:
    """The error for a config.json that says something else."""
    why = one_line(reason(error))
    return RunError(f"{path} is not a configuration of rl-discovery ({why}); choose another directory")


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of metrics.jsonl, however many; a line that is none, or cut short by a crash, ends them.

    Raises:
        RunError: the file cannot be read.
    """
    for _, row in read_lines(path):
        yield row


def read_lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The same with each row's line."""
    try:
        yield from _parse(untrusted.metrics_lines(path, sys.maxsize) if path.exists() else ())
    except untrusted.RefusedError:
        return
    except OSError as error:
        raise RunError(f"cannot read {path}: {reason(error)}") from None


def parse_metrics(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Rows until the first line that is none, or that does not end in a newline."""
    for _, row in _parse(lines):
        yield row


def _parse(lines: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for line in lines:
        try:
            row = untrusted.metrics_row(line)
        except untrusted.RefusedError:
            return
        if not line.endswith(b"\n"):
            return
        yield line, row

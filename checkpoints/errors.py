"""Errors about our files; each message is one line that a user can act on.

The command line prints the message and nothing else; see `scripts.cli`.
"""

import re


class CheckpointError(RuntimeError):
    """A checkpoint or objective file cannot be read or written; says which and what to do."""


class ObjectiveFileError(CheckpointError):
    """A file is not an exported objective, or is damaged."""


class AgentFileError(CheckpointError):
    """A file is not a saved agent, or is damaged."""


class DriftFileError(CheckpointError):
    """A file is not a drift that published code has saved, or is damaged."""


class RunCheckpointError(CheckpointError):
    """A run's checkpoints cannot be read or written."""


class RunError(RuntimeError):
    """The run directory cannot be used as asked."""


class DamagedMetricsError(RunError):
    """A line of metrics.jsonl is not a generation's metrics."""


class UnknownObjectiveError(CheckpointError, ValueError):
    """There is no objective of that name or at that path."""


class AmbiguousObjectiveError(UnknownObjectiveError):
    """A name is that of an objective and that of a file or folder here."""


def one_line(text: str) -> str:
    """The text without line breaks and control characters, cut to a length that can be read."""
    text = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text).split())
    return text if len(text) <= 200 else text[:199] + "…"


def refusal(place: str, message: str, shown: str) -> str:
    """Why a value is refused, in one line.

    Args:
        place: what the value is of.
        message: pydantic's.
        shown: the value.
    """
    message = message.partition(", unable to parse")[0].replace("Input should", "must")
    return f"{place}{' ' if message.startswith('must') else ': '}{message}, not {one_line(shown)}"


def errno_of(error: BaseException) -> int | None:
    """The errno of an operating system's error, also inside the errors of storage libraries; or None."""
    if isinstance(error, OSError):
        return error.errno
    code = re.search(r"\[os_error_code='(\d+)'\]", str(error))
    return int(code[1]) if code else None


def reason(error: BaseException) -> str:
    """Why an operation failed: one line to end a message with."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Storage libraries wrap the operating system's words in a line of nested paths and codes.
    text, code, _ = str(error).partition(" [os_error_code=")
    return one_line(text.rpartition(": ")[2] if code else text) or type(error).__name__

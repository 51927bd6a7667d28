"""Standard streams that cost no work: what cannot be printed was computed all the same.

Called by `scripts.cli` when the process starts. Imports nothing large: `--help` is instant.
"""

import codecs
import io
import os
import select
import sys
from pathlib import Path
from typing import Any, TextIO

STDOUT = "standard output"
"""Its file name in errors."""

PLAIN = "rl_discovery.plain"
"""Name of what replaces characters that an encoding lacks: a minus sign by a hyphen, others by ?."""


class _Output(io.FileIO):
    """The raw end of a standard stream; where a non-blocking pipe is full, it waits.

    A failure is told once, and what is written after it is dropped: Python flushes again when it exits.
    """

    def __init__(self, descriptor: int, called: str | None) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._called = called
        self._broken = False

    def write(self, data: Any) -> int:
        """Writes some of it, at least a byte.

        Raises:
            OSError: the first failure, named, unless this stream keeps its failures to itself.
        """
        while not self._broken:
            try:
                written: int | None = super().write(data)
            except OSError as error:
                self._broken = True
                if self._called is not None:
                    raise OSError(error.errno, error.strerror, self._called) from None
            else:
                if written is not None:
                    return written
                select.select([], [self], [])
        return memoryview(data).nbytes


def secure() -> None:
    """Makes the process's own streams fit for whatever they are connected to.

    A closed one leads nowhere. Characters that the encoding lacks are replaced. Failures of standard error,
    which has progress and messages, are dropped; those of standard output, which has results, are told.
    Streams that somebody else has put in their place (a test, a notebook) stay as they are.
    """
    if sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__:
        _occupy()
        codecs.register_error(PLAIN, _plain)
        sys.stdout = _stream(1, sys.stdout, STDOUT, PLAIN)
        sys.stderr = _stream(2, sys.stderr, None, "backslashreplace")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join("-" if c == "−" else "?" for c in error.object[error.start : error.end]), error.end


def _occupy() -> None:
    """Opens what is closed of the first three descriptors, or files of the run would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number, this one


def _stream(descriptor: int, given: Any, called: str | None, errors: str) -> TextIO:
    """In place of Python's own, or of None where the descriptor was closed."""
    if given is None:
        return Path(os.devnull).open("w", encoding="utf-8", errors=errors)
    given.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(descriptor, called)),
        given.encoding,
        errors,
        line_buffering=given.line_buffering or given.write_through,
    )

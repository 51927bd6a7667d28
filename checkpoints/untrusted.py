"""Reads files that are not trusted: limits on size, depth and numbers, no links out of their folder.

Every loader reads through this module (`objective_card`, `run_directory`, `runs`, `evaluation`) and turns
`RefusedError` into its own documented error. docs/security.md lists the limits with their reasons.
"""

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

KIB, MIB, GIB = 2**10, 2**20, 2**30

CONFIG = 1 * MIB
"""Bytes of a config.json; ours have 3 to 10 kB."""

CARD = 4 * MIB
"""Bytes of tensor index and card in an exported objective; ours have at most 10 kB."""

OBJECTIVE = 1 * GIB
"""Bytes of an exported objective where all of it is read; ours have at most 2 MB."""

DRIFT = 16 * MIB
"""Bytes of a drift that published code has saved, also when unpacked; theirs have 5 kB."""

AGENT = 1 * GIB
"""Bytes of a saved agent; one on CartPole has 100 kB with its optimiser's state."""

METRICS_LINE = 64 * KIB
"""Bytes of one generation's metrics; ours have about 1 kB."""

METRICS = 1 * GIB
"""Bytes of a metrics.jsonl that is kept in memory: some 900,000 generations."""

RESULTS = 256 * MIB
"""Bytes of a results.json or analysis.json; 500 cells with their curves have 1 MB."""

OUTCOME = 1 * MIB
"""Bytes of one kept outcome; ours have about 2 kB."""

PLAN = 64 * MIB
"""Bytes of a sweep.json; a trial has 100."""

PICTURE = 64 * MIB
"""Bytes of a gallery.png; ours have at most 1 MB."""

STEP_JSON = 16 * MIB
"""Bytes of each index or JSON file of a checkpoint's step; ours have at most 100 kB."""

STEP_FILES = 100_000
"""Files and folders of a run directory, checkpoints included, that are looked at for links."""

DEPTH = 64
"""Levels of lists and objects in JSON; ours have at most 8."""

DIGITS = 20
"""Digits of a whole number in JSON; enough for 64 bits."""


class RefusedError(Exception):
    """A file is refused; the message continues a line that begins with the file's path."""


class UnreadableError(RefusedError):
    """A file is not opened at all: it is not a regular file, or has more bytes than are read."""


def open_file(path: Path, limit: int) -> BinaryIO:
    """Opens a regular file of at most `limit` bytes.

    Raises:
        UnreadableError: larger, or no regular file (a pipe would block, a device may never end).
        OSError: it cannot be opened.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("is not a regular file")
        if status.st_size > limit:
            raise UnreadableError(f"has {status.st_size} bytes, more than the {limit} that are read")
    except BaseException:
        file.close()
        raise
    return file


def read_bytes(path: Path, limit: int) -> bytes:
    """The contents of a file; raises as `open_file`."""
    with open_file(path, limit) as file:
        return file.read(limit)


def read_json(path: Path, limit: int) -> Any:
    """The document in a file; raises as `open_file` and `parse_json`."""
    return parse_json(read_bytes(path, limit))


def parse_json(text: str | bytes) -> Any:
    """A document as JSON has it, in UTF-8: without NaN, infinities, duplicate names and lone surrogates.

    Raises:
        RefusedError: it is none, nested deeper than `DEPTH`, or has numbers longer than `DIGITS`.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        document = json.loads(
            text, parse_constant=_finite, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
        )
        _check_tree(document)
    except UnicodeError:
        raise RefusedError("is no text in UTF-8") from None
    except RecursionError:
        raise RefusedError(f"is nested deeper than {DEPTH} levels") from None
    except ValueError as error:
        raise RefusedError(f"is no JSON: {error}") from None
    return document


def lines(path: Path, longest: int, limit: int) -> Iterator[bytes]:
    """The lines of a file with their line breaks; the last one may lack it.

    Args:
        path: of the file.
        longest: bytes of a line.
        limit: bytes of the file.

    Raises:
        RefusedError: a line is longer; and as `open_file`.
    """
    with open_file(path, limit) as file:
        while line := file.readline(longest + 1):
            if len(line) > longest:
                raise RefusedError(f"has a line of more than {longest} bytes")
            yield line


def metrics_row(line: bytes) -> dict[str, Any]:
    """One generation's metrics, all of them numbers or null.

    Raises:
        RefusedError: the line is no such object.
    """
    row = parse_json(line)
    if not isinstance(row, dict) or type(row.get("generation")) is not int or row["generation"] < 0:
        raise RefusedError("is no generation")
    for name, value in row.items():
        if value is not None and not isinstance(value, int | float):
            raise RefusedError(f"has a {name} that is not a number")
    return row


def check_version(document: Any, newest: int) -> None:
    """Refuses a document whose field "format" is not 1 ... `newest`.

    Raises:
        RefusedError: it has another one, or none.
    """
    if not isinstance(document, dict) or "format" not in document:
        raise RefusedError("has no field 'format'")
    version = document["format"]
    if type(version) is not int or version < 1:
        raise RefusedError(f"is damaged: its format is {json.dumps(version)[:40]}")
    if version > newest:
        raise RefusedError(f"has format {version}, newer than {newest}: install a newer rl-discovery")


def check_confined(folder: Path, besides: tuple[str, ...] = ()) -> None:
    """Refuses a folder with a link that leads out of it, through which files would be written elsewhere.

    The folder itself may be a link, and links between its own files are fine.

    Args:
        folder: with all below it.
        besides: folders in it that are not looked into, since nothing is written or read there.

    Raises:
        RefusedError: a link leads out, or there are more than `STEP_FILES` entries.
        OSError: the folder cannot be listed.
    """
    root = folder.resolve()
    for number, entry in enumerate(_entries(root, besides)):
        if number >= STEP_FILES:
            raise RefusedError(f"has more than {STEP_FILES} files")
        path = Path(entry.path)
        if entry.is_symlink() and not _resolved(path).is_relative_to(root):
            name = path.relative_to(root)
            raise RefusedError(f"has a link {str(name)!r} that leads out of it: put the file itself there")


def check_within(path: Path, folder: Path) -> None:
    """Refuses a file that a link takes out of its folder.

    Raises:
        RefusedError: it is elsewhere.
    """
    if not _resolved(path).is_relative_to(_resolved(folder)):
        raise RefusedError("is a link that leads out of its folder: put the file itself there")


def check_plain(folder: Path, bounded: tuple[str, ...], limit: int) -> None:
    """Refuses a folder with anything but files and folders, or too large an index.

    Args:
        folder: with all below it.
        bounded: names of files that are read as a whole, without a look at their size.
        limit: bytes of each of those.

    Raises:
        RefusedError: there is a link, pipe, socket or device, or one of these files is larger.
        OSError: the folder cannot be listed.
    """
    if folder.is_symlink():
        raise RefusedError("is a link: put the folder itself there")
    for entry in _entries(folder):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise RefusedError(f"has {entry.name!r}, which is neither file nor folder: remove it")
        if entry.name in bounded and entry.is_file() and (size := entry.stat().st_size) > limit:
            raise RefusedError(f"has {entry.name!r} of {size} bytes, more than the {limit} that are read")


def _entries(folder: Path, besides: tuple[str, ...] = ()) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, but for what is in some of its own; links are not followed."""
    todo = [str(folder)]
    for place in todo:  # grows as we go
        with os.scandir(place) as entries:
            for entry in entries:
                yield entry
                if place == str(folder) and entry.name in besides:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a circle of links, before Python 3.13
        raise RefusedError(f"has a link {path.name!r} that leads nowhere: remove it") from None


def _finite(literal: str) -> float:
    """Numbers only: neither the `NaN` that Python adds to JSON nor a 1e999."""
    if not math.isfinite(number := float(literal)):
        raise ValueError(f"{literal[:40]} is not finite")
    return number


def _whole(literal: str) -> int:
    if len(literal.lstrip("-")) > DIGITS:
        raise ValueError(f"a number of more than {DIGITS} digits")
    return int(literal)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a name is there twice")
    return document


def _check_tree(document: Any) -> None:
    """Depth and characters, level by level, so that no depth exhausts the stack."""
    level = [document]
    for _ in range(DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and not value.isascii():
                value.encode()  # half of a surrogate pair cannot be written or printed anywhere
        if not below:
            return
        level = below
    raise RecursionError

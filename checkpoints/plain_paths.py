"""Paths of folders that all libraries below us read alike.

Orbax globs its own folder without escaping it, takes `:/` for an address and backslashes for slashes, and
TensorStore opens every name as UTF-8 whatever the locale says. `checkpoints.runs` gives them a name from
here.
"""

import os
from pathlib import Path

DESCRIPTORS = Path("/proc/self/fd")
"""Where Linux has each open folder under its number."""

MISREAD = frozenset("[]*?\\:")


class PlainPath:
    """A folder's own path where every library reads that alike, else another name for it until `close`.

    Args:
        folder: absolute; must be there.

    Attributes:
        path: for libraries; not for messages.

    Raises:
        OSError: the folder cannot be opened, or this system has no other name for it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._descriptor: int | None = None
        letters = misread(folder)
        if not letters:
            return
        if not DESCRIPTORS.is_dir():
            raise OSError(f"its path has {letters}, which only works on Linux: choose another path")
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = DESCRIPTORS / str(self._descriptor)

    def close(self) -> None:
        """Releases the other name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def misread(folder: Path) -> str:
    """Characters of a path that some library misinterprets."""
    return " ".join(sorted({letter for letter in str(folder) if letter in MISREAD or not _is_utf8(letter)}))


def _is_utf8(letter: str) -> bool:
    """Whether file names have a letter in the bytes that UTF-8 has for it: not in every locale."""
    try:
        return os.fsencode(letter) == letter.encode()
    except UnicodeEncodeError:
        return False

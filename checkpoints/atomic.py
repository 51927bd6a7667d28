"""Writing a file so that a reader sees the old or the new contents, never a part."""

import os
import tempfile
from pathlib import Path

from checkpoints.errors import CheckpointError, reason


def replace_file(path: Path, data: bytes) -> None:
    """Writes `data` beside `path` and moves it there once it is on disk.

    Args:
        path: the file; replaced if it is there.
        data: its contents.

    Raises:
        CheckpointError: it cannot be written; what was there before still is.
    """
    temporary: Path | None = None
    try:
        try:
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                temporary = Path(file.name)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # Temporary files are private; this one should be as open as any other new file.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {reason(error)}") from None


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

"""Writing a file so that a reader sees the old or the new contents, never a part."""

import os
from pathlib import Path

from rl_discovery.checkpoints.errors import CheckpointError, reason


def replace_file(path: Path, data: bytes) -> None:
    """Writes `data` beside `path` and moves it there once it is on disk.

    Args:
        path: the file; replaced if it is there.
        data: its contents.

    Raises:
        CheckpointError: it cannot be written; what was there before still is.
    """
    # Not a NamedTemporaryFile: those are readable by their owner alone, and stay so.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.unlink(missing_ok=True)  # a link of this name would lead the write elsewhere
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {reason(error)}") from None

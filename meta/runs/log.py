"""Messages of a run: to the terminal and to its train.log."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

logger = logging.getLogger("rl_discovery")
logger.addHandler(logging.NullHandler())  # or Python would print warnings of processes without a log


class _RunLog(logging.FileHandler):
    """The handler of train.log; its own errors never hide the one that ended the run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Ignores the error."""
        del record

    def close(self) -> None:
        """Closes the file; errors of the last write are ignored."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def run_log(path: Path) -> Iterator[None]:
    """Writes to a file what is logged inside."""
    handler = _RunLog(path, encoding="utf-8", errors="backslashreplace")  # whatever the locale
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def say(console: Console, message: str, level: int = logging.INFO) -> None:
    """Tells the user, and the log."""
    console.print(message, highlight=False, markup=False, soft_wrap=True)
    logger.log(level, message)

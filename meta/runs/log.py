"""train.log: what is logged while a run goes on. `meta.runs.loop` opens it."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger("rl_discovery")
logger.addHandler(logging.NullHandler())  # or warnings of processes that have no log would be printed


class _RunLog(logging.FileHandler):
    """train.log. Where it cannot be written, the error that ended the run must stay the one that is seen."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        """Says nothing."""
        del record

    def close(self) -> None:
        """Closes the file, whatever could not be written to it."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def run_log(path: Path) -> Iterator[None]:
    """What is logged inside goes to this file."""
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

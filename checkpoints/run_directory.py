"""The files of a run directory: their names and formats, and the one reader and writer of each.

`config.json` holds the configuration and what computed the run, `metrics.jsonl` one JSON object per
generation. Reading locks and writes nothing and needs no JAX, so that it works on a run that another
process writes and on a read-only copy. docs/runs.md describes the files, docs/security.md their limits.
"""

import contextlib
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import DamagedMetricsError, RunError, one_line, reason

FORMAT = 1
"""Version of the directory's layout; a higher one is refused."""

CONFIG = "config.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
GALLERY = "gallery.png"
TENSORBOARD = "tb"
LOG = "train.log"
LOCK = ".lock"

OBJECTIVE = "objective.safetensors"
"""The objective as of the newest checkpoint."""

LAST_OBJECTIVE = "objective_last.safetensors"
"""The last mean as of the newest checkpoint, where `OBJECTIVE` is the average of the means."""

BEST_OBJECTIVE = "objective_best.safetensors"
"""The objective with the highest held-out fitness so far."""

WANDB = "wandb"
"""Folder of Weights & Biases, which links its logs to a cache; nothing of ours is in it."""

WANDB_ID = "wandb-id.txt"
"""The id by which Weights & Biases knows the run: random, because a path may come to hold another run."""

REPLACED = (CONFIG, METRICS, GALLERY, WANDB_ID, OBJECTIVE, LAST_OBJECTIVE, BEST_OBJECTIVE)
"""Files that are replaced as a whole: a killed process may leave a temporary `.NAME.*` of each."""

TOTALS = ("env_steps", "wall_s")
"""Metrics that a resumed run goes on counting."""

PNG = b"\x89PNG\r\n\x1a\n"

Row: TypeAlias = dict[str, Any]
"""Metrics of one generation: numbers or None by name."""

Document: TypeAlias = dict[str, Any]
"""The contents of config.json: `format`, `config`, `versions`, `jax` and `history`."""

HistoryEntry: TypeAlias = dict[str, Any]
"""`{"generation": N, "versions": {...}, "numerics": {...}}`: what computed the generations from N on."""


class MetricsLine(NamedTuple):
    """A line of metrics.jsonl.

    Attributes:
        row: the generation's metrics.
        end: bytes from the beginning of the file to the end of this line.
    """

    row: Row
    end: int


# ---------------------------------------------------------------------------------------------------------
# config.json


def read_document(run_dir: Path) -> Document:
    """Reads config.json; of its contents only the format is checked, and that there is a configuration.

    Raises:
        RunError: no run directory, or the file is unreadable, damaged, foreign or of a newer format.
    """
    path = run_dir / CONFIG
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: {'this is a file' if run_dir.exists() else 'no such directory'}")
    if not path.is_file():
        raise RunError(
            f"{run_dir} is not a run directory: it has no {CONFIG} (`rl-discovery meta-train` makes one)"
        )
    try:
        document = untrusted.read_json(path, untrusted.CONFIG)
        if isinstance(document, dict) and type(version := document.get("format")) is int and version > FORMAT:
            raise RunError(f"{path} has format {version}, newer than {FORMAT}: install a newer rl-discovery")
        untrusted.check_version(document, FORMAT)
        if not isinstance(document.get("config"), dict):
            raise untrusted.RefusedError("holds no configuration")
    except (OSError, untrusted.RefusedError) as error:
        raise foreign_config(path, error) from None
    return document


def foreign_config(path: Path, error: Exception) -> RunError:
    """The error for a config.json that is not one of ours."""
    why = one_line(reason(error))
    return RunError(
        f"{path} is not a configuration of rl-discovery ({why}); restore it or choose another directory"
    )


def write_document(run_dir: Path, document: Mapping[str, Any]) -> None:
    """Replaces config.json atomically.

    Raises:
        CheckpointError: it cannot be written.
    """
    replace_file(run_dir / CONFIG, (json.dumps(document, indent=2) + "\n").encode())


def read_history(document: Document) -> list[HistoryEntry]:
    """The history in a config.json; older run directories know the newest versions alone.

    Raises:
        RefusedError: it is not a list of entries.
    """
    entries = document.get("history", [{"generation": 0, "versions": document.get("versions")}])
    if not (isinstance(entries, list) and all(map(_is_history_entry, entries))):
        raise untrusted.RefusedError("holds a history that is none")
    return entries


def _is_history_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and type(entry.get("generation")) is int


# ---------------------------------------------------------------------------------------------------------
# metrics.jsonl


def metrics_lines(run_dir: Path, limit: int | None = None) -> Iterator[MetricsLine]:
    """The lines of metrics.jsonl, in order; none where there is no file.

    A last line without a line break is left out: it is being written, or a crash cut it short.

    Args:
        run_dir: the run directory.
        limit: bytes of the file (default: `untrusted.METRICS`); more for callers that keep no rows.

    Raises:
        DamagedMetricsError: at the first line that is no generation's metrics; the lines before it have
            been yielded.
        RunError: the file cannot be read or is longer than `limit`.
    """
    path, count, end = run_dir / METRICS, 0, 0
    if not path.exists():
        return
    limit = untrusted.METRICS if limit is None else limit
    try:
        for line in untrusted.lines(path, untrusted.METRICS_LINE, limit):
            if not line.endswith(b"\n"):
                return
            row = untrusted.metrics_row(line)
            count, end = count + 1, end + len(line)
            yield MetricsLine(row, end)
    except untrusted.UnreadableError as error:
        raise RunError(f"{path} {error}") from None
    except untrusted.RefusedError as error:
        raise damaged_metrics(path, count + 1, f"it {error}") from None
    except OSError as error:
        raise RunError(f"cannot read {path}: {reason(error)}") from None


def damaged_metrics(path: Path, line: int, why: str) -> DamagedMetricsError:
    """The error for a line, counted from 1, of a metrics.jsonl."""
    return DamagedMetricsError(
        f"{path} is damaged in line {line}: {one_line(why)}; resume the run, which repairs it from the "
        "checkpoint, or restore the file"
    )


def read_metrics(run_dir: Path) -> list[Row]:
    """The metrics of all generations; raises as `metrics_lines`."""
    return [line.row for line in metrics_lines(run_dir)]


def intact_metrics(run_dir: Path) -> Iterator[MetricsLine]:
    """The lines of metrics.jsonl, however many, up to the first one that is damaged.

    Raises:
        RunError: the file cannot be read.
    """
    with contextlib.suppress(DamagedMetricsError):
        yield from metrics_lines(run_dir, sys.maxsize)


def append_metrics(run_dir: Path, row: Mapping[str, Any]) -> None:
    """Adds one generation to metrics.jsonl; on disk when this returns.

    Raises:
        RunError: it cannot be written.
    """
    path = run_dir / METRICS
    try:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from None


def truncate_metrics(run_dir: Path, generation: int) -> Row | None:
    """Cuts metrics.jsonl back to the generations before `generation`; returns the last of these.

    Raises:
        RunError: generations are missing that the checkpoint says were done, or the totals of the last
            one; or the file cannot be cut.
    """
    path, count, end, last = run_dir / METRICS, 0, 0, None
    for line in itertools.islice(intact_metrics(run_dir), generation):
        if line.row["generation"] != count:
            break
        count, end, last = count + 1, line.end, line.row
    if count < generation:
        raise RunError(
            f"{path} lacks generations before {generation}, where the checkpoint stands; "
            "restore the file or start a new --run-dir"
        )
    for name in TOTALS:
        if last is not None and not _is_total(last.get(name)):
            raise RunError(
                f"{path} has no {name} in generation {generation - 1}, where the checkpoint "
                "stands; restore the file or start a new --run-dir"
            )
    try:
        with path.open("ab") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from None
    return last


def _is_total(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"cannot write {path}: {error.strerror}; free space and run again")


# ---------------------------------------------------------------------------------------------------------
# The other files


def newest_checkpoint(run_dir: Path) -> int | None:
    """Generations that were done at the newest checkpoint; None before the first."""
    folder = run_dir / CHECKPOINTS
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isascii() and name.isdecimal()), default=None)


def read_gallery(run_dir: Path) -> bytes | None:
    """The bytes of gallery.png; None where there is none.

    Raises:
        RunError: unreadable, too large, or no PNG.
    """
    path = run_dir / GALLERY
    if not path.exists():
        return None
    picture = _read_bytes(path, untrusted.PICTURE)
    if not picture.startswith(PNG):
        raise RunError(f"{path} is damaged: it is no PNG; delete it, the run draws it at its next checkpoint")
    return picture


def objective_sha256(run_dir: Path) -> str | None:
    """SHA-256 of the objective's file, in hexadecimal; None where there is none.

    Raises:
        RunError: unreadable or too large.
    """
    path = run_dir / OBJECTIVE
    return hashlib.sha256(_read_bytes(path, untrusted.OBJECTIVE)).hexdigest() if path.exists() else None


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        return untrusted.read_bytes(path, limit)
    except OSError as error:
        raise RunError(f"cannot read {path}: {reason(error)}") from None
    except untrusted.RefusedError as error:
        raise RunError(f"{path} {error}") from None


# ---------------------------------------------------------------------------------------------------------
# The directory itself


def check_confined(run_dir: Path) -> None:
    """Refuses a directory through which a run would write somewhere else.

    Raises:
        RunError: a link leads out of it, or it cannot be listed.
    """
    try:
        untrusted.check_confined(run_dir, besides=(WANDB,))
    except untrusted.RefusedError as error:
        raise RunError(f"{run_dir} {error}") from None
    except OSError as error:
        raise RunError(f"cannot read {run_dir}: {reason(error)}") from None


def remove_leftovers(run_dir: Path) -> None:
    """Deletes what a killed process was writing; only for whoever holds the lock."""
    for name in REPLACED:
        for leftover in run_dir.glob(f".{name}.*"):
            leftover.unlink(missing_ok=True)

"""A run directory on disk (section 6.2 of the design): configuration, lock, metrics.

Everything here survives `kill -9`: the configuration is replaced atomically, metrics are appended
whole lines at a time and cut back to the checkpoint on resume, and the lock dies with its process.
"""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rl_discovery.checkpoints import numerics, untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import one_line, reason
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.meta.config import RunConfig, from_json, identity, to_json
from rl_discovery.meta.errors import ConfigError, RunError
from rl_discovery.meta.fields import differences
from rl_discovery.meta.runs import history
from rl_discovery.meta.runs.files import FORMAT, foreign, read_document, read_lines, read_metrics

TOTALS = ("env_steps", "wall_s")
"""Metrics that a resumed run goes on counting."""

WANDB = "wandb"
"""Folder of Weights & Biases, which links its logs to a cache; nothing of ours is in it."""

WANDB_ID = "wandb-id.txt"
"""The id by which Weights & Biases knows the run: random, because a path may come to hold another run."""

OBJECTIVE = "objective.safetensors"
"""The objective as of the newest checkpoint."""

LAST_OBJECTIVE = "objective_last.safetensors"
"""The last mean as of the newest checkpoint, where `OBJECTIVE` is the average of the means."""

BEST_OBJECTIVE = "objective_best.safetensors"
"""The objective with the highest held-out fitness so far."""


class RunDirectory:
    """An open run directory, locked for this process until `close`.

    Args:
        path: the directory; made if absent.
        config: the configuration to run; must be the one that the directory was started with in all
            that decides results.

    Attributes:
        notes: what a user should know of how the run differs from what it was.

    Raises:
        RunError: not writable, in use by a live process, damaged, of a newer format, or with a link
            that leads out of it.
        ConfigError: of another configuration, or begun with other switches of JAX.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self._config = config
        self._history: list[history.Entry] = [{"generation": 0, **history.present()}]
        self.notes: list[str] = []
        self.metrics_path = path / "metrics.jsonl"
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{path} is in use by a live process; wait for it or choose another --run-dir"
            ) from None
        except OSError as error:
            raise RunError(f"cannot write to {path}: {error.strerror}; choose another --run-dir") from None
        try:
            self._check_confined()
            self._remove_leftovers()
            self._check_config()
            self._write_config()
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def rows(self) -> Iterator[dict[str, Any]]:
        """The metrics of all generations, one after the other."""
        return read_metrics(self.metrics_path)

    def resume_metrics(self, generation: int) -> dict[str, Any] | None:
        """Cuts metrics.jsonl back to the generations before `generation`; returns the last of these.

        Raises:
            RunError: generations are missing that the checkpoint says were done, or the totals of the
                last one; or it cannot be cut.
        """
        count, size, last = 0, 0, None
        for line, row in itertools.islice(read_lines(self.metrics_path), generation):
            if row["generation"] != count:
                break
            count, size, last = count + 1, size + len(line), row
        if count < generation:
            raise RunError(
                f"{self.metrics_path} lacks generations before {generation}, where the checkpoint stands; "
                "restore the file or start a new --run-dir"
            )
        for name in TOTALS:
            if last is not None and not _is_total(last.get(name)):
                raise RunError(
                    f"{self.metrics_path} has no {name} in generation {generation - 1}, where the checkpoint "
                    "stands; restore the file or start a new --run-dir"
                )
        try:
            with self.metrics_path.open("ab") as file:
                file.truncate(size)
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None
        return last

    def record_history(self, generation: int) -> list[str]:
        """Keeps what computes the run from `generation` on; returns how that differs from before, in words.

        Raises:
            CheckpointError: it cannot be written.
        """
        found = history.extended(self._history, generation, history.present())
        if found == self._history:
            return []
        self._history = found
        self._write_config()
        return list(map(one_line, history.changes(found)))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Adds one generation; on disk when this returns."""
        try:
            with self.metrics_path.open("a") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(f"cannot write {self.metrics_path}: {error.strerror}; free space and run again")

    def _check_confined(self) -> None:
        """Refuses a directory through which a run would write somewhere else."""
        try:
            untrusted.check_confined(self.path, besides=(WANDB,))
        except untrusted.RefusedError as error:
            raise RunError(f"{self.path} {error}") from None
        except OSError as error:
            raise RunError(f"cannot read {self.path}: {reason(error)}") from None

    def _remove_leftovers(self) -> None:
        """What a killed process was writing; nobody else writes while we hold the lock."""
        for name in (
            *("config.json", "metrics.jsonl", "gallery.png", WANDB_ID),
            *(OBJECTIVE, LAST_OBJECTIVE, BEST_OBJECTIVE),
        ):
            for leftover in self.path.glob(f".{name}.*"):
                leftover.unlink(missing_ok=True)

    def _check_config(self) -> None:
        path = self.path / "config.json"
        if path.exists():
            document = read_document(path)
            before = _config_of(document, path)
            _refuse_changes(before, self._config, self.path)
            self.notes = _new_schedule(before, self._config)
            try:
                _refuse_switches(document.get("jax", {}), self.path)
                self._history = history.read(document)
            except untrusted.RefusedError as error:
                raise foreign(path, error) from None
        elif self.metrics_path.exists():
            raise RunError(
                f"{self.path} has metrics of something else (no config.json); choose another --run-dir"
            )

    def _write_config(self) -> None:
        document = {
            "format": FORMAT,
            "config": to_json(self._config),
            "versions": versions(),
            "jax": numerics.identity(),
            "history": self._history,
        }
        replace_file(self.path / "config.json", (json.dumps(document, indent=2) + "\n").encode())


def read_config(path: Path) -> RunConfig:
    """The configuration in a run directory's config.json.

    Raises:
        RunError: unreadable, damaged, foreign, or of a newer format.
    """
    return _config_of(read_document(path), path)


def _config_of(document: dict[str, Any], path: Path) -> RunConfig:
    try:
        return from_json(document["config"])
    except ValueError as error:
        raise foreign(path, error) from None


def _is_total(value: Any) -> bool:
    return type(value) in (int, float) and value >= 0


def _refuse_changes(old: RunConfig, new: RunConfig, path: Path) -> None:
    if differ := differences(identity(old), identity(new)):
        raise ConfigError(
            f"{path} holds a run of another configuration ({'; '.join(differ)}); choose another --run-dir"
        )


def _new_schedule(old: RunConfig, new: RunConfig) -> list[str]:
    """What it means that a run is to have other generations than it had, where its step size depends on
    that.
    """
    schedule = new.es.learning_rate_schedule
    if new.trainer != "es" or schedule == "exponential" or old.generations == new.generations:
        return []
    return [
        f"{new.generations} generations in place of {old.generations}: from here on its learning rate is "
        f"that of a {schedule} schedule over as many, and rises where it had fallen further"
    ]


def _refuse_switches(old: Any, path: Path) -> None:
    """Switches of JAX that one of the two does not know were not thought of when the run began."""
    if not isinstance(old, dict):
        raise untrusted.RefusedError("holds switches of JAX that are none")
    new = numerics.identity()
    changed = [name for name in new if name in old and old[name] != new[name]]
    if changed:
        words = "; ".join(f"{name} was {one_line(str(old[name]))}, now {new[name]}" for name in changed)
        raise ConfigError(
            f"{path} holds a run that began with other switches of JAX ({words}); set "
            f"{' and '.join(map(str.upper, changed))} back or choose another --run-dir"
        )

"""The run directory that a process runs in: locked, and checked to hold no other run.

Everything here survives `kill -9`: the configuration is replaced atomically, metrics are appended
whole lines at a time and cut back to the checkpoint on resume, and the lock dies with its process.
`checkpoints.run_directory` has the formats.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rl_discovery.checkpoints import numerics, run_directory, untrusted
from rl_discovery.checkpoints.errors import one_line
from rl_discovery.checkpoints.fields import differences
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.run_directory import CONFIG, LOCK, METRICS, Document, HistoryEntry, Row
from rl_discovery.meta.config import RunConfig, from_json, identity, to_json
from rl_discovery.meta.errors import ConfigError, RunError, other_configuration
from rl_discovery.meta.runs import history


class RunDirectory:
    """An open run directory, locked for this process until `close`.

    Args:
        path: the directory; made if absent.
        config: the configuration to run; must be the one that the directory was started with in all
            that decides results.

    Attributes:
        notes: lines for the user about how the run differs from before.

    Raises:
        RunError: not writable, in use by a live process, damaged, of a newer format, or with a link
            that leads out of it.
        ConfigError: of another configuration, or begun with other switches of JAX.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self._config = config
        self._history: list[HistoryEntry] = [{"generation": 0, **history.present()}]
        self.notes: list[str] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / LOCK)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{path} is in use by a live process; wait for it or choose another --run-dir"
            ) from None
        except OSError as error:
            raise RunError(f"cannot write to {path}: {error.strerror}; choose another --run-dir") from None
        try:
            run_directory.check_confined(path)
            run_directory.remove_leftovers(path)
            self._check_config()
            self._write_config()
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def rows(self) -> Iterator[Row]:
        """The metrics of all generations, in order."""
        return (line.row for line in run_directory.intact_metrics(self.path))

    def resume_metrics(self, generation: int) -> Row | None:
        """Cuts metrics.jsonl back to the generations before `generation`; returns the last of these.

        Raises:
            RunError: see `run_directory.truncate_metrics`.
        """
        return run_directory.truncate_metrics(self.path, generation)

    def append_metrics(self, row: Row) -> None:
        """Adds one generation to metrics.jsonl; on disk when this returns."""
        run_directory.append_metrics(self.path, row)

    def record_history(self, generation: int) -> list[str]:
        """Keeps what computes the run from `generation` on; returns how that differs from before, in words.

        Raises:
            CheckpointError: it cannot be written.
        """
        entries = history.extended(self._history, generation, history.present())
        if entries == self._history:
            return []
        self._history = entries
        self._write_config()
        return list(map(one_line, history.changes(entries)))

    def _check_config(self) -> None:
        if (self.path / CONFIG).exists():
            document = run_directory.read_document(self.path)
            before = _config_of(document, self.path)
            _refuse_changes(before, self._config, self.path)
            self.notes = _new_schedule(before, self._config)
            try:
                _refuse_switches(document.get("jax", {}), self.path)
                self._history = run_directory.read_history(document)
            except untrusted.RefusedError as error:
                raise run_directory.foreign_config(self.path / CONFIG, error) from None
        elif (self.path / METRICS).exists():
            raise RunError(
                f"{self.path} has metrics of something else (no {CONFIG}); choose another --run-dir"
            )

    def _write_config(self) -> None:
        document = {
            "format": run_directory.FORMAT,
            "config": to_json(self._config),
            "versions": versions(),
            "jax": numerics.identity(),
            "history": self._history,
        }
        run_directory.write_document(self.path, document)


def read_config(run_dir: Path) -> RunConfig:
    """The configuration of the run in a directory.

    Raises:
        RunError: no run directory, or its config.json is unreadable, damaged, foreign or of a newer format.
    """
    return _config_of(run_directory.read_document(run_dir), run_dir)


def _config_of(document: Document, run_dir: Path) -> RunConfig:
    try:
        return from_json(document["config"])
    except ValueError as error:
        raise run_directory.foreign_config(run_dir / CONFIG, error) from None


def _refuse_changes(old: RunConfig, new: RunConfig, path: Path) -> None:
    if differ := differences(identity(old), identity(new)):
        raise ConfigError(other_configuration(path, differ))


def _new_schedule(old: RunConfig, new: RunConfig) -> list[str]:
    """A line that says what another number of generations means, where the step size depends on it."""
    schedule = new.es.learning_rate_schedule
    if new.trainer != "es" or schedule == "exponential" or old.generations == new.generations:
        return []
    return [
        f"{new.generations} generations in place of {old.generations}: from here on its learning rate "
        f"follows a {schedule} schedule over all of them, and rises where it had fallen further"
    ]


def _refuse_switches(old: Any, path: Path) -> None:
    """Refuses a run that began with other switches of JAX; those that one side does not know are ignored."""
    if not isinstance(old, dict):
        raise untrusted.RefusedError("holds switches of JAX that are not a table")
    new = numerics.identity()
    changed = [name for name in new if name in old and old[name] != new[name]]
    if changed:
        words = "; ".join(f"{name} was {one_line(str(old[name]))}, now {new[name]}" for name in changed)
        raise ConfigError(
            f"{path} holds a run that began with other switches of JAX ({words}); set "
            f"{' and '.join(map(str.upper, changed))} back or choose another --run-dir"
        )

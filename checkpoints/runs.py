"""Checkpoints of a run with Orbax: written in the background, atomic, verified when written and when read.

A step holds the state's arrays and a JSON record with a SHA-256 over them, because Orbax restores
some damage without a word; `restore` falls back to the newest step that is intact. `meta.runs.saver`
is the caller. Importing this module imports Orbax, which is slow: `import rl_discovery.checkpoints` does not.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import logging
import math
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy
from orbax.checkpoint.options import MultiprocessingOptions

from rl_discovery.checkpoints import arrays, untrusted
from rl_discovery.checkpoints.errors import RunCheckpointError, errno_of, reason
from rl_discovery.checkpoints.plain_paths import PlainPath

FORMAT = 1
"""Version of the record beside the arrays; a higher one is refused."""

INDEXES = (
    *("_CHECKPOINT_METADATA", "_METADATA", "_sharding"),
    *("metadata", "manifest.ocdbt", "commit_success.txt"),
)
"""Files of a step that Orbax reads as a whole."""

PRUNED = "pruned"
"""Folder that steps are moved to, in one rename, before their files are deleted."""

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
"""Errors of the operating system where a step is not whole; all others are about the machine."""


class _DamagedError(Exception):
    """A step cannot be read back as it was written."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read back.

    Attributes:
        generation: of the checkpoint.
        state: the pytree that was saved, on one device (or in numpy where JAX lacks the dtype).
        facts: what was saved beside it.
        damaged: newer steps that were skipped; they are now folders named "damaged-STEP".
    """

    generation: int
    state: Any
    facts: dict[str, Any]
    damaged: tuple[int, ...] = ()


@dataclasses.dataclass
class _KeepBest(PreservationPolicy):
    """Preserves one step, whatever its age; the caller knows which."""

    step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Whether each of them is that step."""
        del context
        return [checkpoint.step == self.step for checkpoint in checkpoints]


class RunCheckpoints:
    """The checkpoints of one run: the newest `keep` of them, and the best one where `save` names it.

    A checkpoint that must go is first moved out of sight in one rename: no part of one is ever taken for a
    whole, however the process dies.

    Args:
        directory: where they are; made if absent.
        keep: how many of the newest stay. With 1 there is nothing to fall back to if it is damaged.

    Raises:
        RunCheckpointError: the directory cannot be made or read, or is not where it seems to be.
    """

    def __init__(self, directory: Path, keep: int = 3) -> None:
        self.directory = Path(directory).absolute()
        self._saving: int | None = None
        self._record: dict[str, Any] = {}  # of the step that is being saved
        self._best = _KeepBest()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep), self._best]),
            cleanup_tmp_directories=True,  # what a killed process left behind
            create=False,
            # One of several processes has the checkpoints, and Orbax must not wait for the others.
            multiprocessing_options=MultiprocessingOptions(active_processes={0}),
            todelete_subdir=PRUNED,
        )
        try:
            if self.directory.is_symlink():
                raise RunCheckpointError(f"{self.directory} is a link: put the folder itself there")
            self.directory.mkdir(parents=True, exist_ok=True)
            self._plain = PlainPath(self.directory)
            self._manager = ocp.CheckpointManager(self._plain.path, options=options)
        except (OSError, ValueError) as error:  # ValueError: folders whose names look like steps and are none
            raise RunCheckpointError(
                f"cannot use {self.directory} for checkpoints: {reason(error)}"
            ) from None
        self._delete_pruned()  # a killed process may have left some

    def latest(self) -> int | None:
        """The newest generation that is saved or being saved."""
        return self._manager.latest_step()

    def save(self, generation: int, state: Any, facts: Mapping[str, Any], *, best: int | None = None) -> None:
        """Starts to write a checkpoint; returns once the state has been copied.

        Args:
            generation: newer than `latest()`.
            state: pytree of arrays; typed keys and empty arrays too. An array that several
                processes share must be replicated.
            facts: small and JSON-serialisable.
            best: generation of the checkpoint that stays though it may not be among the newest; may be this
                one. None: only the newest stay.

        Raises:
            RunCheckpointError: this checkpoint cannot be started, or the one before it failed.
            ValueError: not newer than the newest one there is.
        """
        self.wait()
        latest = self.latest()
        if latest is not None and generation <= latest:  # Orbax would do nothing and say nothing
            raise ValueError(f"generation {generation} is not newer than the latest checkpoint, {latest}")
        values = arrays.to_arrays(state)
        self._record = _record(facts, arrays.layout_of(state), values)
        self._saving, self._best.step = generation, best
        try:
            self._manager.save(
                generation,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays.storable(values)),
                    record=ocp.args.JsonSave(self._record | {"seal": seal(self._record)}),
                ),
            )
        except Exception as error:  # Orbax and tensorstore raise errors of every kind
            raise self._failed(error) from error

    def wait(self) -> None:
        """Waits until what was saved is on disk, and reads it back as a restore would.

        Raises:
            RunCheckpointError: it is not there, and why; the earlier checkpoints are.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:  # as in `save`
            raise self._failed(error) from error
        if self._saving is not None:
            self._check_saved(self._saving)
        self._delete_pruned()

    def poll(self) -> None:
        """`wait` for a save that is over; returns at once where one goes on."""
        if self._saving is not None and not self._manager.is_saving_in_progress():
            self.wait()

    def close(self) -> None:
        """Waits for the last save and releases threads and files.

        Raises:
            RunCheckpointError: the last save failed.
        """
        try:
            self.wait()
        finally:
            self._manager.close()
            self._plain.close()

    def restore(self, like: Any) -> Restored | None:
        """The newest intact checkpoint.

        Damaged ones that are newer are moved aside, so that the run can save these steps again.

        Args:
            like: a pytree with the structure, shapes and dtypes of the state: arrays or
                `jax.ShapeDtypeStruct`.

        Returns:
            The checkpoint, or None if the run has none yet.

        Raises:
            RunCheckpointError: all are damaged, or the newest intact one is of a newer format or
                has another structure than `like`. Nothing is moved then.
        """
        _mute_orphaned_reads()
        damaged: list[int] = []
        for step in self._steps():
            try:
                restored = self._restore_step(step, like)
            except _DamagedError:
                damaged.append(step)
                continue
            for bad in damaged:
                self._move_aside(bad)
            return dataclasses.replace(restored, damaged=tuple(damaged))
        if damaged:
            raise RunCheckpointError(
                f"every checkpoint in {self.directory} is damaged ({', '.join(map(str, damaged))}); "
                "restore one from a backup or start a new run directory"
            )
        return None

    def _steps(self) -> list[int]:
        """Steps on disk, newest first, also those that Orbax no longer takes for checkpoints."""
        steps = (int(path.name) for path in self.directory.iterdir() if _is_step(path.name))
        return sorted(steps, reverse=True)

    def _restore_step(self, step: int, like: Any) -> Restored:
        self._check_files(self.directory / str(step))
        record = self._read_record(step)
        if record["format"] > FORMAT:
            raise RunCheckpointError(
                f"{self.directory / str(step)} has format {record['format']}, newer than {FORMAT}: "
                "install a newer rl-discovery"
            )
        layout = arrays.layout_of(like)
        if record["layout"] != layout:
            raise RunCheckpointError(
                f"{self.directory / str(step)} holds another state than this run's "
                f"({arrays.difference(record['layout'], layout)}): another configuration or version saved it"
            )
        state = arrays.from_arrays(self._verified_arrays(step, record), like)
        return Restored(step, state, record["facts"])

    def _check_saved(self, step: int) -> None:
        """Raises where the step that was just written cannot be restored; it is moved aside then."""
        self._saving = None
        try:
            if self._read_record(step) != self._record:
                raise _DamagedError
            self._verified_arrays(step, self._record)
        except _DamagedError as error:
            self._move_aside(step)
            why = f" ({reason(error.__cause__)})" if error.__cause__ else ""
            raise RunCheckpointError(
                f"checkpoint {step} in {self.directory} cannot be read back{why} and is now damaged-{step}; "
                "earlier checkpoints are intact: look after the disk and run again"
            ) from None

    def _read_record(self, step: int) -> dict[str, Any]:
        with self._reading(step):
            args = ocp.args.Composite(record=ocp.args.JsonRestore())
            record = self._manager.restore(step, args=args)["record"]
        if not isinstance(record, dict) or record.pop("seal", None) != seal(record):
            raise _DamagedError
        if not _is_record(record):
            raise _DamagedError
        return record

    def _check_files(self, folder: Path) -> None:
        """Refuses a step with links or devices in it, before anything of it is read."""
        try:
            untrusted.check_plain(folder, INDEXES, untrusted.STEP_JSON)
        except untrusted.RefusedError as error:
            raise RunCheckpointError(f"{folder} {error}") from None
        except NotADirectoryError as error:
            raise _DamagedError from error
        except OSError as error:
            raise RunCheckpointError(f"cannot read {folder}: {reason(error)}") from None

    def _check_shapes(self, step: int, layout: arrays.Layout) -> None:
        """Compares what the files would be read as with the layout, because Orbax believes the files."""
        folder = self._plain.path / str(step) / "state"
        with self._reading(step):
            metadata = ocp.StandardCheckpointHandler().metadata(folder)
            for name, dtype, shape in layout:
                if 0 in shape:
                    continue
                array = metadata[name]
                if (str(array.dtype), list(array.shape)) != (dtype, shape):
                    raise _DamagedError
                if math.prod(array.storage.chunk_shape) > math.prod(shape):  # a chunk is read as a whole
                    raise _DamagedError

    def _verified_arrays(self, step: int, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self._check_shapes(step, record["layout"])
        values = self._read_arrays(step, record["layout"])
        if arrays.digest(values) != record["sha256"]:
            raise _DamagedError
        return values

    def _read_arrays(self, step: int, layout: arrays.Layout) -> dict[str, np.ndarray]:
        targets = {name: np.empty(shape, jnp.dtype(dtype)) for name, dtype, shape in layout}
        args = ocp.args.Composite(state=ocp.args.StandardRestore(arrays.storable(targets)))
        with self._reading(step):
            return targets | self._manager.restore(step, args=args)["state"]

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turns errors inside into damage of the step, but those of the machine into RunCheckpointError."""
        try:
            yield
        except (MemoryError, _DamagedError):
            raise
        except Exception as error:  # as in `save`
            if errno_of(error) not in (None, *ABSENT):
                raise RunCheckpointError(
                    f"cannot read {self.directory / str(step)}: {reason(error)}; if that stays so, move the "
                    "folder away to go on from the checkpoint before it"
                ) from None
            raise _DamagedError from error

    def _delete_pruned(self) -> None:
        """Deletes what is out of sight already; what cannot be deleted now is tried again later."""
        shutil.rmtree(self.directory / PRUNED, ignore_errors=True)

    def _move_aside(self, step: int) -> None:
        """Keeps a damaged step for a person to look at, where Orbax does not see it."""
        target = self.directory / f"damaged-{step}"
        try:
            shutil.rmtree(target, ignore_errors=True)
            (self.directory / str(step)).rename(target)
        except OSError as error:
            raise RunCheckpointError(
                f"cannot move damaged checkpoint {step} to {target}: {reason(error)}"
            ) from None
        self._manager.reload()

    def _failed(self, error: Exception) -> RunCheckpointError:
        """Deletes what a failed save left behind; returns the error to raise."""
        step, self._saving = self._saving, None
        for leftover in self.directory.glob(f"{step}.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._manager.reload()  # Orbax has already struck off the steps that this save was to replace
        return RunCheckpointError(
            f"cannot write checkpoint {step} to {self.directory}: {reason(error)}; "
            "earlier checkpoints are intact: free space and run again"
        )


def _record(
    facts: Mapping[str, Any], layout: arrays.Layout, values: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    content = {"format": FORMAT, "facts": dict(facts), "layout": layout, "sha256": arrays.digest(values)}
    return dict(json.loads(json.dumps(content)))  # as it will be read back, so that the seal is of the same


def _is_step(name: str) -> bool:
    """Whether a name is that of a step: "12", neither "012" nor digits of other scripts."""
    return name.isascii() and name.isdecimal() and name == str(int(name))


def _is_record(record: Mapping[str, Any]) -> bool:
    """Whether a sealed record has every field that is read, in the right types."""
    if type(record.get("format")) is not int or record["format"] < 1:
        return False
    if record["format"] > FORMAT:
        return True  # what is in it may have changed by then
    layout = record.get("layout")
    rows = isinstance(layout, list) and all(isinstance(row, list) and len(row) == 3 for row in layout)
    return rows and isinstance(record.get("facts"), dict)


def seal(content: Mapping[str, Any]) -> str:
    """The hash that shows whether a record was changed."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@functools.cache
def _mute_orphaned_reads() -> None:
    """Drops what Python would print for each array that was still being read when a restore failed.

    These reads report to an event loop that Orbax has closed by then.
    """
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            previous(unraisable)

    sys.unraisablehook = hook


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "/orbax/" not in record.pathname.replace("\\", "/")


# Orbax logs every step of a save, and a traceback for what we report as one line.
logging.getLogger("absl").addFilter(_not_from_orbax)

"""Several processes that make one run, through `jax.distributed`: leading, agreeing, missing one.

Every process runs the same host loop and the same programs over the devices of all. Process 0 leads: it alone
reads and writes the run directory and talks. The others get from it what it read, and all of them act on what
they agreed upon, so that none waits for a program that another does not run. With one process nothing here
costs anything. `meta.runs.joining` comes before; called by the command and by `meta.runs.loop`.
"""

import dataclasses
import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from rl_discovery.checkpoints import arrays, numerics
from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.checkpoints.runs import Restored, RunCheckpoints
from rl_discovery.discovery.sharding import replicated
from rl_discovery.meta.config import RunConfig, to_json
from rl_discovery.meta.errors import ConfigError, DivergedError, LeaderError, RunError
from rl_discovery.meta.runs.joining import HEARTBEAT_SECONDS

logger = logging.getLogger("rl_discovery")

T = TypeVar("T")

ORDERLY = (ConfigError, RunError, LeaderError, DivergedError, CheckpointError)
"""What ends every one of several processes at the same point."""

LOOK_SECONDS = 1.0
"""How often each process looks whether all are there."""

LEAVE_SECONDS = 3.0
"""What process 0, who keeps the others' connection, gives them to leave first."""

LEADERS = ("checkpoint", "logging")
"""Parts of a configuration that only process 0 acts on: elsewhere they may differ."""

LOST = 1
"""Exit status of those that miss another."""


def leads() -> bool:
    """Whether this process reads, writes and talks."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether there are others."""
    return jax.process_count() > 1


def agree(values: Mapping[str, float]) -> dict[str, np.ndarray]:
    """What every process says, by name: one float32 per process, in their order. All must call it."""
    mine = np.array(list(values.values()), np.float32)
    everyone = multihost_utils.process_allgather(mine) if several() else mine[None]
    return dict(zip(values, np.asarray(everyone).T, strict=True))


def lead(action: Callable[[], T]) -> T | None:
    """What process 0 does for all: its result there, None elsewhere. All must call it.

    Raises:
        Exception: what `action` raised, on process 0.
        LeaderError: that it did, on the others.
    """
    result, failure = None, None
    if leads():
        try:
            result = action()
        except Exception as error:
            if not several():
                raise
            failure = error
            if not isinstance(error, ORDERLY):  # or it would end process 0 before the others have heard of it
                logger.exception("process 0 failed in what it does for all")
                failure = RunError(f"{type(error).__name__}: {error}")
    if several() and agree({"failed": failure is not None})["failed"].any():
        raise failure or LeaderError("process 0 could not go on; its message says why")
    return result


def check_same(config: RunConfig) -> None:
    """That all processes were started for the same run.

    Raises:
        ConfigError: they were not.
    """
    document = {name: value for name, value in to_json(config).items() if name not in LEADERS}
    document["jax"] = numerics.identity()
    found = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    # What float32 holds exactly.
    said = agree({"configuration": int.from_bytes(found[:3], "big")})["configuration"]
    if (said != said[0]).any():
        other = int(np.flatnonzero(said != said[0])[0])
        raise ConfigError(
            f"process {other} was started with another configuration or other switches of JAX than process 0"
        )


def restore(checkpoints: RunCheckpoints | None, like: Any) -> Restored | None:
    """`RunCheckpoints.restore` of process 0, the state on all.

    Args:
        checkpoints: on process 0.
        like: the state's structure, shapes and dtypes.
    """
    found = lead(lambda: checkpoints.restore(like) if checkpoints else None)
    if not several():
        return found
    generation = int(agree({"generation": found.generation if found else -1})["generation"][0])
    if generation < 0:
        return None
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, dtype, shape in arrays.layout_of(like)
    }
    values = from_leader(arrays.to_arrays(found.state) if found else None, shapes)
    state = arrays.from_arrays(values, like)
    return dataclasses.replace(found, state=state) if found else Restored(generation, state, {})


def from_leader(values: Mapping[str, np.ndarray] | None, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Process 0's arrays, on every process, to the last bit.

    Args:
        values: on process 0, with the names, shapes and dtypes of `like`.
        like: arrays or `jax.ShapeDtypeStruct`.
    """
    dtypes = {name: np.dtype(leaf.dtype) for name, leaf in like.items()}
    sizes = [dtypes[name].itemsize * int(np.prod(leaf.shape)) for name, leaf in like.items()]
    # As bytes: sums of floats, which is how JAX sends them, turn -0 into 0.
    sent = np.zeros(sum(sizes), np.uint8)
    if values is not None:
        sent = np.concatenate([np.frombuffer(values[name].tobytes(), np.uint8) for name in like])
    received = np.asarray(multihost_utils.broadcast_one_to_all(sent))
    parts = np.split(received, np.cumsum(sizes)[:-1])
    return {
        name: np.frombuffer(part.tobytes(), dtypes[name]).reshape(leaf.shape)
        for (name, leaf), part in zip(like.items(), parts, strict=True)
    }


def gathered(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """The same with every array whole on every device, where processes share them."""
    if not several() or all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.jit(_same, out_shardings=replicated(mesh))(tree)


def _same(tree: Any) -> Any:
    """A function of the module, so that it is compiled once."""
    return tree


class Watch:
    """Ends this process with one line when another is missed; nothing with one process.

    A process that waits for the devices of a lost one would wait for ever, so a thread of its own looks.

    Args:
        tell: says the line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._looks = 0
        self._last_look: int | None = None
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch-processes", daemon=True)
        if several():
            self._thread.start()

    def leave(self) -> None:
        """Waits for all, then lets them go: the last call of every process of a run that ended in order."""
        if not several():
            return
        # A look ends when every process looks, so all must take the same last one; none is two ahead.
        self._last_look = int(agree({"looks": self._looks + 2})["looks"].max())
        self._hurry.set()
        self._thread.join()
        multihost_utils.sync_global_devices("nobody looks")
        if leads():
            time.sleep(LEAVE_SECONDS)

    def give_up(self, error: Exception) -> NoReturn:
        """After a connection broke: lets the thread say who is lost, and ends the process."""
        time.sleep(HEARTBEAT_SECONDS + 3 * LOOK_SECONDS)
        reason = str(error).partition("\n")[0]
        self._end(f"error: the processes of this run lost each other ({reason}); start all of them again")

    def _look(self) -> None:
        everyone = set(range(jax.process_count()))
        while self._last_look is None or self._looks < self._last_look:
            self._hurry.wait(LOOK_SECONDS)
            try:
                with multihost_utils.live_devices(jax.devices()) as devices:
                    lost = everyone - {device.process_index for device in devices}
            except multihost_utils.ProcessFailureError as failure:
                lost = {device.process_index for device in failure.failed_devices}
            except jax.errors.JaxRuntimeError:  # process 0 keeps the list
                lost = {0}
            if lost:
                self._end(lost_message(lost))
            self._looks += 1

    def _end(self, line: str) -> NoReturn:
        """At once: what waits for the lost one cannot be ended in order."""
        self._tell(line)
        sys.stderr.flush()
        if leads():  # or the others would miss process 0 before they heard of the lost one
            time.sleep(LEAVE_SECONDS)
        os._exit(LOST)


def is_broken_connection(error: Exception) -> bool:
    """Whether a computation failed because another process is gone, which JAX has no class for."""
    return any(sign in str(error) for sign in ("Gloo", "NCCL", "UNAVAILABLE", "coordination service"))


def lost_message(lost: set[int]) -> str:
    """The line for those that are left."""
    names = " and ".join(map(str, sorted(lost)))
    return (
        f"error: lost process {names} of {jax.process_count()}: it died, or {HEARTBEAT_SECONDS} s passed "
        "without a sign of it; start all processes again, and the run goes on from its last checkpoint"
    )

"""Several processes for one run, through `jax.distributed`: they join, lead, agree, and notice a lost one.

Every process runs the same host loop and the same programs over the devices of all. Process 0 leads: it alone
reads and writes the run directory and prints. The others get from it what it read, and all of them act on
what they agreed upon, so that none waits for a program that another does not run. With one process nothing
here costs anything. `rl-discovery meta-train` calls `join` before anything asks JAX for devices; so this
module imports packages that ask for them (Orbax, gymnax) only inside the functions that need them.
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
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from rl_discovery.checkpoints import arrays, numerics
from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.discovery.sharding import replicated
from rl_discovery.meta.errors import ConfigError, DivergedError, LeaderError, RunError

if TYPE_CHECKING:
    from rl_discovery.checkpoints.runs import Restored, RunCheckpoints
    from rl_discovery.meta.config import RunConfig

logger = logging.getLogger("rl_discovery")

T = TypeVar("T")

ORDERLY = (ConfigError, RunError, LeaderError, DivergedError, CheckpointError)
"""Errors that end every one of several processes at the same point."""

CHECK_SECONDS = 1.0
"""Seconds between two checks, in each process, that all are alive."""

HEARTBEAT_SECONDS = 10
"""Seconds of silence after which a process counts as lost."""

JOIN_SECONDS = 300
"""Seconds that the processes wait for each other at the start."""

STEP_TASKS = {"SLURM_STEP_NUM_TASKS": "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK"}
"""Variables of the launchers that JAX knows: number of processes, and rank; not set outside of `srun`."""

LEAVE_SECONDS = 3.0
"""Seconds that process 0, which holds the connections, gives the others to leave first."""

LEADERS = ("checkpoint", "logging")
"""Parts of a configuration that only process 0 acts on: elsewhere they may differ."""

LOST = 1
"""Exit status of a process that has lost another one."""


def join(coordinator: str | None, process_id: int | None, num_processes: int | None) -> bool:
    """Joins the other processes of a run, if there are any; call it before anything asks JAX for devices.

    Arguments that are None are taken from `JAX_COORDINATOR_ADDRESS`, `JAX_PROCESS_ID` and
    `JAX_NUM_PROCESSES`, or detected where `srun` or `mpirun` started several tasks.

    Args:
        coordinator: HOST:PORT of process 0.
        process_id: of this process, from 0.
        num_processes: in all.

    Returns:
        Whether there are several.

    Raises:
        ConfigError: incomplete or impossible settings, or the processes did not meet.
    """
    address = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    number = _whole_number("JAX_PROCESS_ID") if process_id is None else process_id
    count = _whole_number("JAX_NUM_PROCESSES") if num_processes is None else num_processes
    given = {"--coordinator": address, "--process-id": number, "--num-processes": count}
    known = [name for name, value in given.items() if value is not None]
    if not known and not _launched_as_several():
        return False
    if known and len(known) < len(given):
        missing = " and ".join(name for name in given if name not in known)
        raise ConfigError(
            f"{' and '.join(known)} without {missing}: a run of several processes needs all three"
        )
    if address is not None and number is not None and count is not None:
        _check_settings(address, number, count)
        if count == 1:
            return False
    # We handle stop signals and lost processes ourselves; JAX would abort.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            address,
            count,
            number,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"the processes of this run could not meet at {address}: {reason}") from None
    return True


def _whole_number(name: str) -> int | None:
    value = os.environ.get(name)
    if value is None:
        return None
    if not value.isdecimal():
        raise ConfigError(f"{name} must be a whole number, not {value!r}")
    return int(value)


def _launched_as_several() -> bool:
    return any(
        os.environ.get(tasks, "1").isdecimal() and int(os.environ.get(tasks, "1")) > 1 and rank in os.environ
        for tasks, rank in STEP_TASKS.items()
    )


def _check_settings(address: str, number: int, count: int) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"--coordinator must be HOST:PORT, not {address!r}")
    if count < 1 or not 0 <= number < count:
        raise ConfigError(f"--process-id must be from 0 to --num-processes - 1, not {number} of {count}")


def leads() -> bool:
    """Whether this is process 0, which reads, writes and prints."""
    return jax.process_index() == 0


def several() -> bool:
    """Whether the run has several processes."""
    return jax.process_count() > 1


def agree(values: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Exchanges numbers between all processes, each of which must call it.

    Args:
        values: of this process, by name.

    Returns:
        The values of all processes by name, float32 in the order of the processes.
    """
    mine = np.array(list(values.values()), np.float32)
    everyone = multihost_utils.process_allgather(mine) if several() else mine[None]
    return dict(zip(values, np.asarray(everyone).T, strict=True))


def lead(action: Callable[[], T]) -> T | None:
    """Does something on process 0 only; returns its result there and None elsewhere. All must call it.

    Raises:
        Exception: on process 0, what `action` raised.
        LeaderError: on the others, where `action` raised something.
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
                logger.exception("process 0 failed")
                failure = RunError(f"{type(error).__name__}: {error}")
    if several() and agree({"failed": failure is not None})["failed"].any():
        raise failure or LeaderError("process 0 could not go on; its message says why")
    return result


def check_same(config: "RunConfig") -> None:
    """Checks that all processes were started for the same run.

    Raises:
        ConfigError: another process has another configuration or other switches of JAX.
    """
    from rl_discovery.meta.config import to_json

    document = {name: value for name, value in to_json(config).items() if name not in LEADERS}
    document["inner_metrics"] = config.logging.inner_metrics  # is computed on all devices
    document["jax"] = numerics.identity()
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    # Three bytes: float32 holds them exactly.
    answers = agree({"configuration": int.from_bytes(digest[:3], "big")})["configuration"]
    if (answers != answers[0]).any():
        other = int(np.flatnonzero(answers != answers[0])[0])
        raise ConfigError(
            f"process {other} was started with another configuration or other switches of JAX than process 0"
        )


def restore(checkpoints: "RunCheckpoints | None", like: Any) -> "Restored | None":
    """Restores on process 0 and sends the state to the others; None where there is no checkpoint.

    Args:
        checkpoints: of the run, on process 0; None on the others.
        like: the state's structure, shapes and dtypes.
    """
    restored = lead(lambda: checkpoints.restore(like) if checkpoints else None)
    if not several():
        return restored
    from rl_discovery.checkpoints.runs import Restored

    generation = int(agree({"generation": restored.generation if restored else -1})["generation"][0])
    if generation < 0:
        return None
    state = tree_from_leader(restored.state if restored else None, like)
    return dataclasses.replace(restored, state=state) if restored else Restored(generation, state, {})


def tree_from_leader(tree: Any, like: Any) -> Any:
    """Sends a pytree of process 0 to every process.

    Args:
        tree: on process 0.
        like: its structure, shapes and dtypes.
    """
    if not several():
        return tree
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for name, dtype, shape in arrays.layout_of(like)
    }
    return arrays.from_arrays(from_leader(arrays.to_arrays(tree) if leads() else None, shapes), like)


def from_leader(values: Mapping[str, np.ndarray] | None, like: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Sends process 0's arrays to every process, exact to the last bit.

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
    """A pytree of arrays with each one whole on every device, where several processes share them."""
    if not several() or all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return tree
    return jax.jit(_identity, out_shardings=replicated(mesh))(tree)


def _identity(tree: Any) -> Any:  # a function of the module, so that it is compiled once
    return tree


class Watch:
    """Ends this process with one line when another one is lost; does nothing with one process.

    A process that waits for the devices of a lost one would wait for ever, so a thread of its own checks.

    Args:
        tell: prints the line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._checks = 0
        self._last_check: int | None = None
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._check_others, name="watch-processes", daemon=True)
        if several():
            self._thread.start()

    def leave(self) -> None:
        """Waits for all processes and ends the checks; the last call of a run that ended cleanly."""
        if not several():
            return
        # A check ends when every process checks, so all must agree on the last one; none is two ahead.
        self._last_check = int(agree({"checks": self._checks + 2})["checks"].max())
        self._hurry.set()
        self._thread.join()
        multihost_utils.sync_global_devices("checks have ended")
        if leads():
            time.sleep(LEAVE_SECONDS)

    def give_up(self, error: Exception) -> NoReturn:
        """After a broken connection: gives the thread time to say who is lost, and ends the process."""
        time.sleep(HEARTBEAT_SECONDS + 3 * CHECK_SECONDS)
        reason = str(error).partition("\n")[0]
        self._end(f"error: the processes of this run lost each other ({reason}); start all of them again")

    def _check_others(self) -> None:
        everyone = set(range(jax.process_count()))
        while self._last_check is None or self._checks < self._last_check:
            self._hurry.wait(CHECK_SECONDS)
            try:
                with multihost_utils.live_devices(jax.devices()) as devices:
                    lost = everyone - {device.process_index for device in devices}
            except multihost_utils.ProcessFailureError as failure:
                lost = {device.process_index for device in failure.failed_devices}
            except jax.errors.JaxRuntimeError:  # process 0 keeps the list
                lost = {0}
            if lost:
                self._end(lost_message(lost))
            self._checks += 1

    def _end(self, line: str) -> NoReturn:
        # At once: what waits for the lost process cannot be ended in an orderly way.
        self._tell(line)
        sys.stderr.flush()
        if leads():  # or the others would report process 0 before they heard of the lost one
            time.sleep(LEAVE_SECONDS)
        os._exit(LOST)


def is_broken_connection(error: Exception) -> bool:
    """Whether a computation failed because another process is gone, which JAX has no class for."""
    return any(sign in str(error) for sign in ("Gloo", "NCCL", "UNAVAILABLE", "coordination service"))


def lost_message(lost: set[int]) -> str:
    """The line that the remaining processes print."""
    names = " and ".join(map(str, sorted(lost)))
    return (
        f"error: lost process {names} of {jax.process_count()}: it died, or {HEARTBEAT_SECONDS} s passed "
        "without a sign of it; start all processes again, and the run goes on from its last checkpoint"
    )

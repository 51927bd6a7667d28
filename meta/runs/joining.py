"""Joining the processes of one run through `jax.distributed`, before anything asks JAX for devices.

Apart from `meta.runs.distributed`, which imports what does ask. Called by `rl-discovery meta-train`.
"""

import os

import jax

from rl_discovery.meta.errors import ConfigError

HEARTBEAT_SECONDS = 10
"""Silence after which a process counts as lost."""

JOIN_SECONDS = 300
"""How long the processes wait for each other at the start."""

STEP_TASKS = {"SLURM_STEP_NUM_TASKS": "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK"}
"""How launchers that JAX knows tell how many processes they started; outside `srun` the first is not set."""


def join(coordinator: str | None, process_id: int | None, num_processes: int | None) -> bool:
    """Makes this process one of several, if it is; before anything else asks JAX for devices.

    What is not given is taken from `JAX_COORDINATOR_ADDRESS`, `JAX_PROCESS_ID` and `JAX_NUM_PROCESSES`, or
    detected where `srun` or `mpirun` started several tasks.

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
    number = _number("JAX_PROCESS_ID") if process_id is None else process_id
    count = _number("JAX_NUM_PROCESSES") if num_processes is None else num_processes
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
        _check(address, number, count)
        if count == 1:
            return False
    # Stop signals are ours, and so is what happens when a process is missed: JAX would abort.
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


def _number(name: str) -> int | None:
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


def _check(address: str, number: int, count: int) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"--coordinator must be HOST:PORT, not {address!r}")
    if count < 1 or not 0 <= number < count:
        raise ConfigError(f"--process-id must be from 0 to --num-processes - 1, not {number} of {count}")

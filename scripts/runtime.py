"""How XLA is set up for this machine. All of it are environment variables, to be set before JAX is imported.

What the user has set stays as it is. docs/performance.md has the measurements behind each flag.
"""

import hashlib
import math
import os
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

HOST_DEVICES = "xla_force_host_platform_device_count"
"""XLA's flag for the number of devices that a CPU is."""

STUCK_WARNING_SECONDS = 3600
"""Lanes of very different length make devices wait for each other, which XLA takes for a deadlock."""

STUCK_ABORT_SECONDS = 7 * 24 * 3600
"""When XLA gives up on a device that the others wait for."""

SMALL_LOOP_BYTES = 4_000_000
"""Loops over less memory become one function each. In others every operation of a step is launched alone."""

MIN_COMPILE_SECONDS = 0.5
"""Programs that compile faster are not worth a file in the compilation cache."""


def configure(devices: int | None = None) -> None:
    """Sets up XLA: a host device per core, wide vectors, patience, a compilation cache.

    Args:
        devices: host devices, in place of one per core. Accelerators are not affected.

    Raises:
        RuntimeError: JAX has been imported already, so that this would have no effect.
    """
    if "jax" in sys.modules:
        raise RuntimeError("configure() must be called before JAX is imported")
    flags: dict[str, int | str] = {
        # Two at least: programs are not compiled for one alone (`discovery.sharding.make_mesh`).
        HOST_DEVICES: max(devices or cores(), 2),
        "xla_cpu_collective_call_warn_stuck_timeout_seconds": STUCK_WARNING_SECONDS,
        "xla_cpu_collective_call_terminate_timeout_seconds": STUCK_ABORT_SECONDS,
        "xla_backend_extra_options": f"xla_cpu_small_while_loop_byte_threshold={SMALL_LOOP_BYTES}",
    }
    if version("jaxlib").startswith("0.10."):  # XLA aborts at a flag that it does not know
        # YNNPACK for matrix products alone: its sums of eight numbers are slow.
        flags["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    if "avx512f" in cpu_flags():
        flags["xla_cpu_prefer_vector_width"] = 512
    os.environ["XLA_FLAGS"] = with_flags(os.environ.get("XLA_FLAGS", ""), flags)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors of the C++ side, not its warnings
    if (cache := cache_dir()) is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(MIN_COMPILE_SECONDS))
    # A killed process may leave half an entry, which JAX compiles again but does not replace.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")


def with_flags(given: str, flags: dict[str, int | str]) -> str:
    """XLA_FLAGS with those of `flags` that `given` does not set."""
    names = {flag.lstrip("-").partition("=")[0] for flag in given.split()}
    ours = [f"--{name}={value}" for name, value in flags.items() if name not in names]
    return " ".join([*given.split(), *ours])


def cores() -> int:
    """Cores that this process may use: its affinity, within the CPU quota of its container."""
    # macOS has no affinity.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdecimal() and period.strip().isdecimal():
        usable = min(usable, math.ceil(int(quota) / int(period)))
    return max(usable, 1)


def cpu_flags() -> frozenset[str]:
    """Instruction sets of an x86 CPU, as Linux names them; empty where that is unknown."""
    for line in _read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def cache_dir() -> Path | None:
    """Where compiled programs are kept between runs, or None if that cannot be written.

    One folder per kind of CPU: JAX would load code for another one from a home that nodes share.
    """
    kind = hashlib.sha256(" ".join([platform.machine(), *sorted(cpu_flags())]).encode()).hexdigest()[:8]
    return cache_folder("xla", kind)


def cache_folder(*names: str) -> Path | None:
    """A folder of ours in the user's cache, made if absent, or None if it cannot be written."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = home.joinpath("rl-discovery", *names)
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    return path if os.access(path, os.W_OK | os.X_OK) else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

"""What decides numbers besides configuration and versions: JAX's switches, XLA's flags and the device.

A run keeps it and compares it when it resumes (`meta.runs.directory`); an evaluation's outcome is looked up
by it (`evaluation.store`). A switch of JAX that is named nowhere here decides no number.
"""

import os
import platform
from typing import Any

import jax

IDENTITY = (
    *("jax_enable_x64", "jax_explicit_x64_dtypes", "jax_numpy_dtype_promotion"),
    *("jax_default_prng_impl", "jax_enable_custom_prng", "jax_random_seed_offset"),
    *("jax_threefry_partitionable", "jax_high_dynamic_range_gumbel"),
    "jax_default_matmul_precision",
)
"""Switches that make another run of it: other random numbers, other types, other precision."""

ROUNDING = (
    *("jax_softmax_custom_jvp", "jax_use_direct_linearize", "jax_custom_vjp3", "jax_remat3", "jax_scan3"),
    *("jax_disable_jit", "jax_disable_most_optimizations", "jax_optimization_level"),
    *("jax_exec_time_optimization_effort", "jax_memory_fitting_effort", "jax_memory_fitting_level"),
    *("jax_compiler_enable_remat_pass", "jax_use_shardy_partitioner", "jax_xla_profile_version"),
    *("jax_use_simplified_jaxpr_constants", "jax_embedded_constants_max_bytes"),
    *("jax_threefry_gpu_kernel_lowering", "jax_enable_pgle", "eager_constant_folding"),
)
"""Switches that make another program of the same: last bits differ."""

INDIFFERENT = ("xla_force_host_platform_device_count", "xla_cpu_collective_call_", "xla_dump_")
"""Prefixes of the flags of XLA that decide no number."""


def identity() -> dict[str, Any]:
    """The switches of `IDENTITY` that this JAX has; JSON values."""
    return _values(IDENTITY)


def rounding() -> dict[str, Any]:
    """Device, flags of XLA and the switches of `ROUNDING`, which decide last bits; JSON values."""
    kind = jax.devices()[0].device_kind
    flags = os.environ.get("XLA_FLAGS", "").split()
    return {
        "device": " ".join(filter(None, (kind, platform.machine(), platform.processor()))),
        "xla_flags": " ".join(sorted(flag for flag in flags if not flag.lstrip("-").startswith(INDIFFERENT))),
        **_values(ROUNDING),
    }


def _values(names: tuple[str, ...]) -> dict[str, Any]:
    """Their present values, also where a context manager of JAX has set them."""
    known = jax.config.values
    return {name: _plain(known[name]) for name in names if name in known}


def _plain(value: Any) -> Any:
    """Enumerations as words."""
    plain = type(value) in (bool, int, float, str, type(None))
    return value if plain else str(getattr(value, "name", value)).lower()

"""Sets a switch of JAX to another value than it has, for as long as a test needs it."""

import contextlib

import jax

OTHER = {
    "jax_default_matmul_precision": "highest",
    "jax_default_prng_impl": "rbg",
    "jax_explicit_x64_dtypes": "error",
    "jax_memory_fitting_level": "O1",
    "jax_numpy_dtype_promotion": "strict",
    "jax_optimization_level": "O1",
}
"""Where there are words to choose from; other switches are on or off, or numbers."""


@contextlib.contextmanager
def switched(name):
    before = jax.config.values[name]
    jax.config.update(name, OTHER[name] if name in OTHER else _flipped(before))
    try:
        yield
    finally:
        jax.config.update(name, before)


def _flipped(value):
    return not value if isinstance(value, bool) else value + 1

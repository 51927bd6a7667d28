"""The versions that made a result, for run directories, cards, evaluations and benchmarks."""

import platform
from importlib import metadata

PACKAGES = (
    "rl-discovery",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "evosax",
    "gymnax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "brax",
    "mujoco",
    "mujoco-mjx",
    "navix",
    "jumanji",
    "craftax",
    "playground",
)
"""Packages whose version can change a number."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results, as far as they are installed."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # rl-discovery itself, run from a checkout
            continue
    return installed

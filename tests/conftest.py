"""Every test runs with the shapes in our signatures checked: see `shape_checks` for what that means.

Most of the suite's time is XLA's. So programs compiled in the tests' own processes are optimised less, and
kept for whichever worker compiles the same one again. What a user's process compiles is tested in processes
of their own (`tests.meta.processes`).
"""

import gc
import importlib.util

import jax
import jaxtyping
import matplotlib.pyplot  # noqa: F401 - see below
import pytest
import scipy.stats  # noqa: F401 - see below
from jax.experimental.compilation_cache import compilation_cache

from tests import quick, shape_checks

# Before any test module imports them: modules that are imported already would go unchecked. What these two
# import first would be compiled from source each time, which is why the large ones are imported above.
jaxtyping.install_import_hook(
    ["rl_discovery.discovery", "rl_discovery.envs"], f"{shape_checks.__name__}.functions"
)

# Tracing makes many objects that live long; the collector looked at all of them again and again.
gc.set_threshold(50_000, 20, 20)

with pytest.MonkeyPatch.context() as patch:
    # Read by the first backend, which is made here; not for processes that tests start.
    patch.setenv("XLA_FLAGS", quick.XLA_FLAGS)
    jax.devices()


def pytest_addoption(parser):
    parser.addoption("--first-cases", action="store_true", help="of a parametrised test the first case only")


def is_absent(mark):
    return importlib.util.find_spec(mark.args[0]) is None


def pytest_collection_modifyitems(config, items):
    """Slow tests first, so that no worker is left alone with one at the end."""
    absent = [item for item in items if any(map(is_absent, item.iter_markers("needs")))]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if item not in absent]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if config.getoption("--first-cases"):
        first = {item.nodeid.partition("[")[0]: item for item in reversed(items)}
        items[:] = [item for item in items if item is first[item.nodeid.partition("[")[0]]]


@pytest.fixture(scope="session", autouse=True)
def quick_compilation(pytestconfig):
    """XLA without its costly passes, and one compilation cache for all workers and for the next session."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(pytestconfig.cache.mkdir("xla")))
    jax.config.update("jax_compilation_cache_max_size", 2**30)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def nothing_evaluated_before(monkeypatch):
    """Outcomes that a test makes up are not to be found by anybody else."""
    monkeypatch.setattr("rl_discovery.evaluation.default_folder", lambda: None)

"""Warm start: meta-training that begins at another objective's meta-parameters.

What fits is taken as it is. A rule that lacks only horizon inputs, or a schedule, of the one that is trained
is widened with zeros, so that it does at first what it did before.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.checkpoints.loading import load_objective
from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.errors import ConfigError

PRESET = "preset:"
"""What `start_from` begins with where it names a run that is to be made first."""

START = "start"
"""Folder of that run in the run directory."""

WIDENED = {"horizon_inputs": False, "progress_inputs": False, "schedule": False, "schedule_discount": False}
"""Settings that the other rule may lack, and what they are without: zeros stand for what they add."""

FREE = ("encoding", "shortest_horizon", "longest_horizon", "precision")
"""Settings that change no tensor; `encoding` and the range only where the other rule reads the horizon
too."""


def first_stage(name: str | None) -> str | None:
    """The preset that `start_from` says is run first; None where it names an objective."""
    return name.removeprefix(PRESET) if name is not None and name.startswith(PRESET) else None


def source(name: str, run_dir: Path) -> str | Path:
    """What is started from: an objective by name, or the run of the first stage inside the run directory."""
    return run_dir / START if first_stage(name) else name


def starting_point(name: str | Path, rule: Objective) -> MetaParams:
    """The meta-parameters of another objective, as ones of `rule`.

    Args:
        name: as for `checkpoints.load_objective`.
        rule: what is trained from there on.

    Raises:
        ConfigError: there is no such objective, it is not learned, or it does not fit.
    """
    try:
        found = load_objective(name)
    except CheckpointError as error:
        raise ConfigError(f"start_from: {error}") from None
    return fitted(found, rule, str(name))


def fitted(found: TrainedObjective, rule: Objective, name: str) -> MetaParams:
    """The meta-parameters of `found` as ones of `rule`; what `rule` has besides is 0.

    Raises:
        ConfigError: they do not fit; `name` is what the other is called.
    """
    if not jax.tree.leaves(found.meta_params):
        raise ConfigError(
            f"start_from {name}: {found.name} is not learned, so there is nothing to start from"
        )
    if type(found.rule) is not type(rule):
        raise ConfigError(f"start_from {name}: {found.name} cannot become {rule.name}")
    if differ := _differences(found.rule, rule):
        raise ConfigError(
            f"start_from {name} does not fit: {'; '.join(differ)}; set these fields to what it has"
        )
    target = jax.eval_shape(rule.init, jax.random.key(0))
    old = _named(found.meta_params)
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _padded(old.get(jax.tree_util.keystr(path)), leaf.shape), target
    )


def _differences(old: Any, new: Any) -> list[str]:
    """Settings in which two rules of a kind differ so that tensors of the one mean nothing to the other."""
    before, after = dataclasses.asdict(old), dataclasses.asdict(new)
    reads = any(before.get(name) for name in WIDENED)
    differ = []
    for name, value in after.items():
        was = before[name]
        free = name in FREE and (not reads or name == "precision")
        range_only = name in ("shortest_horizon", "longest_horizon")
        if was == value or free or range_only or (name in WIDENED and was == WIDENED[name]):
            continue
        differ.append(f"{name} is {was} there and {value} here")
    return differ


def _named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _padded(old: Any, shape: tuple[int, ...]) -> Any:
    """With zeros after its last rows and columns; zeros alone where there is nothing."""
    if old is None:
        return jnp.zeros(shape)
    return jnp.pad(old, [(0, size - had) for size, had in zip(shape, old.shape, strict=True)])

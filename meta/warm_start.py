"""Warm start: meta-training that begins at another objective's meta-parameters.

Meta-parameters that fit are used unchanged. Where the other rule lacks only horizon inputs or a schedule, its
meta-parameters are extended with zeros, so that at first it behaves as before.
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
"""Prefix of a `start_from` that names a preset to be run first."""

START = "start"
"""Folder of that run in the run directory."""

WIDENED = {"horizon_inputs": False, "progress_inputs": False, "schedule": False, "schedule_discount": False}
"""Settings that the other rule may lack, with their values there; the meta-parameters that they add are 0."""

FREE = ("encoding", "shortest_horizon", "longest_horizon", "precision")
"""Settings that change no tensor. `encoding` and the range matter only where the other rule reads the horizon
too."""


def first_stage(name: str | None) -> str | None:
    """The preset that `start_from` names to be run first; None where it names an objective."""
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
    """The meta-parameters of `found` as ones of `rule`; those that only `rule` has are 0.

    Raises:
        ConfigError: they do not fit; the message calls the other objective `name`.
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
    """Differences between two rules of a kind that make the tensors of the one useless for the other."""
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

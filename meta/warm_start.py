"""Warm start: meta-training that begins at another objective's meta-parameters.

At first the rule behaves as the other does. Where the other lacks only horizon inputs or a schedule, its
meta-parameters are extended with zeros; where it knows another range of horizons, what reads log N is
adapted.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rl_discovery.checkpoints.errors import CheckpointError
from rl_discovery.checkpoints.loading import load_objective
from rl_discovery.checkpoints.objective_card import total_env_steps
from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.discovery.types import MetaParams
from rl_discovery.meta.errors import ConfigError

PRESET = "preset:"
"""Prefix of a `start_from` that names a preset to be run first."""

START = "start"
"""Folder of that run in the run directory."""

WIDENED = (
    *("horizon_inputs", "progress_inputs"),
    *("schedule", "schedule_discount", "schedule_clip", "schedule_v_squared"),
)
"""Switches that the other rule may have off; the meta-parameters that they add are 0."""

CARRIED_OVER = ("shortest_horizon", "longest_horizon", "precision")
"""Settings that may differ: what reads the range is adapted to it (`with_range_of`)."""


def first_stage(name: str | None) -> str | None:
    """The preset that `start_from` names to be run first; None where it names an objective."""
    return name.removeprefix(PRESET) if name is not None and name.startswith(PRESET) else None


def source(name: str, run_dir: Path) -> str | Path:
    """What is started from: an objective by name, or the run of the first stage inside the run directory."""
    return run_dir / START if first_stage(name) else name


def earlier_env_steps(name: str | Path) -> int | None:
    """Environment steps of all runs behind an objective; None where it or its card does not tell."""
    try:
        return total_env_steps(load_objective(name).card)
    except CheckpointError:
        return None


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
    old: Any = found.rule
    meta_params = jax.tree.map(jnp.asarray, found.meta_params)
    if isinstance(old, Scheduled):
        meta_params = old.with_range_of(rule, meta_params)
    target = jax.eval_shape(rule.init, jax.random.key(0))
    return _widened(_named(meta_params), target, old, rule)


def _differences(old: Any, new: Any) -> list[str]:
    """Differences between two rules of a kind that make the tensors of the one useless for the other."""
    before, after = dataclasses.asdict(old), dataclasses.asdict(new)
    differ = []
    for name, value in after.items():
        was = before[name]
        free = name in CARRIED_OVER or (name == "encoding" and not any(before.get(key) for key in WIDENED))
        if was == value or free or (name in WIDENED and not was):
            continue
        differ.append(f"{name} is {was} there and {value} here")
    return differ


def _named(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _widened(known: dict[str, Any], target: Any, old: Any, new: Any) -> MetaParams:
    """The known tensors, with zeros for what is new: inputs or features are rows, constants columns."""

    def place(path: Any, leaf: Any) -> Any:
        had = known.get(jax.tree_util.keystr(path))
        rows = "schedule_features" if path[-1] == jax.tree_util.DictKey("schedule") else "inputs"
        if had is None:
            return jnp.zeros(leaf.shape)
        if had.shape == leaf.shape:
            return had
        names = [(getattr(old, name, ()), getattr(new, name, ())) for name in (rows, "scheduled")]
        places = [
            np.arange(size) if size == wide else np.array([after.index(name) for name in before])
            for size, wide, (before, after) in zip(had.shape, leaf.shape, names, strict=True)
        ]
        return jnp.zeros(leaf.shape).at[np.ix_(*places)].set(had)

    return jax.tree_util.tree_map_with_path(place, target)

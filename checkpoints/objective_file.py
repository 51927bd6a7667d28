"""One objective in one `.safetensors` file: its meta-parameters and a JSON card that says what it is.

Reading needs no pickle and no network and trusts nothing: the rule is rebuilt through the registry,
and every tensor must be what that rule's `init` makes. Section 6.3 of the design is the contract.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pydantic

from rl_discovery.checkpoints.arrays import named
from rl_discovery.checkpoints.errors import ObjectiveFileError, reason
from rl_discovery.checkpoints.objective_card import CARD_KEY, FORMAT, KIND, Card, parse_card
from rl_discovery.checkpoints.tensor_file import SEPARATOR, Shapes, opened, problem, read, shapes, write
from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective


def save_objective(path: Path | str, objective: TrainedObjective) -> None:
    """Writes an objective; a reader sees the old file or the new one, never a part.

    Args:
        path: where to; replaced if it is there.
        objective: its card gives the provenance; what describes the rule is filled in here.

    Raises:
        CheckpointError: the file cannot be written.
        ObjectiveFileError: what was written could not be read back: meta-parameters that are not
            finite or not this rule's, a card that is no JSON.
    """
    path = Path(path)
    described = {
        "format": FORMAT,
        "objective": {"type": objective.rule.name, "settings": _settings(objective.rule)},
        "inputs": list(objective.rule.inputs),
    }
    try:
        text = json.dumps(dict(objective.card) | described)
    except (TypeError, ValueError) as error:
        raise ObjectiveFileError(f"cannot write {path}: its card is no JSON: {reason(error)}") from None
    card = parse_card(text, path)
    expected = _expected(_rule(card, path), path)
    text = json.dumps(card.model_dump(mode="json", exclude_unset=True))
    write(path, KIND, named(objective.meta_params, SEPARATOR), expected, {CARD_KEY: text})


def read_objective(path: Path | str) -> TrainedObjective:
    """Reads an exported objective.

    Args:
        path: a `.safetensors` file, from anywhere.

    Returns:
        The rule with its meta-parameters and card.

    Raises:
        ObjectiveFileError: it is not an objective of ours, damaged, or of a newer format.
    """
    path = Path(path)
    with opened(path, KIND) as file:
        card = parse_card((file.metadata() or {}).get(CARD_KEY), path)
        rule = _rule(card, path)
        expected = _expected(rule, path)
        tensors = read(file, path, KIND, expected)
    structure = jax.tree.structure(_abstract(rule))
    meta_params = jax.tree.unflatten(structure, [jnp.asarray(tensors[name]) for name in expected])
    return TrainedObjective(rule, meta_params, card.model_dump(mode="json", exclude_unset=True))


def is_learned(rule: Objective) -> bool:
    """Whether the rule has meta-parameters."""
    return bool(jax.tree.leaves(_abstract(rule)))


def _settings(rule: Objective) -> dict[str, Any]:
    """The fields of the rule, from which the registry builds it again."""
    if not dataclasses.is_dataclass(rule):
        raise ObjectiveFileError(f"objective {rule.name!r} has no settings to export: it is not a dataclass")
    return dataclasses.asdict(rule)  # type: ignore[unreachable]  # the ABC is no dataclass to mypy


def _abstract(rule: Objective) -> Any:
    """Shapes and dtypes of the rule's meta-parameters; nothing is computed."""
    return jax.eval_shape(lambda: rule.init(jax.random.key(0)))


def _rule(card: Card, path: Path) -> Objective:
    """The rule that the card describes, every setting of the type that the rule declares."""
    name, settings = card.objective.type, card.objective.settings
    if name not in RULES:
        known = ", ".join(sorted(RULES))
        raise ObjectiveFileError(f"{path} holds an objective of unknown type {name!r} (known here: {known})")
    try:
        rule = make_objective(name, **settings)
        declared = pydantic.TypeAdapter(type(rule))
        declared.validate_json(json.dumps(_settings(rule)), strict=True)
    except pydantic.ValidationError as error:
        raise ObjectiveFileError(f"{path} has impossible settings for {name!r}: {problem(error)}") from None
    except (TypeError, ValueError) as error:
        raise ObjectiveFileError(f"{path} has impossible settings for {name!r}: {reason(error)}") from None
    if rule.name != name:
        raise ObjectiveFileError(f"{path} has settings of {rule.name!r} for an objective of type {name!r}")
    return rule


def _expected(rule: Objective, path: Path) -> Shapes:
    """Dtype and shape of each tensor that the rule needs."""
    try:
        leaves = named(_abstract(rule), SEPARATOR)
    except Exception as error:  # whatever a width of 0 or 10**30 makes JAX raise
        raise ObjectiveFileError(
            f"{path} has impossible settings for {rule.name!r}: {reason(error)}"
        ) from None
    return shapes(leaves)

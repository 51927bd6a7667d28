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
from pydantic import JsonValue, NonNegativeInt

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.arrays import named
from rl_discovery.checkpoints.errors import ObjectiveFileError, one_line, reason
from rl_discovery.checkpoints.tensor_file import SEPARATOR, Kind, Shapes, opened, problem, read, shapes, write
from rl_discovery.discovery.objectives.base import Objective, TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective

FORMAT = 1
"""Version of the card; a higher one is refused."""

CARD_KEY = "card"
"""Where the file's metadata holds the card."""

KIND = Kind(
    name="an exported objective",
    owner="its card's objective",
    limit=untrusted.OBJECTIVE,
    error=ObjectiveFileError,
)


class ObjectiveCard(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Which rule it is: a registered type and its settings."""

    type: str
    settings: dict[str, JsonValue]


class Card(pydantic.BaseModel, frozen=True, strict=True, extra="allow", allow_inf_nan=False):
    """Describes the objective in a file; all but the first three fields are provenance."""

    format: int
    objective: ObjectiveCard
    inputs: list[str]
    preset: str | None = None
    config: dict[str, JsonValue] | None = None
    generations: NonNegativeInt | None = None
    env_steps: NonNegativeInt | None = None
    seed: int | None = None
    versions: dict[str, str] = {}
    evaluation: JsonValue = None
    held_out_fitness: float | None = None


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
    card = _parse_card(text, path)
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
        ObjectiveFileError: it is no objective of ours, damaged, or of a newer format.
    """
    path = Path(path)
    with opened(path, KIND) as file:
        card = _parse_card((file.metadata() or {}).get(CARD_KEY), path)
        rule = _rule(card, path)
        expected = _expected(rule, path)
        tensors = read(file, path, KIND, expected)
    structure = jax.tree.structure(_abstract(rule))
    meta_params = jax.tree.unflatten(structure, [jnp.asarray(tensors[name]) for name in expected])
    return TrainedObjective(rule, meta_params, card.model_dump(mode="json", exclude_unset=True))


def read_card(path: Path | str) -> dict[str, Any]:
    """The card alone, without building the rule.

    Raises:
        ObjectiveFileError: as `read_objective`.
    """
    path = Path(path)
    with opened(path, KIND) as file:
        card = _parse_card((file.metadata() or {}).get(CARD_KEY), path)
    return card.model_dump(mode="json", exclude_unset=True)


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


def _parse_card(text: str | None, path: Path) -> Card:
    if text is None:
        raise ObjectiveFileError(f"{path} is not an exported objective: it has no card")
    try:
        document = untrusted.parse_json(text)
        version = document.get("format") if isinstance(document, dict) else None
        if type(version) is int and version > FORMAT:  # before anything else, which may have changed by then
            raise ObjectiveFileError(
                f"{path} has format {version}, newer than {FORMAT}: install a newer rl-discovery"
            )
        card = Card.model_validate(document)
    except pydantic.ValidationError as error:
        raise ObjectiveFileError(f"the card of {path} is damaged: {problem(error)}") from None
    except untrusted.RefusedError as error:
        raise ObjectiveFileError(f"the card of {path} {one_line(str(error))}") from None
    if card.format != FORMAT:
        raise ObjectiveFileError(f"the card of {path} is damaged: format {card.format} never existed")
    return card


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

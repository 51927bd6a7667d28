"""One objective in one `.safetensors` file: its meta-parameters and a JSON card that says what it is.

Reading needs no pickle and no network and trusts nothing: the rule is rebuilt through the registry,
and every tensor must be what that rule's `init` makes. Section 6.3 of the design is the contract.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pydantic
import safetensors
import safetensors.numpy
from pydantic import JsonValue, NonNegativeInt

from checkpoints import untrusted
from checkpoints.atomic import replace_file
from checkpoints.errors import ObjectiveFileError, one_line, reason
from discovery.objectives.base import Objective, TrainedObjective
from discovery.objectives.registry import make_objective, registry

FORMAT = 1
"""Version of the card; a higher one is refused."""

CARD_KEY = "card"
"""Where the file's metadata holds the card."""

_DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I32": "int32"}


class ObjectiveCard(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Which rule it is: a registered type and its settings."""

    type: str
    settings: dict[str, JsonValue]


class Card(pydantic.BaseModel, frozen=True, strict=True, extra="allow", allow_inf_nan=False):
    """What a file says about its objective; all but the first three fields is provenance."""

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
        "inputs": _inputs(objective.rule),
    }
    try:
        text = json.dumps(dict(objective.card) | described)
    except (TypeError, ValueError) as error:
        raise ObjectiveFileError(f"cannot write {path}: its card is no JSON: {reason(error)}") from None
    card = _parse_card(text, path)
    tensors = {name: np.asarray(leaf, order="C") for name, leaf in _named(objective.meta_params).items()}
    found = {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()}
    _check_shapes(found, _expected(_rule(card, path), path), path)
    _check_finite(tensors, path)
    text = json.dumps(card.model_dump(mode="json", exclude_unset=True))
    if len(text) > untrusted.CARD // 2:
        raise ObjectiveFileError(f"cannot write {path}: its card is longer than {untrusted.CARD // 2} bytes")
    replace_file(path, safetensors.numpy.save(tensors, {CARD_KEY: text}))


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
    with _opened(path) as file:
        card = _parse_card((file.metadata() or {}).get(CARD_KEY), path)
        rule = _rule(card, path)
        expected = _expected(rule, path)
        # Shapes as the header has them, before any tensor is allocated.
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        found = {
            n: (_DTYPES.get(s.get_dtype(), s.get_dtype()), tuple(s.get_shape())) for n, s in slices.items()
        }
        _check_shapes(found, expected, path)
        tensors = {name: file.get_tensor(name) for name in expected}
    _check_finite(tensors, path)
    structure = jax.tree.structure(_abstract(rule))
    meta_params = jax.tree.unflatten(structure, [jnp.asarray(tensors[name]) for name in expected])
    return TrainedObjective(rule, meta_params, card.model_dump(mode="json", exclude_unset=True))


def read_card(path: Path | str) -> dict[str, Any]:
    """The card alone, without building the rule.

    Raises:
        ObjectiveFileError: as `read_objective`.
    """
    path = Path(path)
    with _opened(path) as file:
        card = _parse_card((file.metadata() or {}).get(CARD_KEY), path)
    return card.model_dump(mode="json", exclude_unset=True)


def is_learned(rule: Objective) -> bool:
    """Whether the rule has meta-parameters, without which it is of no use."""
    return bool(jax.tree.leaves(_abstract(rule)))


def _inputs(rule: Objective) -> list[str]:
    """What the rule sees: its own list if it has one."""
    default = ("rollout", *(("progress",) if rule.uses_progress else ()))
    return list(getattr(rule, "inputs", default))


def _settings(rule: Objective) -> dict[str, Any]:
    """The fields of the rule, from which the registry builds it again."""
    if not dataclasses.is_dataclass(rule):
        raise ObjectiveFileError(f"objective {rule.name!r} has no settings to export: it is not a dataclass")
    return dataclasses.asdict(rule)  # type: ignore[unreachable]  # a Protocol is no dataclass to mypy


def _abstract(rule: Objective) -> Any:
    """Shapes and dtypes of the rule's meta-parameters; nothing is computed."""
    return jax.eval_shape(lambda: rule.init(jax.random.key(0)))


def _named(tree: Any) -> dict[str, Any]:
    """Leaves by slash-joined path, in the order of the pytree."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


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
        raise ObjectiveFileError(f"the card of {path} is damaged: {_problem(error)}") from None
    except untrusted.RefusedError as error:
        raise ObjectiveFileError(f"the card of {path} {one_line(str(error))}") from None
    if card.format != FORMAT:
        raise ObjectiveFileError(f"the card of {path} is damaged: format {card.format} never existed")
    return card


def _problem(error: pydantic.ValidationError) -> str:
    """The first field that is wrong, and how."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return one_line(f"{where}: {first['msg'].lower()}" if where else first["msg"].lower())


def _rule(card: Card, path: Path) -> Objective:
    """The rule that the card describes, every setting of the type that the rule declares."""
    name, settings = card.objective.type, card.objective.settings
    if name not in registry():
        known = ", ".join(sorted(registry()))
        raise ObjectiveFileError(f"{path} holds an objective of unknown type {name!r} (known here: {known})")
    try:
        rule = make_objective(name, **settings)
        declared = pydantic.TypeAdapter(type(rule))
        declared.validate_json(json.dumps(_settings(rule)), strict=True)
    except pydantic.ValidationError as error:
        raise ObjectiveFileError(f"{path} has impossible settings for {name!r}: {_problem(error)}") from None
    except (TypeError, ValueError) as error:
        raise ObjectiveFileError(f"{path} has impossible settings for {name!r}: {reason(error)}") from None
    if rule.name != name:
        raise ObjectiveFileError(f"{path} has settings of {rule.name!r} for an objective of type {name!r}")
    return rule


def _expected(rule: Objective, path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each tensor that the rule needs."""
    try:
        leaves = _named(_abstract(rule))
    except Exception as error:  # whatever a width of 0 or 10**30 makes JAX raise
        raise ObjectiveFileError(
            f"{path} has impossible settings for {rule.name!r}: {reason(error)}"
        ) from None
    return {name: (str(leaf.dtype), leaf.shape) for name, leaf in leaves.items()}


def _check_shapes(found: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    if missing := [name for name in expected if name not in found]:
        raise ObjectiveFileError(f"{path} lacks the tensor {missing[0]!r}, which its card's objective needs")
    if extra := [name for name in found if name not in expected]:
        raise ObjectiveFileError(f"{path} has a tensor {extra[0]!r} that its card's objective does not know")
    for name, (dtype, shape) in expected.items():
        if found[name] != (dtype, shape):
            other_dtype, other_shape = found[name]
            raise ObjectiveFileError(
                f"tensor {name!r} of {path} is {other_dtype}{list(other_shape)}; "
                f"its card's objective needs {dtype}{list(shape)}"
            )


def _check_finite(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ObjectiveFileError(f"tensor {name!r} of {path} has values that are not finite")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, its header checked by safetensors and no tensor read yet."""
    try:
        with untrusted.open_file(path, untrusted.OBJECTIVE) as raw:
            length = int.from_bytes(raw.read(8), "little")
        if length > untrusted.CARD:
            raise ObjectiveFileError(f"{path} is not an exported objective: no header of ours is that long")
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except OSError as error:
        raise ObjectiveFileError(f"cannot read {path}: {reason(error)}") from None
    except untrusted.RefusedError as error:
        raise ObjectiveFileError(f"{path} is not an exported objective: it {error}") from None
    except safetensors.SafetensorError as error:
        raise ObjectiveFileError(
            f"{path} is not an exported objective, or is damaged: {reason(error)}"
        ) from None

"""The card of an objective's file: what the file is and where it comes from.

It is read without JAX, so that a file that is none is refused at once.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
from pydantic import JsonValue, NonNegativeInt

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.errors import ObjectiveFileError, UnknownObjectiveError, one_line
from rl_discovery.checkpoints.run_directory import OBJECTIVE
from rl_discovery.checkpoints.tensor_file import Kind, opened, problem

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
    earlier_env_steps: NonNegativeInt | None = None
    """Of the runs before this one, where it started from another objective."""
    seed: int | None = None
    versions: dict[str, str] = {}
    evaluation: JsonValue = None
    held_out_fitness: float | None = None


def file_of(path: Path) -> Path:
    """The file of an objective: the path itself, or that in a run directory.

    Raises:
        UnknownObjectiveError: a folder without one.
        ObjectiveFileError: one that leads out of its folder.
    """
    if not path.is_dir():
        return path
    file = path / OBJECTIVE
    if not file.exists():
        raise UnknownObjectiveError(
            f"{path} has no {OBJECTIVE}: it is not a run directory, or its run has no checkpoint yet"
        )
    try:
        untrusted.check_within(file, path)
    except untrusted.RefusedError as error:
        raise ObjectiveFileError(f"{file} {error}") from None
    return file


def total_env_steps(card: Mapping[str, Any]) -> int | None:
    """Environment steps of meta-training and of the runs before; None where the card does not say."""
    steps = card.get("env_steps")
    return None if steps is None else steps + (card.get("earlier_env_steps") or 0)


def read_card(path: Path | str) -> dict[str, Any]:
    """The card alone, without building the rule.

    Raises:
        ObjectiveFileError: as `read_objective`.
    """
    path = Path(path)
    with opened(path, KIND) as file:
        card = parse_card((file.metadata() or {}).get(CARD_KEY), path)
    return card.model_dump(mode="json", exclude_unset=True)


def parse_card(text: str | None, path: Path) -> Card:
    """The card that stands in a file's metadata.

    Raises:
        ObjectiveFileError: it is none, damaged, or of a newer format.
    """
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

"""`rl-discovery export RUN FILE`: the objective of a run as one file, with its card."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from rl_discovery.checkpoints import ObjectiveFileError, load_objective, read_card, save_objective, spelling
from rl_discovery.checkpoints.loading import is_named
from rl_discovery.evaluation.results import Results
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import parse


class ExportTargetError(ValueError):
    """The file to write is not named as one."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write the objective of a run to a .safetensors file that `load_objective` and `evaluate` take."""

    run: tyro.conf.Positional[str]
    """A run directory (or anything else that `evaluate` takes)."""

    file: tyro.conf.Positional[Path]
    """The file to write; replaced if it is there."""

    evaluation: Path | None = None
    """A results.json of `evaluate` to quote on the card, with the command that computes it again."""

    json: bool = False
    """Print the card as JSON."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "export")
    if arguments.file.suffix != ".safetensors":
        raise ExportTargetError(f"{arguments.file} does not end in .safetensors")
    if not arguments.file.parent.is_dir():
        raise ObjectiveFileError(f"cannot write {arguments.file}: no folder {arguments.file.parent}")
    with output.only_json():
        objective = load_objective(arguments.run)
        if arguments.evaluation is not None:
            quoted = _quote(Results.load(arguments.evaluation), arguments.file, objective.name)
            card = dict(objective.card) | {"evaluation": quoted}
            objective = dataclasses.replace(objective, card=card)
        save_objective(arguments.file, objective)
    card = read_card(arguments.file)
    if arguments.json:
        output.print_json({"file": str(arguments.file), "name": objective.name, "card": card})
        return 0
    generations = card.get("generations")
    after = "" if generations is None else f" after {generations:,} generations"
    with output.of_finished_work():
        print(f"{arguments.file}: {objective.name}{after}, {arguments.file.stat().st_size:,} bytes")
    return 0


def _quote(results: Results, file: Path, label: str) -> dict[str, Any]:
    """What a card says of an evaluation: scores beside the baselines', every seed, and the command."""
    suites = list(dict.fromkeys(cell.suite for cell in results.cells))
    horizons = sorted({cell.horizon for cell in results.cells})
    seeds = len({cell.seed for cell in results.cells})
    baselines = list(dict.fromkeys(c.objective for c in results.cells if c.objective != label))
    if len(suites) != 1 or len(baselines) == len({cell.objective for cell in results.cells}):
        raise ExportTargetError(f"the evaluation must be of {label} on one suite")
    # A file that is named as what is shipped is to be shipped in its place.
    subject = file.stem if is_named(file.stem) else Path(file.name)
    arguments = ["--suite", suites[0], "--horizons", *map(str, horizons), "--seeds", str(seeds)]
    arguments += ["--baselines", *baselines]
    cells = [cell for cell in results.cells if cell.objective == label]
    return {
        "command": spelling.command("evaluate", subject, *arguments),
        "aggregate": [entry.model_dump(mode="json", by_alias=True) for entry in results.aggregate],
        "cells": [cell.model_dump(mode="json", by_alias=True) for cell in cells],
        "versions": results.versions,
    }

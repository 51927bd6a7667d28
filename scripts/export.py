"""`rl-discovery export RUN FILE`: the objective of a run as one file, for us or for another framework."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints import load_objective, read_card, save_objective, spelling
from rl_discovery.checkpoints.loading import is_named
from rl_discovery.checkpoints.python_file import save_python
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.evaluation.results import Results
from rl_discovery.evaluation.tuning import tuning_flag
from rl_discovery.scripts import output
from rl_discovery.scripts.export_arguments import Arguments, ExportTargetError, parse_arguments


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse_arguments(argv)
    with output.only_json():
        objective = load_objective(arguments.run)
        card = _write(objective, arguments)
    if arguments.json:
        output.print_json({"file": str(arguments.file), "name": objective.name, "card": card})
        return 0
    generations = card.get("generations")
    after = "" if generations is None else f" after {generations:,} generations"
    what = objective.name if arguments.to is None else f"{objective.name} for {arguments.to}"
    with output.of_finished_work():
        print(f"{arguments.file}: {what}{after}, {arguments.file.stat().st_size:,} bytes")
    return 0


def _write(objective: TrainedObjective, arguments: Arguments) -> dict[str, Any]:
    """Writes the file; returns the card."""
    if arguments.to is not None:
        save_python(arguments.file, objective, arguments.to)
        return dict(objective.card)
    if arguments.evaluation is not None:
        quoted = _quote(Results.load(arguments.evaluation), arguments.file, objective.name)
        card = dict(objective.card) | {"evaluation": quoted}
        objective = dataclasses.replace(objective, card=card)
    save_objective(arguments.file, objective)
    return read_card(arguments.file)


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
    arguments += ["--levels", str(max(cell.levels for cell in results.cells))]
    if results.tuned:
        arguments.append(tuning_flag(results.tuned))
    arguments += ["--baselines", *baselines]
    cells = [cell for cell in results.cells if cell.objective == label]
    return {
        "command": spelling.command("evaluate", subject, *arguments),
        "aggregate": [entry.model_dump(mode="json", by_alias=True) for entry in results.aggregate],
        "cells": [cell.model_dump(mode="json", by_alias=True) for cell in cells],
        "versions": results.versions,
    }

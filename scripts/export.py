"""`rl-discovery export RUN FILE`: the objective of a run as one file, with its card."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from checkpoints import ObjectiveFileError, load_objective, read_card, save_objective
from scripts import output


class ExportTargetError(ValueError):
    """The file to write is not named as one."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write the objective of a run to a .safetensors file that `load_objective` and `evaluate` take."""

    run: tyro.conf.Positional[str]
    """A run directory (or anything else that `evaluate` takes)."""

    file: tyro.conf.Positional[Path]
    """The file to write; replaced if it is there."""

    json: bool = False
    """Print the card as JSON."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = tyro.cli(
        Arguments, args=argv, config=(tyro.conf.FlagCreatePairsOff,), prog="rl-discovery export"
    )
    if arguments.file.suffix != ".safetensors":
        raise ExportTargetError(f"{arguments.file} does not end in .safetensors")
    if not arguments.file.parent.is_dir():
        raise ObjectiveFileError(f"cannot write {arguments.file}: no folder {arguments.file.parent}")
    with output.only_json():
        objective = load_objective(arguments.run)
        save_objective(arguments.file, objective)
    card = read_card(arguments.file)
    if arguments.json:
        output.print_json({"file": str(arguments.file), "name": objective.name, "card": card})
        return 0
    generations = card.get("generations")
    after = "" if generations is None else f" after {generations:,} generations"
    print(f"{arguments.file}: {objective.name}{after}, {arguments.file.stat().st_size:,} bytes")
    return 0

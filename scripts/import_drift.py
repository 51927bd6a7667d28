"""`rl-discovery import-drift FILE OUT`: makes an objective of a drift that published code has saved."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from rl_discovery.checkpoints import import_drift, read_card, save_objective, spelling
from rl_discovery.checkpoints.published_drift import Inputs
from rl_discovery.discovery.objectives.lpo import Form
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import parse
from rl_discovery.scripts.export import check_target


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Make an objective of an LPO drift that the code of Lu et al. 2022, or other code like it, has saved.

    docs/how-to/import.md describes the file.
    """

    file: tyro.conf.Positional[Path]
    """The saved weights: .npy, .npz or .safetensors."""

    out: tyro.conf.Positional[Path]
    """The .safetensors file to write, for `evaluate` and all else that takes an objective."""

    inputs: Inputs = "lu2022"
    """Whose order of inputs the network has."""

    form: Form = "ppo_residual"
    """ppo_residual if PPO's drift is added to the network's (the published `--ppo-init`), else plain."""

    clip: float = 0.2
    """eps of that PPO's drift."""

    offset: float = 1e-4
    """xi, which is subtracted before the ReLU."""

    json: bool = False
    """Print the card as JSON."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "import-drift")
    check_target(arguments.out, ".safetensors")
    with output.only_json():
        objective = import_drift(
            arguments.file, arguments.inputs, arguments.form, arguments.clip, arguments.offset
        )
        save_objective(arguments.out, objective)
    if arguments.json:
        card = read_card(arguments.out)
        output.print_json({"file": str(arguments.out), "name": objective.name, "card": card})
        return 0
    with output.of_finished_work():
        width = len(objective.meta_params["out"]["kernel"])
        print(f"{arguments.out}: {objective.name} with {width} hidden units, from {arguments.file}")
        print(f"evaluate it: {spelling.command('evaluate', arguments.out, '--baselines', 'ppo')}")
    return 0

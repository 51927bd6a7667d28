"""`rl-discovery import-drift FILE OUT`: makes an objective of a drift that published code has saved."""

from collections.abc import Sequence

from rl_discovery.checkpoints import import_drift, read_card, save_objective, spelling
from rl_discovery.scripts import output
from rl_discovery.scripts.import_drift_arguments import parse_arguments


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse_arguments(argv)
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

"""`rl-discovery meta-train`: evolve an objective, or go on where a run was stopped."""

import argparse
import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from scripts.arguments import parse


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    pre = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    pre.add_argument("--preset", default="ta-lpg-cpu")
    known, _ = pre.parse_known_args(argv)

    import tyro
    from rich.console import Console

    from meta.config import RunConfig, to_json, validate
    from meta.errors import DivergedError
    from meta.presets import PRESETS, find

    preset = find(known.preset)

    @dataclasses.dataclass(frozen=True)
    class Arguments:
        config: Annotated[RunConfig, tyro.conf.arg(name="")] = preset.config
        run_dir: Path | None = None
        """Where the run is kept; the same directory again resumes it (default: runs/PRESET)."""
        profile: bool = False
        """Write a trace of this call's second generation to profile/ in the run directory."""
        print_config: bool = False
        """Print the resolved configuration as JSON and stop."""

    listing = "\n".join(f"  {name}: {entry.description}" for name, entry in PRESETS.items())
    arguments = parse(
        Arguments, argv, "meta-train", f"{__doc__}\n\npresets:\n{listing}", negative_switches=True
    )
    config = validate(arguments.config)
    if arguments.print_config:
        print(json.dumps(to_json(config), indent=2))
        return 0

    from meta.trainer import meta_train

    console = Console(stderr=True)
    run_dir = arguments.run_dir or Path("runs") / config.preset
    try:
        outcome = meta_train(config, run_dir, console, profile=arguments.profile)
    except DivergedError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return 3
    if outcome.signal is not None:
        command = shlex.join(["rl-discovery", "meta-train", *argv])
        console.print(
            f"stopped at generation {outcome.generations}; resume with\n  {command}",
            highlight=False,
            soft_wrap=True,
        )
        return 128 + outcome.signal
    console.print(
        f"done: {outcome.generations} generations in {run_dir}; next: rl-discovery evaluate {run_dir}",
        highlight=False,
        soft_wrap=True,
    )
    return 0

"""`rl-discovery meta-train`: evolve an objective, or go on where a run was stopped."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rl_discovery.checkpoints import spelling
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import UsageError, parse

if TYPE_CHECKING:
    from rl_discovery.meta.config import RunConfig
    from rl_discovery.meta.objective_settings import ObjectiveSettings

DEFAULT_PRESET = "ta-lpg-cpu"
HELP, HELP_ALL = ("-h", "--help"), "--help-all"


def parse_arguments(argv: Sequence[str], *, resume: bool = False) -> Any:
    """What the command is asked to do; `sweep` asks it of its trials.

    Args:
        argv: what follows the command's name.
        resume: begin with the configuration of the run directory, where that holds one, in place of the
            preset's.

    Returns:
        `config`, with the flags applied, validated; `run_dir`; `print_config`.

    Raises:
        UsageError, ConfigError, RunError: in one line; see `parse`, `validate` and `read_config`.
    """
    pre = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    pre.add_argument("--preset")
    pre.add_argument("--run-dir", "--run_dir")
    pre.add_argument("--objective.kind", dest="kind", nargs="?")
    known, _ = pre.parse_known_args(argv)

    import tyro

    from rl_discovery.meta.config import RunConfig, validate
    from rl_discovery.meta.objective_settings import objective_settings, of_kind
    from rl_discovery.meta.presets import PRESETS
    from rl_discovery.scripts.meta_train_help import after_all, after_essentials, essential

    base = PRESETS.find(known.preset or DEFAULT_PRESET).config
    if resume:
        try:
            run_dir = spelling.path_of(known.run_dir) if known.run_dir else _default_dir(base)
        except spelling.HomeError as error:
            raise UsageError(str(error)) from None
        base = _config_there(run_dir, known.preset) or base
    if known.kind is not None:
        base = dataclasses.replace(base, objective=of_kind(base.objective, known.kind))
    _check_flags(argv, base.objective)
    wants_help, wants_all = bool({*HELP} & {*argv}), HELP_ALL in argv
    shown = essential(base) if wants_help and not wants_all else base

    @dataclasses.dataclass(frozen=True)
    class Arguments:
        config: Annotated[RunConfig, tyro.conf.arg(name="")] = shown
        run_dir: Path | None = None
        """Where the run is kept; the same directory again resumes it with its own configuration (default:
        runs/PRESET)."""
        profile: bool = False
        """Write a trace of this call's second generation to profile/ in the run directory."""
        print_config: bool = False
        """Print the resolved configuration as JSON and stop."""
        coordinator: str | None = None
        """HOST:PORT of process 0, where several processes make one run; srun and mpirun need no telling."""
        process_id: int | None = None
        """Number of this process, from 0, which alone writes and talks."""
        num_processes: int | None = None
        """Processes in all."""

    listing = "\n".join(f"  {name}: {entry.description}" for name, entry in PRESETS.items())
    words = [HELP[0] if word == HELP_ALL else word for word in argv]
    try:
        arguments = parse(
            Arguments, words, "meta-train", f"{__doc__}\n\npresets:\n{listing}", negative_switches=True
        )
    except SystemExit:
        print((after_all if wants_all else after_essentials)(base.objective))
        raise
    config = validate(arguments.config)
    if known.kind is not None and config.objective.kind != objective_settings(known.kind).kind:
        raise UsageError(
            f"--objective.kind {known.kind} with these settings is {config.objective.kind}: change either"
        )
    return dataclasses.replace(arguments, config=config)


def _check_flags(argv: Sequence[str], settings: "ObjectiveSettings") -> None:
    """Refuses flags of settings that the objective does not have, and former names."""
    from rl_discovery.meta.objective_settings import check_fields

    for word in argv:
        part, dot, name = word.partition("=")[0].replace("_", "-").partition(".")
        if part == "--drift" and dot:
            raise UsageError(f"--drift.{name} is now --objective.{name}")
        if part == "--objective" and dot and name != "kind":
            field, known = name.replace("-", "_"), settings.names()
            check_fields(settings.kind, [field if field in known else field.removeprefix("no_")], known)


def _default_dir(config: "RunConfig") -> Path:
    return Path("runs") / config.preset


def _config_there(run_dir: Path, preset: str | None) -> "RunConfig | None":
    """The configuration of the run in a directory, whose preset must be the one asked for, if one is."""
    import jax

    from rl_discovery.checkpoints.run_directory import CONFIG
    from rl_discovery.meta.errors import ConfigError
    from rl_discovery.meta.runs.directory import read_config

    if not (run_dir / CONFIG).exists():
        return None
    config = read_config(run_dir)
    if preset not in (None, config.preset):
        raise ConfigError(
            f"{run_dir} holds a run of preset {config.preset!r}, not {preset!r}: leave --preset out to go on "
            "with it, or choose another --run-dir"
        )
    if config.devices is not None and config.devices > jax.device_count():  # begun on a larger machine
        return dataclasses.replace(config, devices=None)
    return config


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    _join(argv)
    arguments = parse_arguments(argv, resume=True)
    config = arguments.config

    from rl_discovery.meta.config import to_json
    from rl_discovery.meta.errors import DivergedError

    if arguments.print_config:
        print(json.dumps(to_json(config), indent=2))
        return 0

    from rl_discovery.meta.runs import distributed
    from rl_discovery.meta.runs.meta_train import meta_train

    console = output.messages()
    run_dir = arguments.run_dir or _default_dir(config)
    try:
        with output.only_json():  # standard output may be full or closed, and a library may print to it
            outcome = meta_train(config, run_dir, console, profile=arguments.profile)
    except DivergedError as error:
        console.quiet = not distributed.leads()
        console.print(f"error: {error}", style="red", soft_wrap=True)
        return 3
    console.quiet = not distributed.leads()
    if outcome.signal is not None:
        again = spelling.command("meta-train", *argv)
        console.print(f"stopped at generation {outcome.generations}; resume with\n  {again}", soft_wrap=True)
        return 128 + outcome.signal
    then = spelling.command("evaluate", run_dir)
    console.print(f"done: {outcome.generations} generations in {run_dir}; next: {then}", soft_wrap=True)
    return 0


def _join(argv: Sequence[str]) -> None:
    """Meets the other processes of the run, if any: before what is imported next asks for devices."""
    pre = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--coordinator", "--process-id", "--num-processes"):
        pre.add_argument(flag)
    known, _ = pre.parse_known_args(argv)
    numbers = [known.process_id, known.num_processes]
    if any(number is not None and not number.isdecimal() for number in numbers):
        return  # tyro complains
    if {*HELP, HELP_ALL, "--print-config"} & set(argv):
        return

    from rl_discovery.meta.runs.distributed import join

    join(known.coordinator, *(None if number is None else int(number) for number in numbers))

"""`rl-discovery meta-train`: evolve an objective, or go on where a run was stopped."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.fields import flatten
from rl_discovery.checkpoints.run_directory import CONFIG
from rl_discovery.discovery.registry import load_plugin
from rl_discovery.meta import config_file
from rl_discovery.scripts import early, output
from rl_discovery.scripts.arguments import UsageError, described, parse

if TYPE_CHECKING:
    from rl_discovery.meta.config import RunConfig

HELP, HELP_ALL = ("-h", "--help"), "--help-all"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Flags of the command besides the fields of the configuration."""

    config: Path | None = None
    """TOML file with any part of the configuration, over the preset; flags go over it."""
    run_dir: Path | None = None
    """Where the run is kept; the same directory again resumes it with its own configuration (default:
    runs/PRESET)."""
    print_config: bool = False
    """Print the resolved configuration as TOML, which --config takes, and stop."""
    profile: bool = False
    """Write a trace of this call's second generation to profile/ in the run directory."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Address of process 0, where several processes make one run (detected under srun and mpirun)."""
    process_id: int | None = None
    """Rank of this process; only rank 0 writes files and prints."""
    num_processes: int | None = None
    """Number of processes."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command is asked to do.

    Attributes:
        config: of the run, validated.
        run_dir, print_config, profile, coordinator, process_id, num_processes: as in `Arguments`.
    """

    config: "RunConfig"
    run_dir: Path | None
    print_config: bool
    profile: bool
    coordinator: str | None
    process_id: int | None
    num_processes: int | None


def parse_arguments(argv: Sequence[str], *, resume: bool = False) -> Request:
    """What the command is asked to do; `sweep` asks it of its trials.

    The configuration is the preset's, or the run directory's where one is resumed, then what `--config` says,
    then the flags.

    Args:
        argv: what follows the command's name.
        resume: begin with the configuration of the run directory, where that holds one, in place of the
            preset's.

    Raises:
        UsageError, ConfigError, RunError: in one line; see `parse`, `validate` and `read_config`.
    """
    asked = early.base_arguments(argv)
    file = config_file.read(asked.config) if asked.config else None
    preset = config_file.preset_of(file, asked.preset)
    for module in file.plugins if file else ():
        load_plugin(module)

    from rl_discovery.meta.config import RunConfig, to_json, validate
    from rl_discovery.meta.objective_settings import objective_settings, of_kind
    from rl_discovery.meta.presets import PRESETS
    from rl_discovery.scripts.meta_train_help import DESCRIPTION, after_all

    base = PRESETS.find(preset or config_file.DEFAULT_PRESET).config
    if resume:
        base = _config_there(asked.run_dir or _default_dir(base), preset) or base
    if file is not None:
        base = file.over(base)
    if asked.kind is not None:
        base = dataclasses.replace(base, objective=of_kind(base.objective, asked.kind))
    early.check_settings(argv, base.objective.kind, base.objective.names())
    fields = dataclasses.field(default=described(base))
    annotation = Annotated[RunConfig, tyro.conf.arg(name="")]
    whole: Any = dataclasses.make_dataclass(
        "Whole", [("fields", annotation, fields)], bases=(Arguments,), frozen=True
    )
    words = [HELP[0] if word == HELP_ALL else word for word in argv]
    try:
        arguments = parse(
            whole, words, "meta-train", DESCRIPTION, negative_switches=True, known=flatten(to_json(base))
        )
    except SystemExit:
        print(after_all(base.objective))
        raise
    config = validate(arguments.fields)
    if asked.kind is not None and config.objective.kind != objective_settings(asked.kind).kind:
        raise UsageError(
            f"--objective.kind {asked.kind} with these settings is {config.objective.kind}: change either"
        )
    others = (field.name for field in dataclasses.fields(Request) if field.name != "config")
    return Request(config, **{name: getattr(arguments, name) for name in others})


def _default_dir(config: "RunConfig") -> Path:
    return Path("runs") / config.preset


def _config_there(run_dir: Path, preset: str | None) -> "RunConfig | None":
    """The configuration of the run in a directory, whose preset must be the one asked for, if one is."""
    import jax

    from rl_discovery.meta.runs.directory import read_config

    if not (run_dir / CONFIG).exists():
        return None
    config = read_config(run_dir)
    early.refuse_other_preset(run_dir, config.preset, preset)
    if config.devices is not None and config.devices > jax.device_count():  # begun on a larger machine
        return dataclasses.replace(config, devices=None)
    return config


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    if {*HELP} & {*argv}:
        from rl_discovery.scripts.meta_train_help import essentials

        print(essentials(early.base_arguments(argv)))
        return 0
    if HELP_ALL not in argv:
        early.check(argv, resume=True)
    _join(argv)
    arguments = parse_arguments(argv, resume=True)
    config = arguments.config

    from rl_discovery.meta.errors import DivergedError

    if arguments.print_config:
        print(config_file.to_toml(config), end="")
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
        console.print(
            f"stopped after {outcome.generations} generations; resume with\n  {again}", soft_wrap=True
        )
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

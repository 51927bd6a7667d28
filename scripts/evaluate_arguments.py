"""The arguments of `evaluate`, checked before JAX is imported."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from rl_discovery.checkpoints import spelling
from rl_discovery.scripts import index
from rl_discovery.scripts.arguments import UsageError, check_folder, check_horizons, check_positive, parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Train agents from scratch with each objective on every level of a suite, and score them.

    Scores are (return - random policy) / (best policy - random policy), where both can be computed.
    """

    objectives: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar=f"{index.choices('loadable')}|RUN|FILE ..."),
    ]
    """Names of shipped or hand-written objectives, run directories, or exported .safetensors files.
    A name of which there is a file or folder too is spelled shipped:NAME or ./NAME."""

    suite: Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"{index.choices('suites')} ...")] = ("unseen",)
    """What to train on, one or several: these suites, level distributions
    (gridworld/dense), environments (CartPole-v1), or of a module of yours my_module:FAMILY/NAME."""

    horizons: tuple[int, ...] = ()
    """Lifetimes in the suites' unit, agent updates or environment steps (default: each suite's own)."""

    seeds: int = 5
    """Agents per level; fewer than three give no confidence interval."""

    baselines: tuple[str, ...] = (f"{spelling.SHIPPED}a2c", f"{spelling.SHIPPED}random")
    """Objectives to compare with, named as OBJECTIVE is."""

    tune: bool = False
    """First choose the best of 18 settings (step size, entropy bonus, gamma) for each hand-written
    objective."""

    tune_step_size: bool = False
    """First choose the best of five step sizes for each objective, learned ones too."""

    levels: int | None = None
    """Levels drawn from each level distribution (default: the suite's own number)."""

    workers: int | None = None
    """Workers (copies of the environment) per agent. Default: the published number on control suites;
    elsewhere the number that the first evolved objective was trained with."""

    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers of agents with an MLP (default: those of the environment and rule)."""

    block_size: int | None = None
    """Agents trained side by side on a device (default: as many as have 128 workers together; a GPU needs
    thousands)."""

    devices: int | None = None
    """Devices to use (default: all; on a CPU one per core). Does not change the results."""

    curve_points: int | None = None
    """Points of each learning curve, including the end; each costs 16 episodes per agent (default: 10)."""

    no_cache: bool = False
    """Compute everything again and store nothing. By default finished results are stored and reused, so that
    a stopped evaluation continues where it was."""

    out: Path | None = None
    """Folder for results and figures (default: the run directory, if OBJECTIVE is a single run)."""

    json: bool = False
    """Print the results as one JSON document."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments.

    Raises:
        UsageError, PlaceError, UnknownNameError, CheckpointError: they make no sense; one line.
    """
    arguments = parse(Arguments, argv, "evaluate")
    if not arguments.objectives:
        raise UsageError("which objective? (`rl-discovery evaluate --help` says what can be named)")
    check_positive(arguments, "seeds", "levels", "workers", "block_size", "curve_points", "devices")
    check_horizons(arguments.horizons)
    if arguments.tune and arguments.tune_step_size:
        raise UsageError("--tune and --tune-step-size are two searches: give one of them")
    if arguments.hidden and min(arguments.hidden) < 1:
        raise UsageError(f"--hidden must be positive, not {min(arguments.hidden)}")
    if arguments.out is not None:
        check_folder(arguments.out)
    for name in arguments.suite:
        index.check_suite(name)
    for name in (*arguments.objectives, *arguments.baselines):
        index.check_objective(name)
    return arguments

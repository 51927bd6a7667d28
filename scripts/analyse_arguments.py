"""The arguments of `analyse`, checked before JAX is imported."""

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
    """What an objective does with its inputs and over an agent's lifetime; figures and analysis.json.

    For LPG the response of pihat; for objectives in PPO's loop the drift beside PPO and DPO and, if it is
    learned, a formula for it that is an objective of its own. For both, agents over their lifetime, and what
    becomes of them if the objective is told a wrong n/N.
    """

    objective: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar=f"{index.choices('loadable')}|RUN|FILE")
    ] = ""
    """A run directory, an exported .safetensors, a shipped name, or a hand-written drift (ppo, dpo)."""

    out: Path | None = None
    """Folder for what is found (default: `analysis` in the run directory, if OBJECTIVE is one)."""

    horizons: tuple[int, ...] = ()
    """N at which response or drift are looked at (default: what the objective was evolved with, from its
    shortest to its longest lifetime)."""

    suite: Annotated[str, tyro.conf.arg(metavar=index.choices("suites"))] = "unseen"
    """Where agents are trained: on the first environment of this suite or on
    this level distribution."""

    levels: int = 16
    """Levels that agents are trained on."""

    seeds: int = 8
    """Agents per level; fewer than three give no confidence interval."""

    lifetime: int = 100
    """N of the agents that are trained, in agent updates."""

    workers: int | None = None
    """Workers of every agent (default: what the objective was evolved with, else the published)."""

    terms: int = 8
    """Terms that the formula may have."""

    devices: int | None = None
    """Devices to use (default: all). Results do not depend on it."""

    json: bool = False
    """Print analysis.json."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments.

    Raises:
        UsageError, PlaceError, UnknownNameError, CheckpointError: they make no sense; one line.
    """
    arguments = parse(Arguments, argv, "analyse")
    if not arguments.objective:
        raise UsageError("which objective? (`rl-discovery analyse --help` says what can be named)")
    check_positive(arguments, "levels", "seeds", "lifetime", "workers", "terms", "devices")
    check_horizons(arguments.horizons)
    index.check_suite(arguments.suite)
    index.check_objective(arguments.objective)
    path = spelling.path_of(arguments.objective)
    if arguments.out is None and not path.is_dir():
        raise UsageError("where to? give --out DIR for an objective that is not a run")
    check_folder(arguments.out or path)
    return arguments

"""The arguments of `report`, checked before JAX is imported."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from rl_discovery.checkpoints import spelling
from rl_discovery.scripts import index
from rl_discovery.scripts.arguments import PlaceError, UsageError, check_folder, parse


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write a report on a run or an objective as one HTML file that opens offline: results, curves,
    evaluation, analysis, agents, levels, configuration, provenance. Several are compared on one page.

    Run `evaluate` and `analyse` first: they fill their sections.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run directories, exported .safetensors files, or names of shipped objectives."""

    out: Path | None = None
    """The file to write, replaced if it exists (default: report.html in the run directory, if RUN is a
    single one)."""

    evaluation: tuple[Path, ...] = ()
    """A results.json or its folder for each RUN (default: the run's own)."""

    analysis: tuple[Path, ...] = ()
    """An analysis.json or its folder for each RUN (default: the run's own)."""

    levels: int = 3
    """Levels on which an agent is trained, to be shown before and after; 0: none."""

    seed: int = 0
    """Seed of these levels and agents."""


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """The arguments.

    Raises:
        UsageError, PlaceError, RunError, CheckpointError: they make no sense; one line.
    """
    arguments = parse(Arguments, argv, "report")
    runs = arguments.runs
    if not runs:
        raise UsageError("which run? (`rl-discovery report --help` says what can be named)")
    if len(set(runs)) < len(runs):
        raise UsageError(f"runs must differ from each other, not {' '.join(runs)}")
    if len(runs) > 1 and arguments.out is None:
        raise UsageError("where to? give --out FILE.html for several runs")
    if arguments.out is not None and arguments.out.suffix not in (".html", ".htm"):
        raise UsageError(f"--out must end in .html, not {arguments.out}")
    if arguments.levels < 0:
        raise UsageError(f"--levels must not be negative, not {arguments.levels}")
    if not 0 <= arguments.seed < 2**32:
        raise UsageError(f"--seed must be from 0 to {2**32 - 1}, not {arguments.seed}")
    for name in ("evaluation", "analysis"):
        if len(given := getattr(arguments, name)) not in (0, len(runs)):
            raise UsageError(f"--{name} takes one path for each RUN: {len(runs)}, not {len(given)}")
        if missing := [path for path in given if not path.exists()]:
            raise PlaceError(f"--{name}: there is no {missing[0]}")
    for name in runs:
        index.check_run(name)
    beside = spelling.path_of(runs[0])
    if arguments.out is None and (beside.is_file() or index.is_objective(runs[0])):
        raise UsageError("where to? give --out FILE.html for an objective that is not a run")
    check_folder(beside if arguments.out is None else arguments.out.parent)
    return arguments

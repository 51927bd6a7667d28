"""The arguments of `report`, checked before JAX is imported."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.run_directory import read_document
from rl_discovery.scripts import index
from rl_discovery.scripts.arguments import UsageError, parse


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
        UsageError, RunError: they make no sense; one line.
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
    document = index.to_check_by()
    for name in runs:
        if document is not None and is_path(name) and index.is_nowhere(name, document):
            read_document(Path(name))  # which says what is missing
    return arguments


def is_path(name: str) -> bool:
    """Whether it is the path of a run, not of a file, nor `shipped:NAME`."""
    return not name.startswith(spelling.SHIPPED) and not name.endswith(".safetensors")

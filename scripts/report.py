"""`rl-discovery report RUN...`: a run, or several beside each other, as one HTML file."""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

import tyro

from rl_discovery.checkpoints import load_objective, spelling
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.fields import changed
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.run_directory import OBJECTIVE
from rl_discovery.envs.registry import family_of
from rl_discovery.evaluation import report
from rl_discovery.meta.config import RunConfig, from_json, to_json
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.objective_settings import of_kind
from rl_discovery.meta.presets import PRESETS
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import UsageError, parse
from rl_discovery.scripts.evaluate import check_writable
from rl_discovery.scripts.flags import flag


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write a run's report as one HTML file that opens offline: summary, curves, evaluation, analysis,
    agents, levels, configuration, provenance. Several runs are compared on one page.

    `evaluate` and `analyse` fill their sections: run them first. Needs the extra `report`.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""

    out: Path | None = None
    """The file to write; replaced if it is there (default: report.html in the directory of a single run)."""

    evaluation: tuple[Path, ...] = ()
    """A results.json or its folder for each RUN (default: the run's own)."""

    analysis: tuple[Path, ...] = ()
    """An analysis.json or its folder for each RUN (default: the run's own)."""

    levels: int = 3
    """Levels on which an agent is trained to be shown before and after; 0: none."""

    seed: int = 0
    """Seed of these levels and agents."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "report")
    _check(arguments)
    report.require("report", "a report needs", {"plotly": "plotly", "jinja2": "jinja2"})
    out = arguments.out or arguments.runs[0] / "report.html"
    console = output.messages()
    with output.only_json():
        sources = _sources(arguments)
        check_writable(out.parent)
        document = report.gather(
            sources,
            made=_made(),
            command=spelling.command("report", *argv),
            progress=lambda stage: console.print(stage, soft_wrap=True),
        )
        page = report.render(document).encode()
        replace_file(out, page)
    console.print(f"wrote {out} ({len(page) / 1e6:.1f} MB)", soft_wrap=True)
    return 0


def _check(arguments: Arguments) -> None:
    runs = arguments.runs
    if not runs:
        raise UsageError("which run? (`rl-discovery report --help` says what can be named)")
    if len({path.resolve() for path in runs}) < len(runs):
        raise UsageError(f"runs must differ from each other, not {' '.join(map(str, runs))}")
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


def _sources(arguments: Arguments) -> list[report.Source]:
    names = [path.resolve().name for path in arguments.runs]
    sources = []
    for i, path in enumerate(arguments.runs):
        files = report.read_run(
            path,
            names[i] if names.count(names[i]) == 1 else str(path),
            arguments.evaluation[i] if arguments.evaluation else None,
            arguments.analysis[i] if arguments.analysis else None,
        )
        config = _config(files)
        files = dataclasses.replace(files, config=to_json(config))  # with what an older version left out
        source = (files, reproduce(config, path), _reported(files, config), arguments.levels, arguments.seed)
        sources.append(report.Source(*source))
    return sources


def _config(files: report.RunFiles) -> RunConfig:
    try:
        return from_json(files.config)
    except ConfigError as error:
        raise report.ReportError(
            f"{files.path / 'config.json'} is damaged or of another version: {error}; restore a backup"
        ) from None


def _reported(files: report.RunFiles, config: RunConfig) -> report.ReportedRun | None:
    """What agents are trained with and on; of several environments the first."""
    if not (files.path / OBJECTIVE).exists():
        return None
    distribution = config.levels.build()
    family = family_of(config.levels.distribution)
    full = (
        f"{family.name}/{distribution.name}"
        if distribution.name in family.distributions
        else distribution.name
    )
    return report.ReportedRun(load_objective(files.path), distribution, full, config.agent)


def reproduce(config: RunConfig, run_dir: Path) -> str:
    """The command line that makes a run of this configuration: its preset and what differs from that.

    A preset that is not one of ours, from Python, is told by all that differs from the default one.
    """
    preset = config.preset if config.preset in PRESETS else "ta-lpg"
    base = dataclasses.replace(PRESETS[preset].config, preset=config.preset)
    words = ["--preset", preset, "--run-dir", spelling.word(run_dir)]
    kind = config.objective.kind
    if of_kind(base.objective, kind) != base.objective:
        base = dataclasses.replace(base, objective=of_kind(base.objective, kind))
        words += flag("objective.kind", kind)
    for name, value in changed(to_json(config), to_json(base)).items():
        words += [] if name == "objective.kind" else flag(name, value)
    return spelling.command("meta-train", *words)


def _made() -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    return f"Made on {today} by rl-discovery {versions().get('rl-discovery', '(a checkout)')}"

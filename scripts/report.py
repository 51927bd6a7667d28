"""`rl-discovery report RUN...`: runs or objectives, one or several beside each other, as one HTML file."""

import contextlib
import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path

from rl_discovery.checkpoints import load_objective, spelling
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.fields import changed
from rl_discovery.checkpoints.loading import find_path
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.run_directory import OBJECTIVE
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.envs.registry import full_name
from rl_discovery.evaluation import report
from rl_discovery.meta.config import RunConfig, from_json, to_json
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.objective_settings import of_kind
from rl_discovery.meta.presets import PRESETS
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import UsageError
from rl_discovery.scripts.evaluate import check_writable
from rl_discovery.scripts.flags import flag
from rl_discovery.scripts.report_arguments import Arguments, parse_arguments


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse_arguments(argv)
    paths = [find_path(name) for name in arguments.runs]
    out = arguments.out or _beside(paths)
    console = output.messages()
    with output.only_json():
        labels = spelling.short(arguments.runs)
        sources = [_source(arguments, i, path, labels[i]) for i, path in enumerate(paths)]
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


def _is_run(path: Path | None) -> bool:
    return path is not None and not path.is_file() and path.suffix != spelling.SUFFIX


def _beside(paths: Sequence[Path | None]) -> Path:
    (path,) = paths
    if path is None or not _is_run(path):
        raise UsageError("where to? give --out FILE.html for an objective that is not a run")
    return path / "report.html"


def _source(arguments: Arguments, number: int, path: Path | None, label: str) -> report.Source:
    word = arguments.runs[number]
    results, analysis = (
        given[number] if given else None for given in (arguments.evaluation, arguments.analysis)
    )
    if path is not None and _is_run(path):
        files = report.read_run(path, label, results, analysis)
        objective = load_objective(path) if (path / OBJECTIVE).exists() else None
        config = _config(files)
        reported = None if objective is None else _reported(objective, config)
    else:
        objective = load_objective(word)
        if not objective.card:
            raise UsageError(f"{label} is hand-written: a report is of a run or of an evolved objective")
        files = report.read_card(word if path is None else path, label, objective, results, analysis)
        config, reported = None, None
        with contextlib.suppress(ValueError):  # cards come from everywhere, and from other versions
            config = from_json(files.config) if files.config else None
            reported = None if config is None else _reported(objective, config)
    if config is None:
        return report.Source(files, None, None, arguments.levels, arguments.seed)
    files = dataclasses.replace(files, config=to_json(config))  # with what an older version left out
    run_dir = path if path is not None and _is_run(path) else Path("runs") / label
    return report.Source(files, reproduce(config, run_dir), reported, arguments.levels, arguments.seed)


def _config(files: report.RunFiles) -> RunConfig:
    try:
        return from_json(files.config)
    except ConfigError as error:
        raise report.ReportError(
            f"{files.path}/config.json is damaged or of another version: {error}; restore a backup"
        ) from None


def _reported(objective: TrainedObjective, config: RunConfig) -> report.ReportedRun:
    """What agents are trained with and on; of several environments the first."""
    return report.ReportedRun(
        objective,
        config.levels.build(),
        full_name(config.levels.distribution),
        config.agent.without_variation(),
    )


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

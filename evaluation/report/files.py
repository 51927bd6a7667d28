"""Reading a run directory for a report: everything is whole, or one line says which file is not.

`meta.runs.directory` owns these files; evaluation does not import meta, and a report has other wishes: it
reads runs that other processes write.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.errors import one_line, reason
from rl_discovery.checkpoints.loading import RUN_FILE
from rl_discovery.evaluation.analysis.record import Analysis
from rl_discovery.evaluation.errors import ReportError, ResultsError
from rl_discovery.evaluation.results import Results, first_problem

FORMAT = 1
"""Version of config.json and analysis.json; a higher one is refused."""

PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """What a run directory holds.

    Attributes:
        path: the directory.
        name: how the report calls it.
        config: the resolved configuration.
        versions: packages that the run was started with.
        rows: of metrics.jsonl.
        results: what `evaluate` found, if it was run.
        analysis: what `analyse` found, if it was run.
        gallery: the curriculum's, if it drew one.
        objective_sha256: of the objective's file, if there is one.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: tuple[Mapping[str, Any], ...]
    results: Results | None
    analysis: Analysis | None
    gallery: bytes | None
    objective_sha256: str | None


def read_run(
    path: Path, name: str = "", results: Path | None = None, analysis: Path | None = None
) -> RunFiles:
    """Reads a run.

    Args:
        path: the run directory.
        name: how to call it (default: the directory's name).
        results: a results.json or its folder, in place of the run's own.
        analysis: an analysis.json or its folder, in place of the run's own.

    Raises:
        ReportError: no run directory, or a file in it is damaged.
    """
    _check_within(path, "config.json", "metrics.jsonl", "gallery.png", RUN_FILE)
    config, versions = _read_config(path)
    found_results = _find("results.json", results, (path, path / "evaluation"))
    found_analysis = _find("analysis.json", analysis, (path / "analysis", path))
    objective = path / RUN_FILE
    return RunFiles(
        path=path,
        name=name or path.resolve().name,
        config=config,
        versions=versions,
        rows=_read_metrics(path / "metrics.jsonl"),
        results=None if found_results is None else _read_results(found_results),
        analysis=None if found_analysis is None else _read_analysis(found_analysis),
        gallery=_read_gallery(path / "gallery.png"),
        objective_sha256=_sha256(objective) if objective.exists() else None,
    )


def _read_config(path: Path) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    file = path / "config.json"
    if not file.is_file():
        raise ReportError(
            f"{path} is no run directory: it has no config.json (`rl-discovery meta-train` makes one)"
        )
    document = _read_json(file, untrusted.CONFIG, "restore it from a backup")
    if not isinstance(document.get("config"), dict):
        raise ReportError(f"{file} is damaged: it holds no configuration; restore it from a backup")
    versions = document.get("versions")
    return document["config"], versions if isinstance(versions, dict) else {}


def _read_metrics(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Whole lines; the last one may be cut short, because the run may be writing it right now."""
    rows: list[Mapping[str, Any]] = []
    if not path.exists():
        return ()
    try:
        for line in untrusted.metrics_lines(path):
            if line.endswith(b"\n"):
                rows.append(untrusted.metrics_row(line))  # noqa: PERF401 - the message counts them
    except untrusted.RefusedError as error:
        raise ReportError(
            f"{path} is damaged in line {len(rows) + 1}: it {one_line(str(error))}; resume the run, which "
            "repairs it from the checkpoint, or delete the line"
        ) from None
    except OSError as error:
        raise ReportError(f"cannot read {path}: {reason(error)}") from None
    return tuple(rows)


def _read_results(path: Path) -> Results:
    try:
        results = Results.load(path)
    except ResultsError as error:
        raise ReportError(f"{error}; `rl-discovery evaluate` writes it anew") from None
    if not results.cells or not results.aggregate:
        raise ReportError(f"{path} holds no results; `rl-discovery evaluate` writes it anew")
    return results


def _read_analysis(path: Path) -> Analysis:
    again = "`rl-discovery analyse` writes it anew"
    document = _read_json(path, untrusted.RESULTS, again)
    try:
        analysis = Analysis.model_validate(document)
    except ValidationError as error:
        raise ReportError(f"{path} is damaged: {first_problem(error)}; {again}") from None
    if analysis.drift is None and analysis.response is None:
        raise ReportError(f"{path} is damaged: it has neither drift nor response; {again}")
    return analysis


def _sha256(path: Path) -> str:
    return hashlib.sha256(_read_bytes(path, untrusted.OBJECTIVE)).hexdigest()


def _read_gallery(path: Path) -> bytes | None:
    if not path.exists():
        return None
    data = _read_bytes(path, untrusted.PICTURE)
    if not data.startswith(PNG):
        raise ReportError(
            f"{path} is damaged: it is no PNG; delete it, the run draws it at its next checkpoint"
        )
    return data


def _read_json(path: Path, limit: int, advice: str) -> Any:
    """A document of our format."""
    try:
        document = untrusted.read_json(path, limit)
        untrusted.check_version(document, FORMAT)
        return document
    except OSError as error:
        raise ReportError(f"cannot read {path}: {reason(error)}; {advice}") from None
    except untrusted.RefusedError as error:
        raise ReportError(f"{path} {one_line(str(error))}; {advice}") from None


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        return untrusted.read_bytes(path, limit)
    except OSError as error:
        raise ReportError(f"cannot read {path}: {reason(error)}") from None
    except untrusted.RefusedError as error:
        raise ReportError(f"{path} {error}") from None


def _find(name: str, given: Path | None, places: tuple[Path, ...]) -> Path | None:
    """The file that was asked for, which must be there, or the first of the usual ones."""
    if given is not None:
        path = given / name if given.is_dir() else given
        if not path.is_file():
            raise ReportError(f"there is no {path}")
        return path
    folder = next((place for place in places if (place / name).is_file()), None)
    if folder is None:
        return None
    _check_within(folder, name)
    return folder / name


def _check_within(folder: Path, *names: str) -> None:
    """A link may not bring files from elsewhere into a report that is passed on."""
    for name in names:
        try:
            untrusted.check_within(folder / name, folder)
        except untrusted.RefusedError as error:
            raise ReportError(f"{folder / name} {error}") from None

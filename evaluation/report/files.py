"""Reading a run directory for a report: everything is whole, or one line says which file is not.

`meta.run_dir` owns these files; evaluation does not import meta, and a report has other wishes: it reads
runs that other processes write.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from checkpoints.loading import RUN_FILE
from evaluation.analysis.record import Analysis
from evaluation.report.errors import ReportError
from evaluation.results import Results, ResultsError, first_problem

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
        objective_sha256=hashlib.sha256(objective.read_bytes()).hexdigest() if objective.exists() else None,
    )


def _read_config(path: Path) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    file = path / "config.json"
    if not file.is_file():
        raise ReportError(
            f"{path} is no run directory: it has no config.json (`rl-discovery meta-train` makes one)"
        )
    document = _read_json(file, "restore it from a backup")
    if not isinstance(document, dict) or not isinstance(document.get("config"), dict):
        raise ReportError(f"{file} is damaged: it holds no configuration; restore it from a backup")
    _check_format(file, document)
    versions = document.get("versions")
    return document["config"], versions if isinstance(versions, dict) else {}


def _read_metrics(path: Path) -> tuple[Mapping[str, Any], ...]:
    """Whole lines; the last one may be cut short, because the run may be writing it right now."""
    rows: list[Mapping[str, Any]] = []
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise ReportError(
                    f"{path} is damaged in line {number}: resume the run, which repairs it from the "
                    "checkpoint, or delete the line"
                ) from None
            break
        if not isinstance(row, dict) or not isinstance(row.get("generation"), int):
            raise ReportError(f"{path} is damaged in line {number}: it is no generation; delete the line")
        rows.append(row)
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
    document = _read_json(path, again)
    if not isinstance(document, dict) or "format" not in document:
        raise ReportError(f"{path} is no analysis: it has no field 'format'; {again}")
    _check_format(path, document)
    try:
        found = Analysis.model_validate(document)
    except ValidationError as error:
        raise ReportError(f"{path} is damaged: {first_problem(error)}; {again}") from None
    if found.drift is None and found.response is None:
        raise ReportError(f"{path} is damaged: it has neither drift nor response; {again}")
    return found


def _read_gallery(path: Path) -> bytes | None:
    if not path.exists():
        return None
    data = path.read_bytes()
    if not data.startswith(PNG):
        raise ReportError(
            f"{path} is damaged: it is no PNG; delete it, the run draws it at its next checkpoint"
        )
    return data


def _read_json(path: Path, advice: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"cannot read {path}: {error}; {advice}") from None
    except ValueError as error:
        raise ReportError(f"{path} is damaged: not JSON: {error}; {advice}") from None


def _check_format(path: Path, document: Mapping[str, Any]) -> None:
    version = document.get("format")
    if not isinstance(version, int):
        raise ReportError(f"{path} is damaged: its format is {version!r}")
    if version > FORMAT:
        raise ReportError(f"{path} has format {version}, newer than {FORMAT}: install a newer rl-discovery")


def _find(name: str, given: Path | None, places: tuple[Path, ...]) -> Path | None:
    """The file that was asked for, which must be there, or the first of the usual ones."""
    if given is not None:
        path = given / name if given.is_dir() else given
        if not path.is_file():
            raise ReportError(f"there is no {path}")
        return path
    return next((place / name for place in places if (place / name).is_file()), None)

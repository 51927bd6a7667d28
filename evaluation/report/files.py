"""What a report is made of: a run directory or an objective's file, with its evaluation and its analysis.

Everything is whole, or one line says which file is not. `checkpoints.run_directory` reads what the run wrote.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.errors import RunError, one_line, reason
from rl_discovery.checkpoints.run_directory import (
    CONFIG,
    GALLERY,
    METRICS,
    OBJECTIVE,
    objective_sha256,
    read_document,
    read_gallery,
    read_metrics,
)
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.evaluation.analysis.record import Analysis
from rl_discovery.evaluation.errors import ReportError, ResultsError
from rl_discovery.evaluation.results import Aggregate, Results, first_problem

FORMAT = 1
"""Version of analysis.json; a higher one is refused."""


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """What a run directory holds, or an objective's file with its card.

    Attributes:
        path: the directory or file; of a shipped objective its name, as commands take it.
        name: how the report calls it.
        config: the resolved configuration; empty where a card has none.
        versions: packages that the run was started with.
        rows: of metrics.jsonl; an objective's file has none.
        results: of `evaluate`, if it was run.
        analysis: of `analyse`, if it was run.
        gallery: the curriculum's, if it drew one.
        objective_sha256: of the objective's file, if there is one.
        card: of an objective's file; None for a run directory.
    """

    path: Path | str
    name: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    rows: tuple[Mapping[str, Any], ...]
    results: Results | None
    analysis: Analysis | None
    gallery: bytes | None
    objective_sha256: str | None
    card: Mapping[str, Any] | None = None

    @property
    def card_scores(self) -> tuple[Aggregate, ...]:
        """The scores that the card has of an earlier evaluation; what is damaged is left out."""
        evaluation = (self.card or {}).get("evaluation")
        entries = evaluation.get("aggregate") if isinstance(evaluation, Mapping) else None
        scores = []
        for entry in entries if isinstance(entries, list) else ():
            with contextlib.suppress(ValidationError):
                scores.append(Aggregate.model_validate(entry))
        return tuple(scores)

    @property
    def totals(self) -> Mapping[str, Any]:
        """Generations, environment steps and seconds so far: of the last row, else of the card."""
        if self.card is not None:
            return {name: self.card.get(name) for name in ("generations", "env_steps")}
        return {**(self.rows[-1] if self.rows else {}), "generations": len(self.rows)}


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
    _check_within(path, CONFIG, METRICS, GALLERY, OBJECTIVE)
    results = _find("results.json", results, (path, path / "evaluation"))
    analysis = _find("analysis.json", analysis, (path / "analysis", path))
    with _as_report_error():
        document = read_document(path)
        versions = document.get("versions")
        return RunFiles(
            path=path,
            name=name or path.resolve().name,
            config=document["config"],
            versions=versions if isinstance(versions, dict) else {},
            rows=tuple(read_metrics(path)),
            results=None if results is None else _read_results(results),
            analysis=None if analysis is None else _read_analysis(analysis),
            gallery=read_gallery(path),
            objective_sha256=objective_sha256(path),
        )


def read_card(
    path: Path | str,
    name: str,
    objective: TrainedObjective,
    results: Path | None = None,
    analysis: Path | None = None,
) -> RunFiles:
    """What an objective's file says of itself.

    Args:
        path: the file; of a shipped objective its name.
        name: how to call it.
        objective: what was loaded from there.
        results: a results.json or its folder, if there is one.
        analysis: an analysis.json or its folder, if there is one.

    Raises:
        ReportError: one of the two is not there or damaged.
    """
    results = _find("results.json", results, ())
    analysis = _find("analysis.json", analysis, ())
    card = objective.card
    config, versions = (card.get(field) or {} for field in ("config", "versions"))
    return RunFiles(
        path=path,
        name=name,
        config=config,
        versions=versions,
        rows=(),
        results=None if results is None else _read_results(results),
        analysis=None if analysis is None else _read_analysis(analysis),
        gallery=None,
        objective_sha256=hashlib.sha256(path.read_bytes()).hexdigest() if isinstance(path, Path) else None,
        card=card,
    )


@contextlib.contextmanager
def _as_report_error() -> Iterator[None]:
    try:
        yield
    except RunError as error:
        raise ReportError(str(error)) from None


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
    try:
        document = untrusted.read_json(path, untrusted.RESULTS)
        untrusted.check_version(document, FORMAT)
        analysis = Analysis.model_validate(document)
    except OSError as error:
        raise ReportError(f"cannot read {path}: {reason(error)}; {again}") from None
    except untrusted.RefusedError as error:
        raise ReportError(f"{path} {one_line(str(error))}; {again}") from None
    except ValidationError as error:
        raise ReportError(f"{path} is damaged: {first_problem(error)}; {again}") from None
    if analysis.drift is None and analysis.response is None and analysis.schedule is None:
        raise ReportError(f"{path} is damaged: it has neither drift nor response nor schedule; {again}")
    return analysis


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
    """Refuses links that would bring files from elsewhere into a report that is passed on."""
    for name in names:
        try:
            untrusted.check_within(folder / name, folder)
        except untrusted.RefusedError as error:
            raise ReportError(f"{folder / name} {error}") from None

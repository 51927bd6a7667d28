"""The document as one HTML file: jinja2's template, the style sheet, the scripts and all numbers in it.

A content security policy lets the browser run these scripts, told by their hashes, and fetch nothing at all.
"""

import base64
import hashlib
import json
from importlib import resources
from typing import Any

from rl_discovery.evaluation.report.document import Document, Explorer, Figure


def render(document: Document) -> str:
    """The page as HTML."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rl_discovery.evaluation.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    scripts = [get_plotlyjs(), _page_file("report.js")]
    return environment.get_template("report.html.jinja").render(
        report=document,
        policy=_policy(scripts),
        style=_safe(_page_file("report.css")),
        scripts=[_safe(script) for script in scripts],
        data=_safe(_json(_data(document))),
    )


def _data(document: Document) -> dict[str, Any]:
    parts = [run.analysis for run in document.runs if run.analysis is not None]
    explorers = [part.explorer for part in parts if part.explorer is not None]
    return {
        "figures": {figure.name: figure.spec for figure in _figures(document)},
        "curves": document.curves and {"runs": document.curves.runs},
        "explorers": {explorer.name: _states(explorer) for explorer in explorers},
        "walks": [
            [walk.frames for level in run.agents.levels for walk in level.walks] if run.agents else []
            for run in document.runs
        ],
    }


def _states(explorer: Explorer) -> dict[str, Any]:
    return {"states": explorer.states, "shares": explorer.shares}


def _figures(document: Document) -> list[Figure]:
    """All of the page, but for the chart of the curves, which the page's script makes."""
    figures = [] if document.evaluation is None else list(document.evaluation.figures)
    for run in document.runs:
        if run.agents is not None:
            figures.append(run.agents.curve)
        if run.analysis is not None:
            explorer = run.analysis.explorer
            figures += [
                *(explorer.figures if explorer else ()),
                *run.analysis.schedule,
                *run.analysis.figures,
            ]
    return figures


def _policy(scripts: list[str]) -> str:
    """Nothing is fetched; of scripts only ours run. Plotly writes style elements and draws data URLs."""
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _page_file(name: str) -> str:
    return (resources.files("rl_discovery.evaluation.report") / "page" / name).read_text(encoding="utf-8")


def _safe(text: str) -> Any:
    """Marked as HTML: files of ours, plotly's script, and JSON without a "<"."""
    from markupsafe import Markup

    return Markup(text)

"""The report of a run: one HTML file that asks nothing of anybody.

    source = Source(read_run(Path("runs/mine")), command, subject, levels=3, seed=0)
    page = render(gather([source], made="2026-11-26", command="rl-discovery report runs/mine"))

`files` reads, `gather` makes the document, `render` draws it. The command is `rl-discovery report`; plotly
and jinja2, the extra `report`, are imported when something is drawn.
"""

from evaluation.report.agents import Subject
from evaluation.report.document import Document
from evaluation.report.errors import MissingExtraError, ReportError, require
from evaluation.report.files import RunFiles, read_run
from evaluation.report.gather import Source, gather
from evaluation.report.render import render

__all__ = [
    "Document",
    "MissingExtraError",
    "ReportError",
    "RunFiles",
    "Source",
    "Subject",
    "gather",
    "read_run",
    "render",
    "require",
]

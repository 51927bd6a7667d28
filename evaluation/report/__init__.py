"""The report of a run or an objective: one HTML file that opens offline and makes no requests.

    source = Source(read_run(Path("runs/mine")), command, reported, levels=3, seed=0)
    page = render(gather([source], made="2026-11-26", command="rl-discovery report runs/mine"))

`files` reads, `gather` makes the document, `render` draws it. The command is `rl-discovery report`; plotly
and jinja2 are imported when something is drawn.
"""

from rl_discovery.evaluation.errors import ReportError
from rl_discovery.evaluation.report.agents import ReportedRun
from rl_discovery.evaluation.report.document import Document
from rl_discovery.evaluation.report.files import RunFiles, read_card, read_run
from rl_discovery.evaluation.report.gather import Source, gather
from rl_discovery.evaluation.report.render import render

__all__ = [
    "Document",
    "ReportError",
    "ReportedRun",
    "RunFiles",
    "Source",
    "gather",
    "read_card",
    "read_run",
    "render",
]

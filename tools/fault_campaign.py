"""Tries every fault that a run promises to survive: `python -m tools.fault_campaign`.

Each fault states what is promised and disturbs a small run in a process of its own; the run is resumed and
compared, to the last bit, with an undisturbed one.
"""

import dataclasses
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.fault_runs import Campaign, Finding
from tools.faults import FAULTS


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Which faults to try, and how often."""

    kills: int = 100
    """kill -9 at random moments, over one run."""
    generations: int = 2000
    """Generations of each run."""
    seed: int = 0
    """Seed of the moments and of the damage."""
    faults: tuple[str, ...] = ()
    """Names of faults (default: all)."""
    json: Path | None = None
    """File for the report as JSON."""


def main(argv: Sequence[str]) -> int:
    """Runs the campaign; returns 1 where a promise was broken."""
    from rl_discovery.scripts.arguments import UsageError, check_positive, parse

    arguments = parse(Arguments, argv, "fault-campaign", __doc__)
    check_positive(arguments, "kills", "generations")
    if unknown := set(arguments.faults) - set(FAULTS):
        raise UsageError(f"unknown faults {', '.join(sorted(unknown))}: there are {', '.join(FAULTS)}")
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        campaign = Campaign(
            folder, arguments.generations, arguments.kills, random.Random(arguments.seed), folder / "whole"
        )
        status, line = campaign.run(campaign.whole)
        if status:
            raise RuntimeError(f"the undisturbed run failed: {line}")
        findings = []
        for fault in arguments.faults or FAULTS:
            began = time.monotonic()
            new = list(FAULTS[fault](campaign))
            for finding in new:
                print(
                    f"{finding.fault}: {'kept' if finding.kept else 'BROKEN'} ({finding.happened})",
                    flush=True,
                )
            print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            findings += new
    print(table(findings))
    if arguments.json:
        arguments.json.write_text(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    return 0 if all(finding.kept for finding in findings) else 1


def table(findings: Sequence[Finding]) -> str:
    """The report in Markdown."""
    rows = ["| fault | promised | what happened | lost | duplicate | exact |", "|---|---|---|---|---|---|"]
    for finding in findings:
        exact = {True: "yes", False: "NO", None: "-"}[finding.exact]
        cells = [finding.fault, finding.promise, finding.happened, finding.lost, finding.duplicate, exact]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    from rl_discovery.scripts.cli import guarded

    sys.exit(guarded(lambda: main(sys.argv[1:])))

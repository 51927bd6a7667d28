"""A long run watched from outside, for what grows: `python -m scripts.soak --run-dir runs/soak`.

Memory, threads and open files of the process are read from /proc at even intervals; after a warm-up none of
them may grow. The run is one of the usual command, with checkpoints, held-out evaluations, galleries and
TensorBoard all far more often than they would be.
"""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from scripts import child

FLAGS = (
    *("--preset", "ta-lpg-groove-cpu", "--seed", "11", "--generations", "1000000", "--devices", "2"),
    *("--es.pairs", "8", "--agent.workers", "4", "--agent.rollout-steps", "8", "--objective.width", "8"),
    *("--levels.distribution", "small", "--levels.horizon", "20", "--block-size", "1"),
    *("--curriculum.buffer-size", "40", "--curriculum.minimum-fill", "0.2"),
    *("--checkpoint.every", "50", "--held-out.every", "50", "--held-out.levels", "8"),
)
"""Short generations, so that an hour holds tens of thousands; the machinery around them is the usual."""

NAMES = ("rss_mib", "threads", "files")
"""What is sampled, besides `seconds`."""

MIB_PER_HOUR = 8.0
"""Growth of memory that is none: what an allocator's arenas wander by."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How long to watch."""

    run_dir: Path
    """Of the run; must not exist."""
    minutes: float = 60.0
    """Of watching."""
    warm_up: float = 10.0
    """Minutes of those that do not count: programs compile, caches and buffers fill."""
    every: float = 5.0
    """Seconds between two samples."""
    json: Path | None = None
    """Where the samples go."""


def main(argv: Sequence[str]) -> int:
    """Runs it; 1 where something grew."""
    from scripts.arguments import UsageError, parse

    arguments = parse(Arguments, argv, "soak", __doc__)
    if not 0 < arguments.every <= 60 * arguments.warm_up < 60 * arguments.minutes:
        raise UsageError(
            "--every (seconds), --warm-up and --minutes must be above 0, each longer than the last"
        )
    if arguments.run_dir.exists():
        raise UsageError(f"{arguments.run_dir} exists: a soak begins with a run of its own")
    process = subprocess.Popen(
        [*child.COMMAND, "meta-train", *FLAGS, "--run-dir", str(arguments.run_dir)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=child.environment(),
    )
    samples = watch(process, 60 * arguments.minutes, arguments.every)
    process.terminate()
    status = process.wait(600)
    found = summary([row for row in samples if row["seconds"] >= 60 * arguments.warm_up])
    rows = (arguments.run_dir / "metrics.jsonl").read_text().count("\n")
    document = {"generations": rows, "status": status, "after_warm_up": found, "samples": samples}
    if arguments.json:
        arguments.json.write_text(json.dumps(document) + "\n")
    print(json.dumps({name: document[name] for name in ("generations", "status", "after_warm_up")}, indent=2))
    return 0 if status == 143 and not found["grew"] else 1


def watch(process: subprocess.Popen[bytes], seconds: float, every: float) -> list[dict[str, float]]:
    """Samples of a process, for so long or until it ends."""
    began = time.monotonic()
    samples = []
    while process.poll() is None and (passed := time.monotonic() - began) < seconds:
        samples.append({"seconds": round(passed, 1)} | sample(process.pid))
        time.sleep(every)
    return samples


def sample(pid: int) -> dict[str, float]:
    """Resident memory in MiB, threads, and open files of a process, as Linux tells them."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 2),
        "threads": int(status["Threads"]),
        "files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
    }


def summary(samples: Sequence[dict[str, float]]) -> dict[str, object]:
    """What the samples after the warm-up say.

    Returns:
        Lowest and highest of each quantity, the slope of memory in MiB per hour by least squares, and what
        grew: memory by more than `MIB_PER_HOUR`; threads or files where the least of the last quarter is
        above the most of the first, so that what comes and goes with a checkpoint does not count.
    """
    import numpy as np

    columns = {name: np.array([row[name] for row in samples]) for name in ("seconds", *NAMES)}
    hours = columns["seconds"] / 3600
    slope = float(np.polyfit(hours, columns["rss_mib"], 1)[0])
    quarter = max(1, len(samples) // 4)
    grew = [
        name
        for name in ("threads", "files")
        if columns[name][-quarter:].min() > columns[name][:quarter].max()
    ]
    if slope > MIB_PER_HOUR:
        grew.insert(0, "rss_mib")
    ranges = {name: [float(columns[name].min()), float(columns[name].max())] for name in NAMES}
    return {"samples": len(samples), "mib_per_hour": round(slope, 2), **ranges, "grew": grew}


if __name__ == "__main__":
    from scripts.cli import guarded

    sys.exit(guarded(lambda: main(sys.argv[1:])))

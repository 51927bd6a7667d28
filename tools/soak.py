"""Watches a long run from outside for growing memory: `python -m tools.soak --run-dir runs/soak`.

Memory, threads and open files of the process are read from /proc at even intervals; after a warm-up none of
them may grow. The run is started by the usual command, with checkpoints, held-out evaluations, galleries and
TensorBoard, all more often than usual.
"""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rl_discovery.scripts import child
from tools.fault_runs import SMALL, count_rows

FLAGS = (
    *SMALL,
    *("--seed", "11", "--generations", "1000000"),
    *("--checkpoint.every", "500", "--held-out.every", "500", "--held-out.levels", "8"),
)
"""Short generations, so that an hour holds as many as weeks of a real run; a checkpoint every 10 seconds."""

NAMES = ("rss_mib", "threads", "files")
"""Quantities that are sampled, besides `seconds`."""

TOLERANCE = 0.01
"""Share by which memory may grow; single samples vary by more, because of the allocator's arenas."""

FEWEST = 12
"""Samples that are needed at least."""

STOPPED = 128 + signal.SIGTERM
"""Exit status of a run that was stopped."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How long to watch."""

    run_dir: Path
    """Directory of the run; must not exist."""
    minutes: float = 60.0
    """How long to watch the run."""
    warm_up: float = 10.0
    """Minutes at the start that do not count, in which programs compile and caches and buffers fill."""
    every: float = 5.0
    """Seconds between two samples."""
    json: Path | None = None
    """File for the samples."""


def main(argv: Sequence[str]) -> int:
    """Runs the soak; returns 1 where something grew."""
    from rl_discovery.scripts.arguments import UsageError, parse

    arguments = parse(Arguments, argv, "soak", __doc__)
    if not 0 < arguments.every <= 60 * arguments.warm_up < 60 * arguments.minutes:
        raise UsageError("--every, --warm-up and --minutes must be above 0, each longer than the last")
    if arguments.run_dir.exists():
        raise UsageError(f"{arguments.run_dir} exists: a soak starts a new run")
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*child.COMMAND, "meta-train", *FLAGS, "--run-dir", str(arguments.run_dir)],
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=child.environment(),
        )
        try:
            samples = watch(process, 60 * arguments.minutes, arguments.every)
        finally:
            process.terminate()
            status = process.wait(600)
        said.seek(0)
        last = (said.read().strip().splitlines() or [""])[-1]
    counted = [row for row in samples if row["seconds"] >= 60 * arguments.warm_up]
    if status != STOPPED or len(counted) < FEWEST:
        print(f"error: the run ended after {len(samples)} samples, status {status}: {last}", file=sys.stderr)
        return 1
    summarised = summary(counted)
    document = {"generations": count_rows(arguments.run_dir), "after_warm_up": summarised, "samples": samples}
    if arguments.json:
        arguments.json.write_text(json.dumps(document) + "\n")
    print(json.dumps({name: document[name] for name in ("generations", "after_warm_up")}, indent=2))
    return 1 if summarised["grew"] else 0


def watch(process: subprocess.Popen[bytes], seconds: float, every: float) -> list[dict[str, float]]:
    """Samples a process every `every` seconds, for `seconds` or until it ends."""
    began = time.monotonic()
    samples = []
    while process.poll() is None and (passed := time.monotonic() - began) < seconds:
        with contextlib.suppress(KeyError, OSError):  # it ended in between
            samples.append({"seconds": round(passed, 1)} | sample(process.pid))
        time.sleep(every)
    return samples


def sample(pid: int) -> dict[str, float]:
    """Resident memory in MiB, threads, and open files of a process, from /proc."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 2),
        "threads": int(status["Threads"]),
        "files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
    }


def summary(samples: Sequence[dict[str, float]]) -> dict[str, object]:
    """Summarises the samples after the warm-up.

    Returns:
        Lowest, median and highest of each quantity, medians of the first and the last third, and what grew:
        by its median, from the first third to the last, memory by more than `TOLERANCE` of it, threads and
        files at all. What comes and goes with a checkpoint moves no median.
    """
    import numpy as np

    third = len(samples) // 3
    statistics: dict[str, object] = {"samples": len(samples)}
    grew = []
    for name in NAMES:
        values = np.array([row[name] for row in samples])
        first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
        if last > first * (1 + (TOLERANCE if name == "rss_mib" else 0)):
            grew.append(name)
        statistics[name] = {
            "lowest": float(values.min()),
            "highest": float(values.max()),
            "median_of_first_third": first,
            "median_of_last_third": last,
        }
    return statistics | {"grew": grew}


if __name__ == "__main__":
    from rl_discovery.scripts.cli import guarded

    sys.exit(guarded(lambda: main(sys.argv[1:])))

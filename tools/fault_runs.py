"""The runs of `tools.fault_campaign`: starts and stops them, and compares them with an undisturbed one."""

import contextlib
import dataclasses
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints.run_directory import METRICS, intact_metrics
from rl_discovery.scripts import child

SMALL = (
    *("--preset", "ta-lpg-groove-cpu", "--devices", "2", "--block-size", "1"),
    *("--es.pairs", "8", "--agent.workers", "4", "--agent.rollout-steps", "8", "--objective.width", "8"),
    *("--levels.distribution", "small", "--levels.horizon", "20"),
    *("--curriculum.buffer-size", "40", "--curriculum.minimum-fill", "0.2"),
)
"""A run with everything (horizon inputs, antagonists, a replay buffer) and generations of 10 to 20 ms."""

FLAGS = (
    *SMALL,
    *("--seed", "7", "--checkpoint.every", "5", "--held-out.every", "20", "--held-out.levels", "4"),
    *("--curriculum.no-gallery", "--logging.no-tensorboard"),
)
"""Flags of the campaign's runs, which spend much of their time on checkpoints, the best one included."""

TIMES = ("wall_s", "generation_s", "env_steps_per_s", "time_")
"""Beginnings of metrics that differ between two runs of the same configuration."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of one fault.

    Attributes:
        fault: what was done to the run.
        promise: what ought to happen.
        happened: what happened, in words.
        times: how often the fault was tried.
        lost: generations that are missing from metrics.jsonl in the end.
        duplicate: generations that are in it twice.
        exact: whether metrics and objective are those of the undisturbed run; None where they must differ.
        kept: whether the promise was kept.
    """

    fault: str
    promise: str
    happened: str
    times: int
    lost: int
    duplicate: int
    exact: bool | None
    kept: bool


@dataclasses.dataclass(frozen=True)
class Campaign:
    """One campaign's settings, and the undisturbed run."""

    folder: Path
    generations: int
    kills: int
    random: random.Random
    whole: Path

    def start(self, run_dir: Path, code: str | None = None) -> subprocess.Popen[str]:
        """Starts the command in a process of its own, or the program `code`, which calls it."""
        command = child.COMMAND if code is None else (sys.executable, "-c", code)
        arguments = ["meta-train", *FLAGS, "--generations", str(self.generations), "--run-dir", str(run_dir)]
        return subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=child.environment() | {"XDG_CACHE_HOME": str(self.folder / "cache")},
        )

    def run(self, run_dir: Path, code: str | None = None) -> tuple[int, str]:
        """Runs the command to its end; returns exit status and last line."""
        return end(self.start(run_dir, code))

    def compare(self, run_dir: Path) -> dict[str, Any]:
        """Lost and duplicate generations, and whether the run equals the undisturbed one."""
        rows = read_rows(run_dir)
        numbers = [row["generation"] for row in rows]
        same = stripped(rows) == stripped(read_rows(self.whole)) and tensors(run_dir) == tensors(self.whole)
        return {
            "lost": len(set(range(self.generations)) - set(numbers)),
            "duplicate": len(numbers) - len(set(numbers)),
            "exact": same,
        }

    def finding(self, fault: str, promise: str, happened: str, run_dir: Path, times: int = 1) -> Finding:
        """The finding about a run that has to be exact at its end."""
        comparison = self.compare(run_dir)
        kept = comparison == {"lost": 0, "duplicate": 0, "exact": True}
        return Finding(fault, promise, happened, times, kept=kept, **comparison)


def read_rows(run_dir: Path) -> list[dict[str, Any]]:
    """All whole lines of metrics.jsonl, duplicates included; also while it is being written."""
    return [line.row for line in intact_metrics(run_dir)]


def count_rows(run_dir: Path) -> int:
    """Whole lines in metrics.jsonl."""
    path = run_dir / METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def stripped(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the metrics that depend on time."""
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in rows]


def arrays(run_dir: Path) -> dict[tuple[str, str], Any]:
    """The arrays of the current and the best objective, where there are any, by file and name."""
    from safetensors.numpy import load_file

    return {
        (path.name, name): array
        for path in sorted(run_dir.glob("objective*.safetensors"))
        for name, array in load_file(path).items()
    }


def tensors(run_dir: Path) -> dict[tuple[str, str], bytes]:
    """The arrays of both objectives as bytes, which compare NaN as equal."""
    return {name: array.tobytes() for name, array in arrays(run_dir).items()}


def end(process: subprocess.Popen[str], seconds: float = 600) -> tuple[int, str]:
    """Waits for a process: its exit status and its last line."""
    _, err = process.communicate(timeout=seconds)
    lines = [line for line in err.splitlines() if line.strip()]
    return process.returncode, lines[-1] if lines else ""


def wait_for_rows(process: subprocess.Popen[str], run_dir: Path, rows: int) -> bool:
    """Waits until the run has `rows` generations; False where it ended before."""
    while count_rows(run_dir) < rows:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def kill_at_row(campaign: Campaign, run_dir: Path, rows: int) -> None:
    """Starts the run and kills it once it has `rows` generations."""
    process = campaign.start(run_dir)
    if not wait_for_rows(process, run_dir, rows):
        raise RuntimeError(f"ended before {rows} generations: {end(process)}")
    process.kill()
    end(process)


def wait(process: subprocess.Popen[str], seconds: float) -> None:
    """Waits for `seconds`, or until the process ends."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)

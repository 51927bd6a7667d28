"""The faults of `scripts.fault_campaign`: each happens to a run, which is then compared with another."""

import contextlib
import dataclasses
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from meta.run_files import read_metrics
from scripts import child
from scripts.fault_injections import CLOCK, INJECTIONS

FLAGS = (
    *("--preset", "ta-lpg-groove-cpu", "--seed", "7", "--checkpoint.every", "5", "--devices", "2"),
    *("--es.pairs", "8", "--agent.workers", "4", "--agent.rollout-steps", "8", "--objective.width", "8"),
    *("--levels.distribution", "small", "--levels.horizon", "20", "--block-size", "1"),
    *("--curriculum.buffer-size", "40", "--curriculum.minimum-fill", "0.2", "--curriculum.no-gallery"),
    *("--held-out.every", "20", "--held-out.levels", "4"),
    "--logging.no-tensorboard",
)
"""A run with everything: horizon inputs, antagonists, a replay buffer, a best checkpoint. Generations take
10 to 20 ms and there is a checkpoint every 5: a good part of the time goes into writing these."""

EARLY = 0.5
"""Share of the kills at a moment between the start and the first new generation; the others come after it,"""

LATE_SECONDS = 1.5
"""by so many seconds at most."""

TIMES = ("wall_s", "generation_s", "env_steps_per_s", "time_")
"""Metrics that begin like this differ between two runs of the same."""

COMMAND = "import sys; from scripts.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What became of a run.

    Attributes:
        fault: what happened to it.
        promise: what ought to come of it.
        happened: what came of it, in words.
        times: how often it was done.
        lost: generations that are missing from metrics.jsonl in the end.
        duplicate: generations that are in it twice.
        exact: whether metrics and objective are those of the undisturbed run; None where they must differ.
        kept: whether the promise was.
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
    """One campaign's settings, and the run that nothing happens to."""

    folder: Path
    generations: int
    kills: int
    random: random.Random
    whole: Path

    def start(self, run_dir: Path, code: str = COMMAND) -> subprocess.Popen[str]:
        """The command, in a process of its own."""
        arguments = ["meta-train", *FLAGS, "--generations", str(self.generations), "--run-dir", str(run_dir)]
        return subprocess.Popen(
            [*child.PYTHON, "-c", code, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=child.environment() | {"XDG_CACHE_HOME": str(self.folder / "cache")},
        )

    def run(self, run_dir: Path, code: str = COMMAND) -> tuple[int, str]:
        """The command to its end: exit status and last line."""
        return _end(self.start(run_dir, code))

    def compare(self, run_dir: Path) -> dict[str, Any]:
        """Lost and duplicate generations, and whether the run is the undisturbed one."""
        rows = read_rows(run_dir)
        numbers = [row["generation"] for row in rows]
        same = stripped(rows) == stripped(read_rows(self.whole)) and tensors(run_dir) == tensors(self.whole)
        return {
            "lost": len(set(range(self.generations)) - set(numbers)),
            "duplicate": len(numbers) - len(set(numbers)),
            "exact": same,
        }

    def finding(self, fault: str, promise: str, happened: str, run_dir: Path, times: int = 1) -> Finding:
        """Of a run that was to be exact in the end."""
        found = self.compare(run_dir)
        kept = found == {"lost": 0, "duplicate": 0, "exact": True}
        return Finding(fault, promise, happened, times, kept=kept, **found)


def read_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl, whatever is in it twice; also while somebody writes it."""
    return list(read_metrics(run_dir / "metrics.jsonl"))


def count_rows(run_dir: Path) -> int:
    """The same, counted."""
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def stripped(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what a clock says."""
    return [{k: v for k, v in row.items() if not k.startswith(TIMES)} for row in rows]


def arrays(run_dir: Path) -> dict[tuple[str, str], Any]:
    """The arrays of the current and the best objective, as far as there are these."""
    from safetensors.numpy import load_file

    return {
        (path.name, name): array
        for path in sorted(run_dir.glob("objective*.safetensors"))
        for name, array in load_file(path).items()
    }


def tensors(run_dir: Path) -> dict[tuple[str, str], bytes]:
    """The same as bytes."""
    return {name: array.tobytes() for name, array in arrays(run_dir).items()}


def _end(process: subprocess.Popen[str], seconds: float = 600) -> tuple[int, str]:
    _, err = process.communicate(timeout=seconds)
    lines = [line for line in err.splitlines() if line.strip()]
    return process.returncode, lines[-1] if lines else ""


def _wait_for_rows(process: subprocess.Popen[str], run_dir: Path, rows: int) -> bool:
    """Waits until the run has so many generations; False where it ended before."""
    while count_rows(run_dir) < rows:
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def _kill_at_row(campaign: Campaign, run_dir: Path, rows: int) -> None:
    """Starts the run and kills it once it has so many generations."""
    process = campaign.start(run_dir)
    if not _wait_for_rows(process, run_dir, rows):
        raise RuntimeError(f"ended before {rows} generations: {_end(process)}")
    process.kill()
    _end(process)


def kills(campaign: Campaign) -> Iterator[Finding]:
    """kill -9, again and again; a run that is done before the last one begins anew."""
    run_dir, done, runs = campaign.folder / "kills", 0, 1
    start_up = 6.0
    while done < campaign.kills:
        rows, began, process = count_rows(run_dir), time.monotonic(), campaign.start(run_dir)
        if campaign.random.random() < EARLY:
            _wait(process, campaign.random.uniform(0, start_up))
        elif _wait_for_rows(process, run_dir, rows + 1):
            start_up = time.monotonic() - began
            _wait(process, campaign.random.uniform(0, LATE_SECONDS))
        if process.poll() is None:
            process.kill()
            done += 1
        status, line = _end(process)
        if status not in (0, -signal.SIGKILL):
            yield Finding("kill -9", "resumes", f"status {status}: {line}", done, 0, 0, False, kept=False)
            return
        if status == 0:
            found = campaign.finding("kill -9", "", "", run_dir, done)
            if not found.kept:
                yield dataclasses.replace(found, happened=f"differs after {done} kills")
                return
            shutil.rmtree(run_dir)
            runs += 1
    status, line = campaign.run(run_dir)
    yield campaign.finding(
        "kill -9 at random moments",
        "nothing lost but what a checkpoint did not hold, which is done again; exact",
        f"{done} kills over {runs} run(s), each resumed to its end (status {status})",
        run_dir,
        done,
    )


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    """So long, but not beyond the process's end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def damaged_checkpoints(campaign: Campaign) -> Iterator[Finding]:
    """The newest checkpoint cut short, or one of its bits turned, in each kind of file that it has."""
    for name, damage in (("truncated", _truncate), ("bit-flipped", _flip)):
        run_dir, times = campaign.folder / name, 0
        _kill_at_row(campaign, run_dir, 9 * campaign.generations // 10)
        template = campaign.folder / f"{name}-template"
        shutil.copytree(run_dir, template)
        steps = sorted(int(p.name) for p in (run_dir / "checkpoints").iterdir() if p.name.isdecimal())
        newest = template / "checkpoints" / str(steps[-1])
        files = sorted(path.relative_to(template) for path in newest.rglob("*") if path.is_file())
        chosen = [path for path in files if (template / path).stat().st_size]
        findings = []
        for path in chosen:
            shutil.rmtree(run_dir)
            shutil.copytree(template, run_dir)
            damage(campaign, run_dir / path)
            status, line = campaign.run(run_dir)
            times += 1
            findings.append(campaign.finding(f"{path.name}: {line}", "", str(status), run_dir))
        bad = [finding.fault for finding in findings if not finding.kept]
        yield Finding(
            f"{name} checkpoint files",
            "falls back to the checkpoint before, or does not need the file; exact",
            f"{times} files of the newest checkpoint, one at a time" + (f"; broken: {bad}" if bad else ""),
            times,
            sum(finding.lost for finding in findings),
            sum(finding.duplicate for finding in findings),
            all(finding.exact for finding in findings),
            kept=not bad,
        )


def _truncate(campaign: Campaign, path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, campaign.random.randrange(size))


def _flip(campaign: Campaign, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[campaign.random.randrange(len(data))] ^= 1 << campaign.random.randrange(8)
    path.write_bytes(bytes(data))


def full_disk(campaign: Campaign) -> Iterator[Finding]:
    """A file system that fills up while the run goes, and is given space afterwards."""
    promise = "one clear line, status 1, nothing half-written; with space again the run goes on; exact"
    with _tmpfs(campaign.folder / "small", "1m") as mount:
        yield _refused(campaign, "full disk (tmpfs of 1 MB)", promise, mount, "size=64m")


def read_only(campaign: Campaign) -> Iterator[Finding]:
    """A run directory that may no longer be written."""
    promise = "one clear line, status 1, nothing changed; writable again the run goes on; exact"
    with _tmpfs(campaign.folder / "readonly", "64m") as mount:
        if mount is not None:
            _kill_at_row(campaign, mount / "run", campaign.generations // 4)
            _remount(mount, "ro")
        yield _refused(campaign, "read-only directory", promise, mount, "rw")


def _refused(campaign: Campaign, fault: str, promise: str, mount: Path | None, relief: str) -> Finding:
    """A run on a file system that fails it, and again once that is remounted with `relief`."""
    if mount is None:
        return Finding(
            fault, promise, "NOT DONE: needs the right to mount a tmpfs", 0, 0, 0, None, kept=False
        )
    run_dir = mount / "run"
    status, line = campaign.run(run_dir)
    _remount(mount, relief)
    again, _ = campaign.run(run_dir)
    found = campaign.finding(fault, promise, f"status {status}, `{_short(line)}`; then {again}", run_dir)
    clear = status == 1 and line.startswith("error: ") and again == 0
    return dataclasses.replace(found, kept=found.kept and clear)


def clock_set_back(campaign: Campaign) -> Iterator[Finding]:
    """The clock of the second start is a day behind."""
    run_dir = campaign.folder / "clock"
    _kill_at_row(campaign, run_dir, campaign.generations // 3)
    status, _ = campaign.run(run_dir, CLOCK)
    found = campaign.finding("clock set back a day", "no part of a result depends on it; exact", "", run_dir)
    walls = [row["wall_s"] for row in read_rows(run_dir)]
    grows = all(before <= after for before, after in itertools.pairwise(walls))
    happened = f"resumed to the end (status {status}); wall_s {'never falls' if grows else 'FALLS'}"
    yield dataclasses.replace(found, happened=happened, kept=found.kept and grows)


def two_starters(campaign: Campaign) -> Iterator[Finding]:
    """A second process in the same run directory."""
    run_dir = campaign.folder / "two"
    first = campaign.start(run_dir)
    _wait_for_rows(first, run_dir, 3)
    first.send_signal(signal.SIGSTOP)  # or it might be done before the second has begun
    status, line = campaign.run(run_dir)
    first.send_signal(signal.SIGCONT)
    ended, _ = _end(first)
    found = campaign.finding(
        "two starters", "the second is refused, the first does not notice; exact", "", run_dir
    )
    yield dataclasses.replace(
        found,
        happened=f"second: status {status}, `{_short(line)}`; first: {ended}",
        kept=found.kept and status == 1 and "in use by a live process" in line and ended == 0,
    )


def injections(campaign: Campaign) -> Iterator[Finding]:
    """NaN and infinities where numbers are made."""
    for name, injection in INJECTIONS.items():
        run_dir = campaign.folder / f"inject-{len(list(campaign.folder.iterdir()))}"
        status, line = campaign.run(run_dir, injection.code)
        rows = read_rows(run_dir)
        numbers = [row["generation"] for row in rows]
        finite = tensors_finite(run_dir)
        counted = sum(row["nonfinite_candidates"] > 0 for row in rows)
        went = f"status {status}, {len(rows)} generations, {counted} with candidates that were not finite"
        yield Finding(
            name,
            injection.promise,
            went + ("" if finite else "; objective NOT finite") + (f", `{_short(line)}`" if status else ""),
            1,
            0 if status else len(set(range(campaign.generations)) - set(numbers)),
            len(numbers) - len(set(numbers)),
            None,
            kept=status == injection.status and finite and len(numbers) == len(set(numbers)),
        )


def tensors_finite(run_dir: Path) -> bool:
    """Whether the saved objectives, if any, hold numbers only."""
    import numpy as np

    return all(np.isfinite(array).all() for array in arrays(run_dir).values())


@contextlib.contextmanager
def _tmpfs(folder: Path, size: str) -> Iterator[Path | None]:
    """A file system of that size; None where we may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", folder], check=True)


def _remount(mount: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", mount], check=True)


def _short(line: str) -> str:
    """A message without the folder's random name."""
    return " ".join(Path(word).name if word.startswith("/") else word for word in line.split())[:160]


FAULTS: dict[str, Callable[[Campaign], Iterator[Finding]]] = {
    "kills": kills,
    "damaged_checkpoints": damaged_checkpoints,
    "full_disk": full_disk,
    "read_only": read_only,
    "clock_set_back": clock_set_back,
    "two_starters": two_starters,
    "injections": injections,
}
"""By name, in order."""

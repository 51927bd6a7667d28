"""The faults of `tools.fault_campaign`: each happens to a run, which is then compared with another."""

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints.run_directory import CHECKPOINTS, newest_checkpoint
from tools.fault_injections import CLOCK, INJECTIONS, Injection
from tools.fault_runs import (
    Campaign,
    Finding,
    arrays,
    count_rows,
    end,
    kill_at_row,
    read_rows,
    stripped,
    wait,
    wait_for_rows,
)

EARLY = 0.5
"""Share of the kills between the start and the first new generation; the others come after it."""

LATE_SECONDS = 1.5
"""How many seconds after the first new generation a later kill falls, at most."""

TERMINATIONS = 5
"""The campaign sends one SIGTERM for this many kills."""


def kills(campaign: Campaign) -> Iterator[Finding]:
    """Kills a run with -9, many times."""
    yield _repeated_signals(
        campaign,
        signal.SIGKILL,
        campaign.kills,
        "nothing lost but what a checkpoint did not hold, which is done again; exact",
    )


def terminations(campaign: Campaign) -> Iterator[Finding]:
    """Stops a run by SIGTERM, many times."""
    yield _repeated_signals(
        campaign,
        signal.SIGTERM,
        max(1, campaign.kills // TERMINATIONS),
        "status 143 once a compilation and a generation at most are done; resumes where it stopped; exact",
    )


def _repeated_signals(campaign: Campaign, number: signal.Signals, times: int, promise: str) -> Finding:
    """Sends a signal `times` times at random moments; a run that ends before is compared and restarted."""
    fault = f"{'kill -9' if number == signal.SIGKILL else number.name} at random moments"
    run_dir, done, runs = campaign.folder / number.name, 0, 1
    start_up, longest = 6.0, 0.0
    while done < times:
        rows, began, process = count_rows(run_dir), time.monotonic(), campaign.start(run_dir)
        if campaign.random.random() < EARLY:
            wait(process, campaign.random.uniform(0, start_up))
        elif wait_for_rows(process, run_dir, rows + 1):
            start_up = time.monotonic() - began
            wait(process, campaign.random.uniform(0, LATE_SECONDS))
        if process.poll() is None:
            process.send_signal(number)
            done += 1
        sent = time.monotonic()
        status, line = end(process)
        longest = max(longest, time.monotonic() - sent)
        if complaint := complaint_of(number, status, line, run_dir):
            return Finding(fault, promise, complaint, done, 0, 0, False, kept=False)
        if status == 0:
            finding = campaign.finding(fault, promise, "", run_dir, done)
            if not finding.kept:
                return dataclasses.replace(finding, happened=f"differs after {done} times")
            shutil.rmtree(run_dir)
            runs += 1
    status, _ = campaign.run(run_dir)
    happened = f"{done} times over {runs} run(s), each resumed to its end (status {status})"
    if number == signal.SIGTERM:
        happened += f"; ended within {longest:.1f} s of the signal"
    return campaign.finding(fault, promise, happened, run_dir, done)


def complaint_of(number: signal.Signals, status: int, line: str, run_dir: Path) -> str | None:
    """What is wrong with the end of a run, with or without a signal; None where nothing is."""
    if status == 0 or number == signal.SIGKILL == -status:
        return None
    # Before Python is up the signal itself ends the process; a shell reports that as 128 + number.
    if status == -number and not line:
        return None
    if status != 128 + number:
        return f"status {status}: {line}"
    saved = newest_checkpoint(run_dir)
    rows = count_rows(run_dir)
    return None if saved == rows else f"stopped after {rows} generations, and saved {saved}"


def damaged_checkpoints(campaign: Campaign) -> Iterator[Finding]:
    """Cuts files of the newest checkpoint short, or flips one of their bits; each kind of file once."""
    for name, damage in (("truncated", truncate), ("bit-flipped", flip_bit)):
        run_dir, times = campaign.folder / name, 0
        kill_at_row(campaign, run_dir, 9 * campaign.generations // 10)
        template = campaign.folder / f"{name}-template"
        shutil.copytree(run_dir, template)
        newest = template / CHECKPOINTS / str(newest_checkpoint(run_dir))
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


def truncate(campaign: Campaign, path: Path) -> None:
    """Truncates a file at a random place."""
    size = path.stat().st_size
    os.truncate(path, campaign.random.randrange(size))


def flip_bit(campaign: Campaign, path: Path) -> None:
    """Flips one bit of a file."""
    data = bytearray(path.read_bytes())
    data[campaign.random.randrange(len(data))] ^= 1 << campaign.random.randrange(8)
    path.write_bytes(bytes(data))


def full_disk(campaign: Campaign) -> Iterator[Finding]:
    """Fills the file system while a run goes on, then makes room."""
    promise = "one clear line, status 1, nothing half-written; with space again the run goes on; exact"
    with _tmpfs(campaign.folder / "small", "1m") as mount:
        yield _refused(campaign, "full disk (tmpfs of 1 MB)", promise, mount, "size=64m")


def read_only(campaign: Campaign) -> Iterator[Finding]:
    """Makes the run directory read-only, then writable again."""
    promise = "one clear line, status 1, nothing changed; writable again the run goes on; exact"
    with _tmpfs(campaign.folder / "readonly", "64m") as mount:
        if mount is not None:
            kill_at_row(campaign, mount / "run", campaign.generations // 4)
            _remount(mount, "ro")
        yield _refused(campaign, "read-only directory", promise, mount, "rw")


def _refused(campaign: Campaign, fault: str, promise: str, mount: Path | None, relief: str) -> Finding:
    """Runs on a file system that fails, and again after a remount with `relief`."""
    if mount is None:
        return Finding(
            fault, promise, "NOT DONE: needs the right to mount a tmpfs", 0, 0, 0, None, kept=False
        )
    run_dir = mount / "run"
    status, line = campaign.run(run_dir)
    _remount(mount, relief)
    again, _ = campaign.run(run_dir)
    finding = campaign.finding(fault, promise, f"status {status}, `{_short(line)}`; then {again}", run_dir)
    clear = status == 1 and line.startswith("error: ") and again == 0
    return dataclasses.replace(finding, kept=finding.kept and clear)


def clock_set_back(campaign: Campaign) -> Iterator[Finding]:
    """Sets the clock of the second start back by a day."""
    run_dir = campaign.folder / "clock"
    kill_at_row(campaign, run_dir, campaign.generations // 3)
    status, _ = campaign.run(run_dir, CLOCK)
    finding = campaign.finding(
        "clock set back a day", "no part of a result depends on it; exact", "", run_dir
    )
    walls = [row["wall_s"] for row in read_rows(run_dir)]
    grows = all(before <= after for before, after in itertools.pairwise(walls))
    happened = f"resumed to the end (status {status}); wall_s {'never falls' if grows else 'FALLS'}"
    yield dataclasses.replace(finding, happened=happened, kept=finding.kept and grows)


def two_starters(campaign: Campaign) -> Iterator[Finding]:
    """Starts a second process in the same run directory."""
    run_dir = campaign.folder / "two"
    first = campaign.start(run_dir)
    wait_for_rows(first, run_dir, 3)
    first.send_signal(signal.SIGSTOP)  # or it might be done before the second has begun
    status, line = campaign.run(run_dir)
    first.send_signal(signal.SIGCONT)
    ended, _ = end(first)
    finding = campaign.finding(
        "two starters", "the second is refused, the first does not notice; exact", "", run_dir
    )
    yield dataclasses.replace(
        finding,
        happened=f"second: status {status}, `{_short(line)}`; first: {ended}",
        kept=finding.kept and status == 1 and "in use by a live process" in line and ended == 0,
    )


def injections(campaign: Campaign) -> Iterator[Finding]:
    """Puts NaN and infinities into rewards, candidates and scores."""
    for number, (name, injection) in enumerate(INJECTIONS.items()):
        run_dir = campaign.folder / f"inject-{number}"
        status, line = campaign.run(run_dir, injection.code)
        rows = read_rows(run_dir)
        numbers = [row["generation"] for row in rows]
        lost = 0 if status else campaign.generations - len(set(numbers))
        finite = tensors_finite(run_dir)
        hit, effect = effect_of(campaign, injection, rows)
        happened = f"status {status}, {len(rows)} generations, {effect}"
        happened += ("" if finite else "; objective NOT finite") + (f", `{_short(line)}`" if status else "")
        kept = status == injection.status and finite and hit and not lost and numbers == sorted(set(numbers))
        yield Finding(
            fault=name,
            promise=injection.promise,
            happened=happened,
            times=1,
            lost=lost,
            duplicate=len(numbers) - len(set(numbers)),
            exact=None,
            kept=kept,
        )


def effect_of(campaign: Campaign, injection: Injection, rows: list[dict[str, Any]]) -> tuple[bool, str]:
    """Whether an injection can be seen in a run's metrics, and how."""
    if injection.status:
        return True, "nothing to learn from"
    if injection.hits_scores:
        other = stripped(rows) != stripped(read_rows(campaign.whole))
        return other, "other levels replayed" if other else "the SAME levels replayed"
    counted = sum(row["nonfinite_candidates"] > 0 for row in rows)
    return counted > 0, f"{counted} with candidates that were not finite"


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
    "terminations": terminations,
    "damaged_checkpoints": damaged_checkpoints,
    "full_disk": full_disk,
    "read_only": read_only,
    "clock_set_back": clock_set_back,
    "two_starters": two_starters,
    "injections": injections,
}
"""By name, in order."""

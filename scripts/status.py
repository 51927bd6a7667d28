"""`rl-discovery status RUN...`: how runs go, from their files, on another machine too."""

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rl_discovery.discovery.formatting import count, difference, duration, number
from rl_discovery.meta.runs.status import RunStatus, read_status
from rl_discovery.scripts import output
from rl_discovery.scripts.arguments import UsageError, parse

REFRESH_SECONDS = 3.0
"""Between two looks of `--watch` at the files."""

STYLES = {"running": "green", "probably running": "green", "stopped": "yellow", "done": "bold cyan"}

TIMES = {"generations": "lanes"}
"""What shares of time are called, where not by their own name."""

ARROWS = {"rising": "↑", "falling": "↓", "flat": "→", None: ""}

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Show how runs go: progress, whether fitness rises, speed, time to go. Only their files are read, so
    that it works on other machines and on copies.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories; several make a table with a row each."""

    watch: bool = False
    """Look again every few seconds, until all of them are done or Ctrl-C."""

    json: bool = False
    """Print one JSON document."""


def main(argv: Sequence[str]) -> int:
    """Runs the command."""
    arguments = parse(Arguments, argv, "status")
    if not arguments.runs:
        raise UsageError("which run? name its directory (`rl-discovery status --help`)")
    if arguments.watch and arguments.json:
        raise UsageError("--json prints one document, --watch many: choose one of them")
    statuses = _read(arguments.runs)
    if arguments.json:
        output.print_json({"format": 1, "runs": [dataclasses.asdict(status) for status in statuses]})
    elif arguments.watch:
        _watch(arguments.runs, statuses)
    else:
        output.results().print(_show(statuses))
    return 0


def _read(runs: Sequence[Path]) -> list[RunStatus]:
    return [read_status(path) for path in runs]


def _watch(runs: Sequence[Path], statuses: list[RunStatus]) -> None:
    interrupted = contextlib.suppress(KeyboardInterrupt)  # Ctrl-C ends it; the last screen stays
    with interrupted, Live(_show(statuses), console=output.results(), auto_refresh=False) as live:
        while not all(status.state == "done" for status in statuses):
            time.sleep(REFRESH_SECONDS)
            statuses = _read(runs)
            live.update(_show(statuses), refresh=True)


def _show(statuses: Sequence[RunStatus]) -> RenderableType:
    return _one(statuses[0]) if len(statuses) == 1 else _several(statuses)


def _one(status: RunStatus) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    rows: dict[str, RenderableType | None] = {
        "preset": status.preset,
        "generations": _progress(status),
        "fitness": _fitness(status),
        "trend": _trend(status),
        "signal": _signal(status),
        "held out": _held_out(status),
        "curriculum": _curriculum(status),
        "env steps": _steps(status),
        "time": _time(status),
        "checkpoint": _checkpoint(status),
        "last written": "never" if status.age_s is None else f"{duration(status.age_s)} ago",
    }
    for label, value in rows.items():
        if value is not None:
            table.add_row(label, value)
    title = Text.assemble((status.run, "bold"), "  ", (status.state, STYLES[status.state]))
    return Group(title, table)


def _several(statuses: Sequence[RunStatus]) -> Table:
    spread = len({Path(status.run).parent for status in statuses}) > 1
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("generations", "fitness"):
        table.add_column(name, justify="right", no_wrap=True)
    held_out = any(status.held_out_fitness is not None for status in statuses)
    if held_out:
        table.add_column("held out", justify="right", no_wrap=True)
    for name in ("steps/s", "to go", "written"):
        table.add_column(name, justify="right", no_wrap=True)
    for status in statuses:
        table.add_row(
            status.run if spread else Path(status.run).name,
            Text(status.state, STYLES[status.state]),
            f"{status.generations:,}/{status.total:,}",
            f"{number(status.fitness, 3)} {ARROWS[status.trend]}".strip(),
            *([number(status.held_out_fitness, 3)] if held_out else []),
            count(status.env_steps_per_s),
            duration(status.eta_s),
            duration(status.age_s),
        )
    return table


def _progress(status: RunStatus) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    left = "" if not status.eta_s else f"{duration(status.eta_s)} to go"
    bar = ProgressBar(
        total=1.0, completed=status.progress, width=24, complete_style="cyan", finished_style="cyan"
    )
    line.add_row(f"{status.generations:,} of {status.total:,}", bar, f"{status.progress:.0%}", left)
    return line


def _fitness(status: RunStatus) -> RenderableType:
    if status.fitness is None:
        return "none yet" if status.generations else "none yet: the first generation is not over"
    means = [value for value in status.curve if value is not None]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    line = "".join(" " if v is None else BLOCKS[round((v - low) * scale)] for v in status.curve)
    newest, ends = f"mean of the last {status.window:,}", f"{number(low, 3)} to {number(high, 3)}"
    return Text.assemble((number(status.fitness, 3), "bold"), f", {newest}\n{line}  ", (ends, "dim"))


def _trend(status: RunStatus) -> RenderableType | None:
    if status.trend is None or status.slope is None:
        return None
    words = {"rising": ("rising", "green"), "falling": ("falling", "red"), "flat": ("no clear one", "")}
    slope = difference(status.slope, status.slope_error)
    return Text.assemble(words[status.trend], f", {slope} per 100 generations in the newer half")


def _signal(status: RunStatus) -> str | None:
    if status.noise_ratio is None:
        return None
    line = f"steps {status.noise_ratio:.2f} times those of pure noise"
    if status.direction_correlation is None:
        return line
    correlation = number(status.direction_correlation, 3, sign=True)
    return f"{line}, correlation with the recent direction {correlation}"


def _held_out(status: RunStatus) -> RenderableType | None:
    if status.held_out_fitness is None:
        return None
    held = status.held_out_generation
    when = "" if held is None else f" after {held + 1:,} generations"
    best = number(status.held_out_best, 3)
    return Text.assemble((number(status.held_out_fitness, 3), "bold"), f"{when}, best {best}")


def _curriculum(status: RunStatus) -> str | None:
    curriculum = status.curriculum
    words = []
    if "replay_fraction" in curriculum:
        words.append(f"{curriculum['replay_fraction']:.0%} of the levels replayed")
    if "buffer_filled" in curriculum:
        words.append(f"{curriculum['buffer_filled']:,.0f} in the buffer")
    return ", ".join(words) or None


def _steps(status: RunStatus) -> str:
    rate = "" if status.env_steps_per_s is None else f", {count(status.env_steps_per_s)} a second lately"
    return f"{count(status.env_steps)} in {duration(status.seconds)}{rate}"


def _time(status: RunStatus) -> str | None:
    shares = sorted(status.time_shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{TIMES.get(name, name)} {share:.0%}" for name, share in shares) or None


def _checkpoint(status: RunStatus) -> str:
    if status.checkpoint is None:
        return "none yet"
    behind = status.generations - status.checkpoint
    return f"after {status.checkpoint:,} generations" + (f", {behind:,} behind" if behind > 0 else "")

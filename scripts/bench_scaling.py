"""`rl-discovery bench --devices 1,2,4,8`: weak scaling, as many pairs per device whatever their number.

Each count is measured in a process of its own, because XLA is told once how many host devices there are.
Where host devices outnumber the cores they share them: then steps per second cannot grow, and what is seen is
the cost of dealing and collectives.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rl_discovery.scripts import child, output
from rl_discovery.scripts.arguments import UsageError
from rl_discovery.scripts.runtime import HOST_DEVICES

SHOWN = {
    "devices": "devices",
    "pairs": "pairs",
    "env_steps_per_s": "env steps/s",
    "per_device": "per device",
    "efficiency": "of the first, per core in use",
}
"""Columns of the table."""


def device_counts(words: Sequence[str]) -> list[int]:
    """The counts that `--devices` asks for; none where it is not given.

    Raises:
        UsageError: not a number or a list of numbers above 0.
    """
    value = ",".join(words)
    parts = value.split(",") if words else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--devices must be a number or a list like 1,2,4,8, not {value!r}")
    return [int(part) for part in parts]


def measure(counts: Sequence[int], pairs: int, argv: Sequence[str], cores: int) -> list[dict[str, Any]]:
    """`bench` for each count of devices, one after the other.

    Args:
        counts: of devices.
        pairs: for the first of them; the others have as many per device.
        argv: of `bench`, which is called with other `--devices` and `--pairs`.
        cores: that devices of a CPU share.
    """
    rows: list[dict[str, Any]] = []
    for count in counts:
        share = ["--devices", str(count), "--pairs", str(pairs * count // counts[0]), "--json"]
        command = [*child.COMMAND, "bench", *_without(argv), *share]
        print(f"{count} device(s) …", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=_environment())
        if done.returncode:
            raise UsageError(
                f"bench with {count} devices failed (status {done.returncode}); its message is above"
            )
        row = json.loads(done.stdout)
        devices = row["devices"]  # on a CPU two at least
        busy = min(devices, cores) if row["platform"] == "cpu" else devices
        rows.append(row | {"per_device": row["env_steps_per_s"] / devices, "busy": busy})
    per_core = [row["env_steps_per_s"] / row["busy"] for row in rows]
    return [row | {"efficiency": rate / per_core[0]} for row, rate in zip(rows, per_core, strict=True)]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """A table, one row per count."""
    from rich.table import Table

    table = Table(title="weak scaling")
    for title in SHOWN.values():
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(_text(name, row[name]) for name in SHOWN))
    output.results().print(table)


def _environment() -> dict[str, str]:
    """Without the number of host devices that this process was given."""
    inherited = child.environment()
    flags = [flag for flag in inherited.get("XLA_FLAGS", "").split() if HOST_DEVICES not in flag]
    return inherited | {"XLA_FLAGS": " ".join(flags)}


def _text(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "efficiency" else f"{value:,.0f}"


def _without(argv: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for argument in argv:
        flag, equals, _ = argument.partition("=")
        skip = skip and not argument.startswith("-")
        if flag in ("--devices", "--pairs"):
            skip = not equals
        elif not skip and argument != "--json":
            kept.append(argument)
    return kept

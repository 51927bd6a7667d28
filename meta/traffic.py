"""What crosses devices in a compiled program, read from the program itself: collectives and their bytes.

`rl-discovery bench` reports it, docs/scaling.md builds its cost model on it, and a test holds it against what
a generation must send.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
)

BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
"""Of one element; all others have 8."""

_SHAPE = re.compile(r"\b(pred|bf16|[suf]\d+)\[([\d,]*)\]")
_INSTRUCTION = re.compile(rf"= (?P<result>.*?) (?P<kind>{'|'.join(KINDS)})(?:-start)?\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .* \{$")
_CALL = re.compile(r"(?P<how>\w+)=\{?(?P<names>%[\w.\-]+(?:, ?%[\w.\-]+)*)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction that all devices take part in.

    Attributes:
        kind: one of KINDS.
        bytes: of its result on one device.
        repeated: whether it stands in a loop, and so may happen any number of times.
    """

    kind: str
    bytes: int
    repeated: bool


def collectives(program: str) -> list[Collective]:
    """The collectives of a compiled program.

    Args:
        program: optimised HLO, as `compiled.as_text()` gives it.
    """
    bodies = dict(_computations(program))
    looped = _reached_by_loops(bodies)
    return [
        Collective(match["kind"], _size(match["result"]), name in looped)
        for name, lines in bodies.items()
        for line in lines
        if (match := _INSTRUCTION.search(line))
    ]


def total_bytes(found: list[Collective]) -> int:
    """Of all results on one device, each once."""
    return sum(collective.bytes for collective in found)


def _computations(program: str) -> Iterator[tuple[str, list[str]]]:
    name: str | None = None
    lines: list[str] = []
    for line in program.splitlines():
        if match := _COMPUTATION.match(line):
            name, lines = match["name"], []
        elif line == "}" and name is not None:
            yield name, lines
            name = None
        else:
            lines.append(line)


def _reached_by_loops(bodies: dict[str, list[str]]) -> set[str]:
    """Computations that a while loop runs, and what these call."""
    calls: dict[str, set[str]] = {}
    waiting: list[str] = []
    for name, lines in bodies.items():
        calls[name] = set()
        for line in lines:
            for match in _CALL.finditer(line):
                names = {called.strip().lstrip("%") for called in match["names"].split(",")}
                calls[name] |= names
                if match["how"] in ("body", "condition"):
                    waiting.extend(names)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(calls.get(name, ()))
    return reached


def _size(shapes: str) -> int:
    return sum(
        BYTES.get(dtype, 8) * math.prod(int(n) for n in dimensions.split(",") if n)
        for dtype, dimensions in _SHAPE.findall(shapes)
    )

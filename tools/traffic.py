"""Counts what is sent between devices, from the compiled program: collectives and their bytes.

`python -m tools.traffic --preset ta-lpg-cpu --devices 8` counts those of one generation. docs/scaling.md
builds its cost model on that, and a test compares it with what a generation must send.
"""

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Iterator, Sequence

from rl_discovery.scripts import runtime

KINDS = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
)

BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
"""Bytes of one element; 8 for other types."""

_SHAPE = re.compile(r"\b(pred|bf16|[suf]\d+)\[([\d,]*)\]")
_INSTRUCTION = re.compile(rf"= (?P<result>.*?) (?P<kind>{'|'.join(KINDS)})(?:-start)?\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.\-]+) \(.*\) -> .* \{$")
_CALL = re.compile(r"(?P<how>\w+)=\{?(?P<names>%[\w.\-]+(?:, ?%[\w.\-]+)*)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction in which all devices take part.

    Attributes:
        kind: one of KINDS.
        bytes: size of its result on one device.
        repeated: whether it is inside a loop, and so may be executed any number of times.
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


def total_bytes(instructions: Sequence[Collective]) -> int:
    """Bytes of all results on one device, each counted once."""
    return sum(collective.bytes for collective in instructions)


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
    """Names of the computations that a while loop runs, and of what these call."""
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


def main(argv: Sequence[str]) -> int:
    """Prints the collectives of one generation by kind; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.traffic", description=__doc__)
    parser.add_argument("--preset", default="ta-lpg-cpu")
    parser.add_argument("--devices", type=int, default=8, help="how many devices; on a CPU they are virtual")
    arguments = parser.parse_args(argv)
    runtime.configure(arguments.devices)
    import jax

    from rl_discovery.meta.build import compile_step, make_program
    from rl_discovery.meta.presets import PRESETS

    config = PRESETS.find(arguments.preset).config
    program = make_program(dataclasses.replace(config, devices=arguments.devices))
    state = program.place(jax.jit(program.init)())
    crossing = collectives(compile_step(program, state).as_text())
    for kind in KINDS:
        if of_kind := [collective for collective in crossing if collective.kind == kind]:
            print(f"{kind}: {len(of_kind)}, {total_bytes(of_kind):,} bytes")
    print(f"together: {len(crossing)}, {total_bytes(crossing):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

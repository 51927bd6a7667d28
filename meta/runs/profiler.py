"""`meta-train --profile`: a trace of one generation by JAX's profiler, to find where time is lost."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

TRACED = 1
"""The generation of a call that is traced: the second, because the first also warms up."""


class Tracer:
    """Writes a trace of a call's second generation.

    Args:
        path: folder that the trace goes to; None: nothing is traced.
        say: prints a line.
    """

    def __init__(self, path: Path | None, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say

    def needs_alone(self, count: int) -> bool:
        """Whether no later generation may be dispatched during this one: it is traced, or the next one is.

        Args:
            count: generations of this call before this one.
        """
        return self._path is not None and count <= TRACED

    @contextlib.contextmanager
    def around(self, count: int, generation: int) -> Iterator[None]:
        """Traces what happens inside, if it is the generation to be traced."""
        if self._path is None or count != TRACED:
            yield
            return
        with jax.profiler.trace(str(self._path)):
            yield
        self._say(
            f"profile of generation {generation} in {self._path}: open its *.trace.json.gz in Perfetto "
            f"(ui.perfetto.dev), or run `tensorboard --logdir {self._path}` with the package xprof"
        )

    def check(self, generations: int) -> None:
        """Prints a line where a call has too few generations for a trace."""
        if self._path is not None and generations <= TRACED:
            self._say("no profile: the second generation of a call is traced, and this call has only one")

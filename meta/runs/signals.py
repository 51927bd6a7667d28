"""Orderly stops: SIGTERM and SIGINT set a flag that the host loop polls between generations."""

import signal
import threading
import time
import types
from collections.abc import Callable
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT)

POLL_SECONDS = 0.005
"""Seconds between two moments at which a signal can interrupt a wait for the devices."""


def wait_for(values: Any) -> Any:
    """Waits until arrays are computed, interruptible by signals, and returns them on the host."""
    import jax  # here, so that processes that only need `StopRequest` start at once

    while not all(leaf.is_ready() for leaf in jax.tree.leaves(values)):
        time.sleep(POLL_SECONDS)
    return jax.device_get(values)


class StopRequest:
    """Catches the first stop signal while it is open; a second one has its usual effect.

    Signals reach only the main thread of a process: elsewhere nothing is caught.

    Attributes:
        signal: the first stop signal that arrived, or None.
        catches: whether this is the main thread.
    """

    def __init__(self, on_request: Callable[[signal.Signals], None]) -> None:
        self.signal: signal.Signals | None = None
        self._on_request = on_request
        self.catches = threading.current_thread() is threading.main_thread()
        caught = STOPPING if self.catches else ()
        self._previous = {number: signal.signal(number, self._catch) for number in caught}

    def _catch(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        self.signal = signal.Signals(number)
        self.close()
        self._on_request(self.signal)

    def close(self) -> None:
        """Puts the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

import os
import signal

import pytest

from rl_discovery.meta.runs.signals import StopRequest


@pytest.fixture
def handlers():
    """Handlers of our own, put back afterwards."""
    seen = []
    before = {number: signal.signal(number, lambda n, _: seen.append(n)) for number in (2, 15)}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_does_what_it_always_did(handlers, number):
    told = []
    stop = StopRequest(told.append)
    assert stop.signal is None
    os.kill(os.getpid(), number)
    assert stop.signal == number
    assert told == [number]
    assert handlers == []
    os.kill(os.getpid(), number)
    assert handlers == [number]
    assert told == [number]


def test_close_puts_the_previous_handlers_back(handlers):
    stop = StopRequest(lambda number: None)
    stop.close()
    os.kill(os.getpid(), signal.SIGTERM)
    assert handlers == [signal.SIGTERM]
    assert stop.signal is None

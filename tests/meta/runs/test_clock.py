import pytest

from rl_discovery.meta.runs.clock import Clock, shares


class Time:
    """A clock that stands still unless it is told to go on."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def used(clock, now, **seconds):
    """A stretch of each use, and then some."""
    for use, length in seconds.items():
        with clock.spent(use):
            now.seconds += length
    now.seconds += 0.25


def parts(row):
    return sum(value for name, value in row.items() if name.startswith("time_"))


def test_what_is_not_accounted_for_is_idle_and_all_adds_up_to_the_wall_time():
    now = Time()
    clock = Clock(now)
    used(clock, now, compile=3, generations=10.0004, evaluation=2, checkpoint=1)
    used(clock, now, generations=5)
    row = clock.row()
    assert row["wall_s"] == pytest.approx(21.5, abs=1e-3)
    assert (row["time_generations_s"], row["time_idle_s"]) == (15.0, pytest.approx(0.5, abs=2e-3))
    assert parts(row) == pytest.approx(row["wall_s"], abs=1e-9)


def test_a_resumed_run_counts_on_and_the_pause_is_not_counted():
    now = Time()
    clock = Clock(now)
    used(clock, now, compile=2, generations=4)
    first = clock.row()
    now.seconds += 5000
    clock = Clock(now)
    used(clock, now, compile=1)
    clock.resume(first)
    row = clock.row()
    assert (row["wall_s"], row["time_compile_s"], row["time_generations_s"]) == (7.5, 3.0, 4.0)
    assert parts(row) == pytest.approx(row["wall_s"])


def test_a_run_that_did_not_count_its_uses_was_idle_until_it_did():
    now = Time()
    clock = Clock(now)
    clock.resume({"wall_s": 100.0})
    used(clock, now, generations=3)
    assert clock.row()["time_idle_s"] == 100.25


def test_time_counts_where_something_failed():
    now = Time()
    clock = Clock(now)

    def fails():
        with clock.spent("checkpoint"):
            now.seconds += 7
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert clock.row()["time_checkpoint_s"] == 7


def test_shares_are_parts_of_one():
    now = Time()
    clock = Clock(now)
    used(clock, now, generations=3, checkpoint=0.75)
    found = shares(clock.row())
    assert (found["generations"], found["checkpoint"], found["idle"]) == (0.75, 0.1875, 0.0625)
    assert sum(found.values()) == 1
    assert shares({"generation": 0}) == shares({"wall_s": 0.0}) == {}
    assert shares({"wall_s": 1.5}) == {}, "of a run that does not count them"


def test_a_row_that_says_nothing_of_a_use_resumes_at_none():
    clock = Clock(now=lambda: 5.0)
    clock.resume({"wall_s": 3.0, "time_compile_s": None, "time_generations_s": 2.0})
    assert clock.row() == {"wall_s": 3.0, "time_compile_s": 0.0, "time_generations_s": 2.0} | {
        "time_evaluation_s": 0.0,
        "time_checkpoint_s": 0.0,
        "time_idle_s": 1.0,
    }

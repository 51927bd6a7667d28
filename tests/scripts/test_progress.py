"""Progress of an evaluation, between two reports too."""

import io
import threading

import pytest
from rich.console import Console

from rl_discovery.evaluation import Stage
from rl_discovery.scripts import progress


def stage(done, end):
    return Stage("a2c", "gridworld/all", 100, done, end)


def test_within_a_long_stage_the_share_grows_at_the_pace_so_far_and_never_reaches_its_end():
    clock = [0.0]
    estimate = progress.Estimate(lambda: clock[0])
    estimate.report(stage(0.0, 0.25))
    clock[0] = 50.0
    assert estimate.share == 0  # nothing is known of the pace
    clock[0] = 100.0
    estimate.report(stage(0.25, 0.5))
    assert estimate.share == 0.25
    clock[0] = 140.0
    assert estimate.share == pytest.approx(0.35)
    clock[0] = 1e6
    assert 0.45 < estimate.share < 0.5


def test_what_was_looked_up_says_nothing_about_the_pace():
    clock = [0.0]
    estimate = progress.Estimate(lambda: clock[0])
    estimate.report(stage(0.0, 0.5))
    clock[0] = 0.1
    estimate.report(stage(0.5, 0.75))
    clock[0] = 100.0
    assert estimate.share == 0.5


def test_without_a_terminal_a_stage_that_lasts_is_told_again(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    text, told = io.StringIO(), threading.Event()
    monkeypatch.setattr(text, "flush", told.set, raising=False)
    with progress.progress_of_evaluation(Console(file=text, width=100)) as report:
        report(stage(0.5, 0.75))
        for _ in range(500):
            told.wait(0.01)
            told.clear()
            if text.getvalue().count("\n") >= 3:
                break
    first, again, *_ = text.getvalue().splitlines()
    assert first == " 50% a2c on gridworld/all, horizon 100"
    assert again == " 50% a2c on gridworld/all, horizon 100, 0 s so far"


def test_on_a_terminal_there_is_a_bar_that_leaves_nothing():
    text = io.StringIO()
    with progress.progress_of_evaluation(Console(file=text, width=100, force_terminal=True)) as report:
        report(stage(0.5, 0.75))
    assert "preparing levels" in text.getvalue()

"""What a run's files say of it, against numbers worked out by hand."""

import fcntl
import json
import os
import random
import statistics
import time
from pathlib import Path

import pytest
from filelock import FileLock

from rl_discovery.meta.errors import RunError
from rl_discovery.meta.runs import status
from rl_discovery.meta.runs.status import read_status
from tests.meta.recorded import record, row
from tests.meta.tiny import tiny

needs_locks = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="Linux lists who holds a lock")


@pytest.fixture
def elsewhere(monkeypatch):
    """A machine that cannot tell who has a run."""
    monkeypatch.setattr(status, "_lock_is_held", lambda path: None)


def age(path, seconds):
    """Makes the last row that old."""
    then = time.time() - seconds
    os.utime(path / "metrics.jsonl", (then, then))


def test_means_and_rates_are_over_the_newest_tenth_and_five_at_least(tmp_path):
    rows = [row(i, float(i)) for i in range(100)]
    for i in range(90, 100):  # twice the steps in the newest tenth
        rows[i]["env_steps"] = rows[i - 1]["env_steps"] + 200
        rows[i]["generation_s"] = 4.0
    found = read_status(record(tmp_path, rows, tiny(generations=120)))
    assert (found.generations, found.total, found.window) == (100, 120, 10)
    assert found.fitness == statistics.fmean(range(90, 100))
    assert (found.env_steps, found.env_steps_per_s) == (90 * 100 + 10 * 200, 50.0)
    assert found.eta_s == 20 * 4.0
    assert found.progress == pytest.approx(100 / 120)
    assert [status.window(n) for n in (0, 3, 5, 50, 51, 600)] == [0, 3, 5, 5, 6, 60]


def test_the_first_generations_count_all_their_steps(tmp_path):
    found = read_status(record(tmp_path, [1.0, 2.0]))
    assert (found.window, found.fitness, found.env_steps_per_s) == (2, 1.5, 50.0)


@pytest.mark.parametrize(("slope", "trend"), [(0.01, "rising"), (-0.01, "falling")])
def test_the_trend_is_seen_through_the_noise_of_levels(tmp_path, slope, trend):
    noise = random.Random(4)
    found = read_status(record(tmp_path, [slope * i + noise.gauss(0, 0.2) for i in range(200)]))
    assert found.trend == trend
    assert abs(found.slope - 100 * slope) < 3 * found.slope_error


def test_noise_alone_is_seldom_taken_for_a_trend():
    noise = random.Random(4)
    rows = [[noise.gauss(0, 1) for _ in range(60)] for _ in range(200)]
    trends = [status.trend_of(*status.least_squares_slope(values)) for values in rows]
    assert trends.count("flat") >= 180


def test_slope_and_its_error_are_those_of_least_squares():
    slope, error = status.least_squares_slope([1.0, 3.0, 2.0, None, 5.0, 4.0])
    # x 0 1 2 4 5 about 2.4, y about 3: Sxx 17.2, Sxy 11, Syy 10; 3 degrees of freedom
    assert slope == pytest.approx(11 / 17.2)
    assert error == pytest.approx(((10 - 11**2 / 17.2) / 3 / 17.2) ** 0.5)
    assert status.least_squares_slope([1.0] * 4) == (None, None)


def test_the_curve_is_means_of_equal_parts(tmp_path):
    found = read_status(record(tmp_path, [float(i) for i in range(48)]))
    assert found.curve == tuple(2 * i + 0.5 for i in range(24))


def test_agents_that_live_on_have_no_fitness_at_first(tmp_path):
    found = read_status(record(tmp_path, [None, None]))
    assert (found.fitness, found.trend, found.curve) == (None, None, (None, None))


def test_held_out_fitness_is_the_newest_with_its_generation_and_the_best(tmp_path):
    values = {1: 0.3, 3: 0.9, 5: 0.7}
    rows = [row(i, held_out_fitness=values.get(i)) for i in range(7)]
    found = read_status(record(tmp_path, rows))
    assert (found.held_out_fitness, found.held_out_generation, found.held_out_best) == (0.7, 5, 0.9)


def test_time_is_told_in_shares_of_what_rows_count(tmp_path):
    more = {
        "time_compile_s": 10.0,
        "time_generations_s": 80.0,
        "time_idle_s": 10.0,
        "time_evaluation_s": None,
    }
    found = read_status(record(tmp_path, [row(0, **more)]))
    assert found.time_shares == {"compile": 0.1, "generations": 0.8, "idle": 0.1, "evaluation": 0.0}
    assert read_status(record(tmp_path, [0.0])).time_shares == {}


def test_the_curriculum_is_told_where_rows_have_it(tmp_path):
    found = read_status(record(tmp_path, [row(0, replay_fraction=0.5, buffer_filled=12, regret_mean=1.0)]))
    assert found.curriculum == {"replay_fraction": 0.5, "buffer_filled": 12}
    assert read_status(record(tmp_path, [0.0])).curriculum == {}


def test_the_newest_checkpoint_is_a_whole_one(tmp_path):
    path = record(tmp_path, [0.0] * 30, checkpoint=9)
    for name in ("20", "30.orbax-checkpoint-tmp-1", "damaged"):
        (path / "checkpoints" / name).mkdir()
    assert read_status(path).checkpoint == 20
    assert read_status(record(tmp_path / "new")).checkpoint is None


@needs_locks
def test_a_run_whose_lock_is_held_is_running_and_nobody_tries_to_take_it(tmp_path, monkeypatch):
    path = record(tmp_path, [0.0])
    age(path, 10_000)
    with FileLock(path / ".lock"):
        monkeypatch.setattr(fcntl, "flock", None)  # trying it would be an error
        assert read_status(path).state == "running"
        monkeypatch.undo()
    assert read_status(path).state == "stopped"


@needs_locks
def test_a_local_run_that_nobody_has_is_stopped_at_once(tmp_path, monkeypatch):
    path = record(tmp_path, [0.0])
    monkeypatch.setattr(status, "FIRST_NAMESPACE", str(Path("/proc/self/ns/pid").readlink()))
    monkeypatch.setattr(status, "_is_shared", lambda path: False)
    assert read_status(path).state == "stopped"
    age(path, 10)  # a copy: made here after it was written
    assert read_status(path).state == "probably running"
    monkeypatch.setattr(status, "_is_shared", lambda path: True)
    assert read_status(path).state == "probably running"


@pytest.mark.parametrize(
    ("seconds", "state"), [(5, "probably running"), (65, "probably running"), (70, "stopped")]
)
def test_elsewhere_the_age_of_the_last_generation_decides(tmp_path, elsewhere, seconds, state):
    path = record(tmp_path, [0.0] * 3)  # generations of 2 s
    age(path, seconds)
    assert read_status(path).state == state


def test_a_run_without_a_generation_is_given_time_to_compile(tmp_path, elsewhere):
    path = record(tmp_path)
    (path / "metrics.jsonl").unlink()
    found = read_status(path)
    assert (found.state, found.age_s, found.eta_s, found.fitness) == ("probably running", None, None, None)
    then = time.time() - 3600
    os.utime(path / "config.json", (then, then))
    assert read_status(path).state == "stopped"


def test_a_run_with_every_generation_is_done(tmp_path, elsewhere):
    found = read_status(record(tmp_path, [0.0] * 6))
    assert (found.state, found.progress, found.eta_s) == ("done", 1.0, 0.0)


def test_a_row_that_is_being_written_is_not_there_yet(tmp_path):
    path = record(tmp_path, [0.0, 1.0])
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"generation": 2, "wall_')
    assert read_status(path).generations == 2


@pytest.mark.parametrize(
    ("name", "contents", "words"),
    [
        ("config.json", "{", "is not a configuration of rl-discovery (is no JSON"),
        ("config.json", "[1]", "is not a configuration of rl-discovery"),
        ("config.json", "[" * 100_000, "is not a configuration of rl-discovery (is nested deeper than"),
        ("config.json", '{"format": 1, "config": 3}', "is not a configuration of rl-discovery"),
        ("config.json", '{"format": 2, "config": {}}', "format 2, newer than 1"),
        ("config.json", '{"format": 1, "config": {"preset": "x", "generations": 0}}', "damaged"),
        ("metrics.jsonl", json.dumps(row(0)) + "\n\0\0\0\n" + json.dumps(row(2)) + "\n", "damaged in line 2"),
        ("metrics.jsonl", json.dumps(row(0)) + "\n" + json.dumps(row(2)) + "\n", "damaged in line 2"),
        ("metrics.jsonl", json.dumps(row(0, wall_s="soon")) + "\n", "damaged in line 1"),
        ("metrics.jsonl", json.dumps(row(0, env_steps=float("nan"))) + "\n", "damaged in line 1"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, contents, words):
    path = record(tmp_path, [0.0])
    (path / name).write_text(contents)
    with pytest.raises(RunError) as error:
        read_status(path)
    assert str(error.value).startswith(str(path / name))
    assert words in str(error.value)

"""One run of several processes, with a coordinator on this machine: what it is equal to, and losing one."""

import functools
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from rl_discovery.checkpoints.run_directory import BEST_OBJECTIVE
from rl_discovery.meta.runs.distributed import HEARTBEAT_SECONDS, join
from tests.meta.processes import Command, count_rows, environment, metrics, tensors

FLAGS = [
    *("--seed", "5", "--generations", "9", "--checkpoint.every", "2", "--es.pairs", "8"),
    *("--agent.workers", "2", "--agent.rollout-steps", "4", "--objective.width", "4"),
    *("--levels.distribution", "small", "--levels.horizon", "2", "--block-size", "1"),
    *("--meta-gradient.lanes", "8", "--meta-gradient.updates", "2"),
    *("--curriculum.buffer-size", "12", "--curriculum.minimum-fill", "0.2", "--curriculum.no-gallery"),
    "--logging.no-tensorboard",
]
NOTICE_SECONDS = HEARTBEAT_SECONDS + 10
"""Within which the others must have ended, on a busy machine."""
PRESETS = {
    "regret": ["ta-lpg-groove-cpu"],
    # Scores that need no antagonist, whose training takes as long to compile as all else.
    "es": ["ta-lpg-groove-cpu", "--curriculum.score", "max_monte_carlo"],
    "meta_gradient": [
        *("groove-cpu", "--curriculum.score", "l1_value_loss"),
        *("--held-out.every", "3", "--held-out.levels", "4"),
    ],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(trainer, run_dir, cache, processes, devices, *more):
    """The processes of a run with `devices` host devices each, the first one first."""
    address = f"127.0.0.1:{free_port()}"
    found = []
    for number in range(processes):
        several = ["--coordinator", address, "--process-id", number, "--num-processes", processes]
        arguments = ["meta-train", "--preset", *PRESETS[trainer], *FLAGS, "--run-dir", run_dir, *more]
        found.append(
            Command(
                [*arguments, *(several if processes > 1 else [])],
                cache=cache,
                XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
                # Their programs are large: XLA's costly passes would make half of this test's time.
                JAX_DISABLE_MOST_OPTIMIZATIONS="1",
            )
        )
    return found


def end_all(commands):
    """Kills what is left of a failed test's processes."""
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["es", "meta_gradient"])
def test_a_killed_one_of_four_is_noticed_and_two_others_end_the_run_as_one_would(trainer, cache, tmp_path):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    (alone,) = start(trainer, whole, cache, 1, 4)
    status, _, err = alone.finish()
    assert status == 0, err

    four = start(trainer, run_dir, cache, 4, 1)
    try:
        four[2].kill_when(lambda: count_rows(run_dir) >= 4)
        killed = time.monotonic()
        ends = [command.finish(NOTICE_SECONDS) for command in (four[0], four[1], four[3])]
        assert time.monotonic() - killed < NOTICE_SECONDS
    finally:
        end_all(four)
    for status, _, err in ends:
        assert status == 1, err
        assert re.search(r"error: lost process 2 of 4: .* from its last checkpoint", err), err
    # Only the first one talks.
    assert "1 of 9 generations" in ends[0][2]
    assert not any("generation" in err for _, _, err in ends[1:])
    # It may have died between its generation and the others' knowing of it.
    assert count_rows(run_dir) < 9

    two = start(trainer, run_dir, cache, 2, 2)
    try:
        ends = [command.finish() for command in two]
    finally:
        end_all(two)
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert "resumed at generation" in ends[0][2]
    assert metrics(run_dir) == metrics(whole)
    assert tensors(run_dir) == tensors(whole)
    assert (run_dir / BEST_OBJECTIVE).exists() == (trainer == "meta_gradient")
    assert sum(row["replay_fraction"] or 0 for row in metrics(whole)) > 0, "nothing was replayed"


@pytest.mark.e2e
@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_one_process_goes_on(cache, tmp_path):
    run_dir = tmp_path / "run"
    two = start("regret", run_dir, cache, 2, 1, "--generations", "2000")
    try:
        ends = [two[1].kill_when(lambda: count_rows(run_dir) >= 3, signal.SIGTERM), two[0].finish(60)]
    finally:
        end_all(two)
    assert [status for status, _, _ in ends] == [143, 143], ends
    done = count_rows(run_dir)
    assert f"stopped after {done} generations; resume with" in ends[1][2]
    (alone,) = start("regret", run_dir, cache, 1, 2, "--generations", str(done + 2))
    status, _, err = alone.finish()
    assert status == 0, err
    assert f"resumed at generation {done}" in err
    assert [row["generation"] for row in metrics(run_dir)] == list(range(done + 2))


@pytest.mark.slow
@pytest.mark.e2e
def test_what_the_first_process_cannot_do_ends_the_others_with_one_line(cache, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.write_text("a file")
    two = start("es", run_dir, cache, 2, 1)
    try:
        ends = [command.finish(60) for command in two]
    finally:
        end_all(two)
    assert [status for status, _, _ in ends] == [1, 1], ends
    assert "cannot write to" in ends[0][2]
    assert "process 0 could not go on" in ends[1][2]


@pytest.mark.slow
@pytest.mark.e2e
def test_two_processes_start_from_an_objective_as_one_does(cache, tmp_path):
    (alone,) = start("es", tmp_path / "first", cache, 1, 2, "--generations", "2")
    assert alone.finish()[0] == 0
    again = ["--generations", "2", "--seed", "7", "--start-from", tmp_path / "first"]
    commands = start("es", tmp_path / "two", cache, 2, 1, *again) + start(
        "es", tmp_path / "one", cache, 1, 2, *again
    )
    try:
        ends = [command.finish() for command in commands]
    finally:
        end_all(commands)
    assert [status for status, _, _ in ends] == [0, 0, 0], ends
    assert tensors(tmp_path / "two") == tensors(tmp_path / "one") != tensors(tmp_path / "first")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize("flag", ["--seed", "--generations"])
def test_processes_of_different_configurations_are_told_apart(flag, cache, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    two = [
        Command(
            [
                *("meta-train", "--preset", "quickstart", flag, number + 1, "--run-dir", tmp_path / "run"),
                *("--coordinator", address, "--process-id", number, "--num-processes", 2),
            ],
            cache=cache,
        )
        for number in range(2)
    ]
    try:
        ends = [command.finish(60) for command in two]
    finally:
        end_all(two)
    assert [status for status, _, _ in ends] == [2, 2], ends
    assert all("process 1 was started with another configuration" in err for _, _, err in ends)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (("host:1", None, 2), "--coordinator and --num-processes without --process-id"),
        (("host", 0, 2), "--coordinator must be HOST:PORT, not 'host'"),
        (("host:99999", 0, 2), "--coordinator must be HOST:PORT"),
        (("host:1", 2, 2), "--process-id must be from 0 to --num-processes - 1, not 2 of 2"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anybody_is_waited_for(settings, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        join(*settings)


def test_joining_can_be_imported_before_anything_asks_for_devices():
    # Afterwards jax.distributed.initialize refuses.
    code = (
        "import rl_discovery.meta.runs.distributed; from jax._src import xla_bridge; "
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_one_process_alone_joins_nobody(monkeypatch):
    initialised = functools.partial(pytest.fail, "asked for others")
    monkeypatch.setattr("jax.distributed.initialize", initialised)
    assert not join(None, None, None)
    assert not join("host:1", 0, 1)
    # A batch script of two tasks that starts one process without `srun`.
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert not join(None, None, None)


def test_settings_come_from_the_environment_where_flags_are_not_given(monkeypatch):
    asked = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *args, **kwargs: asked.append(args))
    monkeypatch.setattr("jax.config.update", lambda name, value: None)
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "head:7000")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "3")
    assert join(None, None, None)
    assert join(None, 2, None)
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS")
    monkeypatch.delenv("JAX_PROCESS_ID")
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert join(None, None, None)
    assert asked == [("head:7000", 3, 1), ("head:7000", 3, 2), (None, None, None)]

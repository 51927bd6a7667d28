"""SIGTERM while a run does something else than a generation: status 143, and resuming changes nothing."""

import functools
import os
import pkgutil
import signal

import pytest

from tests.meta.processes import metrics, tensors
from tests.scripts.called import called

FLAGS = [
    *("--preset", "quickstart", "--seed", "5", "--generations", "6", "--checkpoint.every", "2"),
    *("--es.pairs", "3", "--agent.workers", "2", "--agent.rollout-steps", "4", "--objective.width", "4"),
    *("--levels.distribution", "small", "--levels.horizon", "3", "--block-size", "1", "--devices", "1"),
    *("--held-out.every", "3", "--held-out.levels", "2", "--logging.no-tensorboard"),
]
MOMENTS = {
    # What is going on: what is called then, and the generations that are done when the run has stopped.
    "before compiling": ("rl_discovery.meta.runs.meta_train.make_program", 0),
    "compiling": ("rl_discovery.meta.held_out.HeldOut.compile", 0),
    "in a generation": ("rl_discovery.meta.runs.loop.wait_for", 1),
    "writing metrics": ("rl_discovery.meta.runs.directory.RunDirectory.append_metrics", 1),
    "writing a checkpoint": ("rl_discovery.checkpoints.runs.RunCheckpoints.save", 3),
    "writing the objective": ("rl_discovery.meta.runs.saver.Saver.save_objective", 3),
    "evaluating": ("rl_discovery.meta.held_out.HeldOut.evaluate", 3),
    "writing the best objective": ("rl_discovery.meta.runs.saver.Saver.save_best", 4),
}

answer = functools.partial(called, "meta-train")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbs."""
    from rl_discovery.scripts.meta_train import main

    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert main([*FLAGS, "--run-dir", str(run_dir)]) == 0
    return run_dir


def interrupt(monkeypatch, name):
    """Sends SIGTERM in the first call of something, as if it had come from outside."""
    right, calls = pkgutil.resolve_name(name), []

    def interrupted(*args, **kwargs):
        found = right(*args, **kwargs)  # a checkpoint is written in the background from here on
        if not calls:
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(name)
        return found

    monkeypatch.setattr(name, interrupted)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment_ends_with_143_and_a_run_that_resumes_exactly(
    moment, whole, tmp_path, capsys, monkeypatch
):
    name, done = MOMENTS[moment]
    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt(patch, name)
        status, out, err = answer(capsys, *FLAGS, "--run-dir", run_dir)
    assert (status, out) == (143, ""), err
    assert "SIGTERM: saving after this generation" in err
    assert f"stopped after {done} generations; resume with" in err
    assert (run_dir / "checkpoints" / str(done)).is_dir()
    status, _, err = answer(capsys, *FLAGS, "--run-dir", run_dir)
    assert status == 0
    assert f"resumed at generation {done}" in err
    assert metrics(run_dir) == metrics(whole)
    assert tensors(run_dir) == tensors(whole)

"""The real command, killed and resumed in processes of its own; what it refuses, in this one."""

import dataclasses
import functools
import json
import shlex
import signal

import jax
import numpy as np
import pytest

from rl_discovery.checkpoints import read_card, read_objective
from rl_discovery.checkpoints.runs import RunCheckpoints
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import to_json
from rl_discovery.meta.presets import PRESETS
from rl_discovery.meta.runs.directory import read_config
from tests.meta.processes import Command, count_rows, metrics
from tests.scripts.called import called

FLAGS = [
    *("--seed", "5", "--generations", "12", "--checkpoint.every", "2", "--es.pairs", "3"),
    *("--agent.workers", "2", "--agent.rollout-steps", "4", "--objective.width", "4"),
    *("--levels.distribution", "small", "--levels.horizon", "3", "--block-size", "1"),
    *("--meta-gradient.lanes", "4", "--meta-gradient.updates", "2"),
]
REPLAY = ["--curriculum.buffer-size", "12", "--curriculum.minimum-fill", "0.2"]


def meta_train(run_dir, cache, *more, preset="quickstart", **environment):
    """The command, started."""
    arguments = ["meta-train", "--preset", preset, *FLAGS, "--run-dir", run_dir, *more]
    return Command(arguments, cache=cache, **environment)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The compilation cache of all processes here."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    """What every disturbed run must be equal to, and what the command printed."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    status, out, err = meta_train(run_dir, cache, "--devices", "1").finish()
    assert (status, out) == (0, ""), err
    return run_dir, err


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def final_state(run_dir):
    """Every array of the newest checkpoint."""
    config = dataclasses.replace(read_config(run_dir), devices=None)
    program = make_program(config)
    checkpoints = RunCheckpoints(run_dir / "checkpoints")
    restored = checkpoints.restore(jax.eval_shape(program.init))
    checkpoints.close()
    return restored


def assert_same(run_dir, undisturbed):
    """Metrics, state and objective, to the last bit."""
    assert metrics(run_dir) == metrics(undisturbed)
    state, expected = final_state(run_dir), final_state(undisturbed)
    assert (state.generation, state.facts) == (expected.generation, expected.facts) == (12, state.facts)
    for found, wanted in zip(leaves(state.state), leaves(expected.state), strict=True):
        assert found.tobytes() == wanted.tobytes()
    objectives = [read_objective(path / "objective.safetensors") for path in (run_dir, undisturbed)]
    for found, wanted in zip(*(leaves(objective.meta_params) for objective in objectives), strict=True):
        assert found.tobytes() == wanted.tobytes()
    cards = [read_card(path / "objective.safetensors") for path in (run_dir, undisturbed)]
    assert cards[0]["env_steps"] == cards[1]["env_steps"]


@pytest.mark.slow
@pytest.mark.e2e
def test_a_run_shows_its_progress_and_what_to_do_next(undisturbed):
    run_dir, err = undisturbed
    assert "12 of 12 generations  fitness" in err
    assert "env steps/s" in err
    assert err.splitlines()[-1] == (
        f"done: 12 generations in {run_dir}; next: rl-discovery evaluate {run_dir}"
    )
    assert len(metrics(run_dir)) == 12
    assert list((run_dir / "tb").iterdir())


@pytest.mark.e2e
@pytest.mark.slow
def test_kill_9_at_any_moment_changes_nothing(undisturbed, cache, tmp_path):
    run_dir = tmp_path / "run"

    def compiling():
        return (run_dir / "train.log").exists()

    def in_a_generation():
        return count_rows(run_dir) >= 3

    def writing_a_checkpoint():
        # Not the step that the kill before may have left, which is removed at the start.
        return any((run_dir / "checkpoints").glob("[68].orbax-checkpoint-tmp*"))

    def writing_the_objective():
        return any(run_dir.glob(".objective.safetensors.*")) or count_rows(run_dir) >= 11

    for moment in (compiling, in_a_generation, writing_a_checkpoint, writing_the_objective):
        status, out, err = meta_train(run_dir, cache, "--devices", "1").kill_when(moment)
        assert (status, out) == (-signal.SIGKILL, ""), (moment, err)
    status, _, err = meta_train(run_dir, cache, "--devices", "1").finish()
    assert status == 0, err
    assert "resumed at generation" in err
    assert_same(run_dir, undisturbed[0])
    names = [path.name for path in run_dir.rglob("*")]
    assert not [name for name in names if "tmp" in name or name.startswith(".objective")]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("preset", ["groove-cpu", "ta-lpg-groove-cpu"])
def test_curricula_and_living_agents_survive_kill_9(preset, cache, tmp_path):
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    # Their programs are the largest that there are: XLA's costly passes would make half of this test's time.
    start = functools.partial(meta_train, preset=preset, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    shown = preset == "ta-lpg-groove-cpu"  # agents for the gallery take as long to compile as the run
    gallery = () if shown else ("--curriculum.no-gallery",)
    status, _, err = start(whole, cache, "--devices", "2", *REPLAY, *gallery).finish()
    assert status == 0, err
    rows = metrics(whole)
    assert sum(row["replay_fraction"] or 0 for row in rows) > 1, "too little was replayed for this to tell"
    assert not shown or (whole / "gallery.png").stat().st_size > 10_000
    blind = (run_dir, cache, *REPLAY, "--curriculum.no-gallery", "--devices", "2")
    assert start(*blind).kill_when(lambda: count_rows(run_dir) >= 5)[0] == -signal.SIGKILL
    status, _, err = start(*blind).finish()
    assert status == 0, err
    assert "resumed at generation" in err
    assert_same(run_dir, whole)


@pytest.mark.e2e
@pytest.mark.slow
def test_stop_signals_save_print_the_command_that_resumes_and_resume_on_other_devices(
    undisturbed, cache, tmp_path
):
    run_dir = tmp_path / "a run"  # with a space, to be quoted
    command = meta_train(run_dir, cache, "--devices", "1")
    rows = 2
    for number in (signal.SIGTERM, signal.SIGINT):
        status, out, err = command.kill_when(lambda rows=rows: count_rows(run_dir) > rows, number)
        assert (status, out) == (128 + number, ""), err
        assert f"{number.name}: saving after this generation" in err
        stopped, resume = err.splitlines()[-2:]
        rows = count_rows(run_dir)
        assert stopped == f"stopped after {rows} generations; resume with"
        assert (run_dir / "checkpoints" / str(rows)).is_dir()
        assert read_card(run_dir / "objective.safetensors")["generations"] == rows
        program, *arguments = shlex.split(resume)
        assert program == "rl-discovery"
        command = Command(arguments, cache=cache)
    command.process.kill()
    command.finish()
    status, _, err = meta_train(run_dir, cache, "--devices", "2").finish()
    assert status == 0, err
    assert "on 2 cpu device(s)" in err
    assert_same(run_dir, undisturbed[0])


answer = functools.partial(called, "meta-train")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--preset quikstart", "unknown preset 'quikstart': did you mean 'quickstart'"),
        ("--levels.distribution smal", "unknown level distribution 'smal': did you mean 'small'"),
        ("--es.strategy open-es", "unknown strategy 'open-es': did you mean 'open_es'"),
        ("--es.pairs 0", "es.pairs must be greater than 0, not 0"),
        ("--es.sigma nan", "es.sigma"),
        ("--es.sigma-min 0.5", "es.sigma_min (0.5) exceeds es.sigma (0.2)"),
        ("--agent.workers -1", "agent.workers must be positive and finite, not -1"),
        ("--agent.network cnn", "network='mlp'"),
        ("--levels.horizon 0", "levels.horizon"),
        ("--seed -1", "seed"),
        ("--generations 0", "generations"),
        ("--devices 0", "devices"),
        ("--curriculum.score learnabilty", "unknown score 'learnabilty': did you mean 'learnability'"),
        (
            "--curriculum.score learnability --levels.distribution rand_dense --agent.network mlp",
            "'learnability' does not work with 'rand_dense' levels: exact planning needs fixed placement",
        ),
        (
            "--fitness normalised_return --levels.distribution CartPole-v1 --levels.horizon 9",
            "fitness 'normalised_return' needs exact optimal returns, which 'gymnax' environments do not",
        ),
        ("--curriculum.score algorithmic_regret --curriculum.buffer-size 63", "smaller than the 64 levels"),
        ("--levels.distribution CartPole-v1", "set levels.horizon"),
        ("--levels.distribution brax/swimmer", "brax/swimmer cannot be used"),
        ("--levels.distribution MNISTBandit-bsuite", "it downloads its images"),
        (
            "--trainer meta_gradient",
            "es.average_decay has no effect: it is read only where trainer is es; leave it at None",
        ),
        ("--objective.widht 3", "objective.widht: ta-lpg has no such setting: did you mean 'width'? it has "),
        ("--objective.kind lpo --objective.no-bins", "objective.bins: lpo has no such setting: "),
        ("--objective.kind lpq", "unknown objective 'lpq': did you mean 'lp"),
        ("--objective.kind ppo", "objective.kind ppo has no meta-parameters: nothing could evolve"),
        (
            "--objective.kind lpo --objective.clip -1",
            "objective.clip must be greater than 0, not",
        ),
        (
            "--preset lpo-cpu --objective.kind lpo --objective.progress-inputs",
            "with these settings is ta-lpo",
        ),
        ("--objective.discount 2", "objective.discount must be less than or equal to 1, not 2.0"),
        ("--preset lpo-cpu --drift.width 8", "--drift.width is now --objective.width"),
        ("--drift.no-schedule", "--drift.no-schedule is now --objective.no-schedule"),
        ("--preset lpg-meta-gradient --block-size 7", "block_size (7) must divide meta_gradient.lanes (512)"),
    ],
)
def test_bad_configuration_is_one_line_and_exit_status_2(capsys, tmp_path, arguments, words):
    preset = () if "--preset" in arguments else ("--preset", "quickstart")
    run_dir = tmp_path / "run"
    status, out, err = answer(capsys, *preset, *arguments.split(), "--run-dir", run_dir)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sgima", "1"], "--sgima"),
        (["--es.pairs", "many"], "--es.pairs"),
        (["--generations"], "--generations"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_status_2_and_names_the_flag(
    capsys, tmp_path, arguments, words
):
    status, out, err = answer(capsys, "--run-dir", tmp_path / "run", *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["file", "file/run", "/proc/run"])
def test_a_run_directory_that_cannot_be_written_is_one_line_and_exit_status_1(capsys, tmp_path, where):
    (tmp_path / "file").write_text("precious")
    status, out, err = answer(capsys, "--preset", "quickstart", "--run-dir", tmp_path / where)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: cannot write to {tmp_path / where}: ")
    assert err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious"


TWELVE = to_json(PRESETS.find("quickstart").config) | {
    "objective": to_json(PRESETS.find("quickstart").config)["objective"] | {"width": 12}
}
"""A quickstart whose GRU is narrower than the preset's."""


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        ({"name": "something else"}, 1, "not a configuration of rl-discovery"),
        ({"format": 99, "config": {}}, 1, "format 99, newer than 1"),
        (
            {"format": 1, "config": to_json(PRESETS.find("lpg").config)},
            2,
            "holds a run of preset 'lpg', not 'quickstart'",
        ),
        ({"format": 1, "config": TWELVE}, 2, "objective.width was 12, now 32"),
    ],
)
def test_a_run_directory_of_something_else_is_one_line(capsys, tmp_path, document, status, words):
    (tmp_path / "config.json").write_text(json.dumps(document))
    width = ("--objective.width", "32") if document.get("config") == TWELVE else ()
    found, out, err = answer(capsys, "--preset", "quickstart", *width, "--run-dir", tmp_path)
    assert (found, out) == (status, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert json.loads((tmp_path / "config.json").read_text()) == document


@pytest.mark.slow
def test_a_run_that_diverges_is_exit_status_3_with_a_diagnosis_and_its_last_checkpoint(capsys, tmp_path):
    # A legal step size that blows up every objective at once.
    flags = [*FLAGS, "--es.learning-rate", "1e38", "--checkpoint.every", "1", "--devices", "1"]
    status, out, err = answer(capsys, *flags, "--run-dir", tmp_path / "run")
    assert (status, out) == (3, "")
    line = err.splitlines()[-1]
    assert line.startswith("error: generation 1: no candidate had a finite fitness")
    assert "the last good checkpoint is after 1 generation" in line
    assert len(metrics(tmp_path / "run")) == 1
    assert final_state(tmp_path / "run").generation == 1
    assert read_card(tmp_path / "run" / "objective.safetensors")["generations"] == 1


@pytest.mark.parametrize("preset", ["quickstart", "groove-cpu", "lpo-cpu"])
def test_meta_training_in_64_bits_is_refused_in_one_line_and_leaves_nothing(capsys, tmp_path, preset):
    with jax.enable_x64(True):
        code, out, err = called("meta-train", capsys, "--preset", preset, "--run-dir", tmp_path / "run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "JAX_ENABLE_X64" in err
    assert not (tmp_path / "run").exists()

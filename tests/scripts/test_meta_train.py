"""The real command, killed and resumed in processes of its own; what it refuses, in this one."""

import dataclasses
import functools
import json
import re
import shlex
import signal
import tomllib

import jax
import numpy as np
import pytest

from rl_discovery.checkpoints import read_card, read_objective
from rl_discovery.checkpoints.fields import flatten
from rl_discovery.checkpoints.runs import RunCheckpoints
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import to_json
from rl_discovery.meta.presets import PRESETS
from rl_discovery.meta.runs.directory import RunDirectory, read_config
from rl_discovery.scripts import cli
from tests.meta.processes import Command, count_rows, metrics
from tests.scripts.called import called, given_back

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


@pytest.fixture(params=["given", "default"])
def begun(request, tmp_path, monkeypatch):
    """A run that was begun with flags of its own, its configuration, and the flags that name its place."""
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(PRESETS.find("lpg-cpu").config, seed=9, generations=7, devices=1000)
    run_dir = tmp_path / "mine" if request.param == "given" else tmp_path / "runs" / "lpg-cpu"
    RunDirectory(run_dir, config).close()
    return run_dir, config, ("--run-dir", run_dir) if request.param == "given" else ("--preset", "lpg-cpu")


@pytest.mark.parametrize("named", [False, True])
def test_a_run_directory_supplies_its_own_configuration_and_flags_go_over_it(capsys, begun, named):
    run_dir, config, place = begun
    preset = ("--preset", "lpg-cpu") if named and "--preset" not in place else ()
    status, out, err = answer(capsys, *place, *preset, "--checkpoint.every", "3", "--print-config")
    assert (status, err) == (0, "")
    every = dataclasses.replace(config.checkpoint, every=3)
    # It was begun on a machine with more devices.
    assert given_back(out) == dataclasses.replace(config, checkpoint=every, devices=None)
    assert read_config(run_dir) == config


@pytest.mark.parametrize("spelling", ["--run-dir={}", "--run_dir={}"])
def test_a_preset_that_is_not_the_runs_is_refused(capsys, tmp_path, spelling):
    config = PRESETS.find("lpg-cpu").config
    RunDirectory(tmp_path, config).close()
    status, out, err = answer(capsys, "--preset", "quickstart", spelling.format(tmp_path))
    assert (status, out) == (2, "")
    assert err == (
        f"error: {tmp_path} holds a run of preset 'lpg-cpu', not 'quickstart': leave --preset out to go on "
        "with it, or choose another --run-dir\n"
    )
    assert read_config(tmp_path) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_print_config_can_be_given_back_and_runs_nothing(capsys, tmp_path, monkeypatch, preset):
    monkeypatch.chdir(tmp_path)
    flags = ["--preset", preset, "--es.sigma", "0.05", "--objective.shortest-horizon", "3", "--profile"]
    status, out, err = answer(capsys, *flags, "--print-config")
    assert (status, err) == (0, "")
    config = given_back(out)
    assert (config.preset, config.es.sigma, config.objective.shortest_horizon) == (preset, 0.05, 3)
    assert config.es.pairs == PRESETS.find(preset).config.es.pairs
    assert not list(tmp_path.iterdir())
    (tmp_path / "printed.toml").write_text(out)
    assert answer(capsys, "--config", "printed.toml", "--print-config") == (0, out, "")


def test_flags_go_over_a_file_and_a_file_over_its_preset(capsys, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text('preset = "lpo-cpu"\nseed = 3\n[es]\npairs = 8\nsigma = 0.3\n[objective]\nclip = 0.3\n')
    status, out, err = answer(capsys, "--config", path, "--es.pairs", "16", "--print-config")
    assert (status, err) == (0, "")
    base = PRESETS["lpo-cpu"].config
    assert given_back(out) == dataclasses.replace(
        base,
        seed=3,
        es=dataclasses.replace(base.es, pairs=16, sigma=0.3),
        objective=base.objective.replace(clip=0.3),
    )


def test_a_file_that_works_only_with_a_flag_is_no_mistake(capsys, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text('preset = "quickstart"\ntrainer = "meta_gradient"\n')
    status, _, err = answer(capsys, "--config", path, "--print-config")
    assert status == 2
    assert "es.average_decay has no effect" in err
    flags = ("--es.average-decay", "None", "--block-size", "8", "--print-config")
    status, out, err = answer(capsys, "--config", path, *flags)
    assert (status, err) == (0, "")
    assert 'average_decay = "none"' in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[es]\nsgima = 1", "my.toml: es.sgima: no such field: did you mean 'sigma'?"),
        ("generations = 0", "my.toml: generations must be greater than 0, not 0"),
        ("a =", "my.toml is not a TOML file"),
        ('preset = "lpo"', "my.toml is based on the preset 'lpo', not 'quickstart'"),
        ('plugins = ["no_such_module"]', "plug-in 'no_such_module' cannot be imported"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(capsys, tmp_path, text, words):
    (tmp_path / "my.toml").write_text(text)
    flags = ("--preset", "quickstart", "--config", tmp_path / "my.toml", "--run-dir", tmp_path / "run")
    status, out, err = answer(capsys, *flags)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [("8,16",), ("8", "16"), ("8,", "16")])
def test_lists_are_written_with_commas_or_spaces(capsys, words):
    flags = ("--preset", "lpo", "--agent.hidden", *words, "--print-config")
    assert given_back(answer(capsys, *flags)[1]).agent.hidden == (8, 16)


def test_a_file_over_a_run_is_checked_like_flags(capsys, tmp_path):
    RunDirectory(tmp_path / "run", PRESETS["lpg-cpu"].config).close()
    path = tmp_path / "my.toml"
    path.write_text("[checkpoint]\nevery = 3\n")
    status, out, _ = answer(capsys, "--run-dir", tmp_path / "run", "--config", path, "--print-config")
    config = PRESETS["lpg-cpu"].config
    assert status == 0
    assert given_back(out) == dataclasses.replace(
        config, checkpoint=dataclasses.replace(config.checkpoint, every=3)
    )
    path.write_text('preset = "lpo"\n')
    status, _, err = answer(capsys, "--run-dir", tmp_path / "run", "--config", path)
    assert status == 2
    assert "holds a run of preset 'lpg-cpu', not 'lpo'" in err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--preset lpo-cpu --objective.clip 0.3", {"kind": "lpo", "clip": 0.3, "width": 16}),
        (
            "--agent.epochs 2 --es.initial-mean objective --objective.kind lpo --objective.clip=0.3",
            {"kind": "lpo", "clip": 0.3, "width": 128},
        ),
        (
            "--preset lpo-cpu --objective.kind ta-lpo",
            {"kind": "ta-lpo", "progress_inputs": True, "width": 16},
        ),
        ("--preset ta-lpg --objective.kind lpg", {"kind": "lpg", "horizon_inputs": False, "width": 256}),
        (
            "--objective.kind ta-ppo --objective.discount 0.9 --objective.gae-lambda 0.8",
            {"kind": "ta-ppo", "discount": 0.9, "gae_lambda": 0.8, "entropy_coef": 0.01},
        ),
        (
            "--agent.epochs 2 --objective.kind closed-form-drift --objective.terms (r-1)^2",
            {"kind": "closed-form-drift", "terms": ["(r-1)^2"]},
        ),
    ],
)
def test_every_setting_of_every_rule_is_a_flag(capsys, tmp_path, monkeypatch, flags, expected):
    monkeypatch.chdir(tmp_path)
    status, out, err = answer(capsys, *flags.split(), "--print-config")
    assert (status, err) == (0, "")
    found = tomllib.loads(out)["objective"]
    assert {name: found[name] for name in expected} == expected
    assert given_back(out).build_objective().name == expected["kind"]


def helped(capsys, *arguments):
    """What the command explains."""
    status, out, err = answer(capsys, *arguments)
    assert (status, err) == (0, "")
    return out


def test_help_is_the_essentials_on_two_screens_and_says_where_the_rest_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out = helped(capsys, "--preset", "lpo-cpu", "--help")
    for flag in (
        "--preset",
        "--config",
        "--run-dir",
        "--generations",
        "--objective.kind",
        "--es.sigma",
        "--levels.horizon",
    ):
        assert f" {flag} " in out
    for choice in (*PRESETS, "ta-ppo", "all_vrandlife", "learnability", "area_under_curve"):
        assert choice in out
    assert "--agent.adam-epsilon" not in out
    assert "Settings of lpo, --objective.NAME: schedule, " in out
    assert "--help-all" in out
    assert len(out.splitlines()) <= 60
    assert max(map(len, out.splitlines())) <= 100


def test_help_shows_no_default_that_is_nothing_or_that_its_text_tells(capsys):
    for command in ("evaluate", "analyse", "report", "export", "import-drift", "sweep", "bench", "status"):
        with pytest.raises(SystemExit, match="0"):
            cli.main([command, "--help"])
    every = capsys.readouterr().out + helped(capsys, "--help-all")
    for default in ("(default: )", "(default: None)", "(default: False)"):
        assert default not in every
    assert not re.search(r"\(default: [^)]*\)\W*\(default: ", every)


def test_help_all_explains_every_flag_of_every_rule(capsys):
    out = helped(capsys, "--preset", "lpo-cpu", "--help-all")
    for preset in ("lpo-cpu", "ta-lpg-cpu", "ta-ppo-cpu"):
        for name in flatten(to_json(PRESETS[preset].config)):
            if not name.startswith("also"):
                assert f"--{name.replace('_', '-')}" in out, name
    for kind in ("lpg or ta-lpg", "ta-ppo", "ta-a2c", "closed-form-drift"):
        assert f"with --objective.kind {kind}:" in out


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

"""Where a run's configuration comes from: preset, file, flags or the run itself; how flags are explained."""

import dataclasses
import functools
import re
import tomllib

import pytest

from rl_discovery.checkpoints.fields import flatten
from rl_discovery.meta.config import to_json
from rl_discovery.meta.presets import PRESETS
from rl_discovery.meta.runs.directory import RunDirectory, read_config
from rl_discovery.scripts import cli
from tests.scripts.called import called, given_back

answer = functools.partial(called, "meta-train")


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

"""Names and paths on the command line: one meaning each, and what is printed can be pasted."""

import shlex
import signal
from pathlib import Path

import jax
import pytest

from rl_discovery.checkpoints import save_objective
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.report import facts
from rl_discovery.evaluation.report.files import read_run
from rl_discovery.meta.presets import PRESETS
from rl_discovery.meta.runs.loop import RunOutcome
from rl_discovery.scripts import (
    analyse_arguments,
    evaluate_arguments,
    export_arguments,
    report,
    report_arguments,
    status,
    sweep,
)
from rl_discovery.scripts.arguments import parse
from rl_discovery.scripts.meta_train import parse_arguments
from tests.evaluation.report import tiny_run
from tests.scripts.called import called


@pytest.fixture
def run_called_ppo(tmp_path, monkeypatch):
    """A run directory here with the name of a hand-written objective."""
    monkeypatch.chdir(tmp_path)
    rule = make_objective("lpo", width=4)
    Path("ppo").mkdir()
    save_objective("ppo/objective.safetensors", TrainedObjective(rule, rule.init(jax.random.key(0)), {}))


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "ppo"),
        ("evaluate", "a2c", "--baselines", "ppo"),
        ("analyse", "ppo"),
        ("analyse", "ppo", "--out", "out"),
        ("export", "ppo", "out.safetensors"),
    ],
)
def test_a_name_with_two_meanings_is_refused_with_both_spellings(run_called_ppo, capsys, arguments):
    code, out, err = called(arguments[0], capsys, *arguments[1:])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "./ppo for the folder or shipped:ppo for the objective" in err
    assert sorted(map(str, Path().rglob("*"))) == ["ppo", "ppo/objective.safetensors"]


@pytest.mark.parametrize(("name", "rule"), [("./ppo", "lpo"), ("shipped:ppo", "ppo")])
def test_each_spelling_is_exported_as_what_it_means(run_called_ppo, capsys, name, rule):
    code, out, _ = called("export", capsys, name, "out.safetensors")
    assert code == 0
    assert out.startswith(f"out.safetensors: {rule}, ")


NAMES = ["ta-lpg", "a2c", "-x", "~", "m[/x]", "br[seed=1]", ":car:", "with space", "it's", "$HOME", "runs/x"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [None, signal.SIGTERM])
def test_what_meta_train_prints_can_be_pasted(name, stop, capsys, monkeypatch):
    monkeypatch.setattr(
        "rl_discovery.meta.runs.meta_train.meta_train", lambda *args, **more: RunOutcome(2, stop)
    )
    argv = ["--preset", "quickstart", f"--run-dir=./{name}"]
    code, _, err = called("meta-train", capsys, *argv)
    if stop is not None:
        assert code == 128 + stop
        assert shlex.split(err.splitlines()[-1]) == ["rl-discovery", "meta-train", *argv]
        return
    assert code == 0
    said, command = err.splitlines()[-1].split("; next: ")
    assert said == f"done: 2 generations in {name}"
    *program, word = shlex.split(command)
    assert program == ["rl-discovery", "evaluate"]
    assert word == (name if "/" in name else f"./{name}")


@pytest.mark.parametrize("name", NAMES)
def test_what_a_report_tells_to_run_can_be_pasted(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = read_run(tiny_run.make(Path(name)))
    Path("ppo").mkdir()
    word = name if "/" in name else f"./{name}"
    assert shlex.split(facts.analyse_command(run))[:3] == ["rl-discovery", "analyse", word]
    ((_, line), *_) = facts.evaluate_commands(run)
    words = shlex.split(line)
    assert words[:3] == ["rl-discovery", "evaluate", word]
    assert words[words.index("--baselines") + 1] == "shipped:ppo"
    words = shlex.split(report.reproduce(PRESETS.find("quickstart").config, Path(name)))
    assert words[words.index("--run-dir") + 1] == word


@pytest.mark.parametrize("spelled", [("{}={}",), ("{}", "{}")])
@pytest.mark.parametrize(
    ("module", "field", "more"),
    [
        (evaluate_arguments, "out", ("a2c",)),
        (analyse_arguments, "out", ("a2c",)),
        (export_arguments, "evaluation", ("a2c", "a.safetensors")),
        (report_arguments, "out", ("run",)),
        (sweep, "dir", ()),
    ],
)
def test_home_is_home_in_every_flag(monkeypatch, module, field, more, spelled):
    monkeypatch.setenv("HOME", "/somebody's home")
    flags = "\0".join(spelled).format(f"--{field}", "~/x").split("\0")
    found = parse(module.Arguments, [*more, *flags], "command")
    assert getattr(found, field) == Path("/somebody's home/x")


def test_home_is_home_in_positions_tuples_and_for_meta_train(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert parse(status.Arguments, ["~/x", "~", "x"], "status").runs == (
        Path("/home/me/x"), Path("/home/me"), Path("x")
    )  # fmt: skip
    assert parse_arguments(["--run-dir=~/x"]).run_dir == Path("/home/me/x")
    assert parse_arguments(["--run-dir=./~/x"]).run_dir == Path("~/x")


@pytest.mark.parametrize(
    "arguments", [("status", "~nobody-here/x"), ("export", "~nobody-here/x", "a.safetensors"),
                  ("meta-train", "--run-dir=~nobody-here/x"), ("report", "--out", "~nobody-here/x", "run")]
)  # fmt: skip
def test_a_home_that_nobody_has_is_refused_in_one_line(capsys, arguments):
    code, out, err = called(arguments[0], capsys, *arguments[1:])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "nobody here is called ~nobody-here" in err

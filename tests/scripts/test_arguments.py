"""Bad arguments are refused in one line that names them, with exit status 2."""

import importlib
import os
import re
import subprocess
import sys

import pytest

from rl_discovery.scripts.arguments import field_texts
from rl_discovery.scripts.cli import COMMANDS, main


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["meta-train", "--bogus", "3"], "--bogus"),
        (["meta-train", "--generations", "1.5"], "1.5"),
        (["bench", "--precision", "float8"], "float8"),
        (["list", "nothing"], "nothing"),
        (["list"], "list needs {presets,envs,"),
        (["export", "run"], "export needs RUN and FILE"),
        (["sweep", "--grid", "es.sigma=1"], "sweep needs --dir PATH"),
        (["export", "ta-lpo", "a.py", "--to"], "--to needs a value"),
        (["evaluate", "ta-lpo", "--horizons", "25,x"], "--horizons: 'x' is not an integer"),
        (["import-drift", "a", "b", "--clip", "x"], "--clip: 'x' is not a number"),
        (["doctor", "please"], "unexpected word 'please'"),
        (["doctor", "--nothing"], "--nothing"),
    ],
)
def test_a_bad_argument_is_named_in_one_line(argv: list[str], named: str, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ")
    assert named in captured.err
    assert f"rl-discovery {argv[0]} --help" in captured.err


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "meta-train"])
def test_help_calls_values_by_names_and_has_whole_paragraphs(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert not re.search(r"\bSTR\b|None\b|\[\[|''|\n\n\n", shown)
    module = COMMANDS[command].arguments or COMMANDS[command].module
    for text in field_texts(importlib.import_module(f"rl_discovery.scripts.{module}").Arguments).values():
        assert text in shown


def test_help_still_goes_to_standard_output(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["list", "--help"])
    assert not stop.value.code
    assert "usage: rl-discovery list" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_complaint_is_the_same_in_terminals_of_all_encodings(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-m", "rl_discovery.scripts.cli", "list", "presetz"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: kind cannot be 'presetz': did you mean 'presets'? it is one of presets, envs, distributions, "
        "suites, objectives, strategies, scores, fitness; see `rl-discovery list --help`\n"
    )

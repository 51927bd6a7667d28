"""What a shell is offered, and that bash takes it."""

import shutil
import subprocess
import sys

import pytest

from rl_discovery.scripts import completion, index
from tests.meta.processes import ROOT, environment
from tests.scripts.called import called
from tests.scripts.indexed import DOCUMENT


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ev", ["evaluate"]),
        ("meta-train --preset ta-lpg-c", ["ta-lpg-cpu"]),
        ("meta-train --preset = ta-lpg-c", ["ta-lpg-cpu"]),
        ("meta-train --es.strat", ["--es.strategy"]),
        ("meta-train --curriculum.no-", ["--curriculum.no-gallery"]),
        ("meta-train --agent.network c", ["cnn"]),
        ("meta-train --objective.kind lp", ["lpg", "lpo"]),
        ("meta-train --levels.distribution gridworld/mem", []),
        ("meta-train --levels.distribution med", ["medium"]),
        ("meta-train --run-dir x", []),
        ("sweep --prese", ["--preset"]),
        ("sweep --dir x -- --es.pa", ["--es.pairs"]),
        ("evaluate ta-lpo", ["ta-lpo"]),
        ("evaluate a2c --suite uns", ["unseen"]),
        ("evaluate a2c --baselines ppo dp", ["dpo"]),
        ("bench --precision b", ["bfloat16"]),
        ("list pre", ["presets"]),
        ("completion z", ["zsh"]),
        ("nothing x", []),
    ],
)
def test_the_last_word_is_completed(monkeypatch, words, expected):
    monkeypatch.setattr(index, "make", lambda: DOCUMENT)
    assert list(completion.candidates(words.split(" "))) == expected


def test_the_command_prints_candidates_or_a_script(monkeypatch, capsys):
    monkeypatch.setattr(index, "make", lambda: DOCUMENT)
    assert called("completion", capsys, "candidates", "--", "evaluate", "p")[:2] == (0, "ppo\n")
    for shell in ("bash", "zsh", "fish"):
        status, out, err = called("completion", capsys, shell)
        assert (status, err) == (0, "")
        assert "rl-discovery completion candidates -- " in out
    status, _, err = called("completion", capsys, "tcsh")
    assert status == 2
    assert err.count("\n") == 1


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_by_the_script(tmp_path):
    command = tmp_path / "rl-discovery"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rl_discovery.scripts.cli "$@"\n')
    command.chmod(0o755)
    script = (
        f'PATH={tmp_path}:$PATH; eval "$(rl-discovery completion bash)"; COMP_WORDS=(rl-discovery ev); '
        'COMP_CWORD=1; _rl_discovery; echo "${COMPREPLY[@]}"; complete -p rl-discovery'
    )
    done = subprocess.run(
        ["bash", "-c", script], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "evaluate", "complete -o default -F _rl_discovery rl-discovery"
    ]  # fmt: skip

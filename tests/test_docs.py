"""What README and docs tell people to run does run."""

import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import pytest

from evaluation import protocol
from meta.curriculum import scores
from scripts.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")), ROOT / "CONTRIBUTING.md"]

SMALL = {
    "meta-train": ["--print-config"],
    "analyse": ["--levels", "1", "--seeds", "1", "--lifetime", "2", "--terms", "2", "--suite", "small"],
    "evaluate": ["--levels", "2", "--seeds", "1", "--horizons", "2"],
    "bench": ["--repeats", "1", "--pairs", "2", "--workers", "2", "--horizon", "2", "--gru-width", "8"],
}
"""Appended to documented commands, so that they end soon; the last of two equal flags counts."""


def python_blocks() -> list[tuple[str, str]]:
    """Page name and code of every block fenced as Python."""
    found = []
    for page in PAGES:
        for i, match in enumerate(re.finditer(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)):
            found.append((f"{page.name}-{i}", match.group(1)))
    return found


def commands() -> list[str]:
    """Every indented or fenced `rl-discovery` line without placeholders, continuation lines joined."""
    lines = set()
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?: {4}|\t)?\$? *(rl-discovery [^`|\n]*)$", text, re.M):
            command = line.split("#")[0].strip()
            if not re.search(r"\b[A-Z]{3,}\b|\.\.\.|…", command):
                lines.add(command)
    return sorted(lines)


@pytest.mark.parametrize(("name", "code"), python_blocks(), ids=[name for name, _ in python_blocks()])
def test_python_of_the_docs_runs(name: str, code: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scores, "SCORES", dict(scores.SCORES))  # a page adds one
    exec(compile(code, name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_docs_are_accepted(command: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Agents are trained in `tests/scripts/test_evaluate.py`; here each suite would be compiled once more.
    monkeypatch.setattr(protocol, "train_lanes", lambda *given: jnp.zeros(given[5].shape[0]))
    _, name, *arguments = shlex.split(command)
    if name == "evaluate" and arguments[0].startswith("runs/"):
        arguments[0] = "ta-lpg"  # the pages' run directories do not exist here
    assert main([name, *arguments, *SMALL.get(name, [])]) == 0, capsys.readouterr().err


def test_make_targets_of_the_docs_exist():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    named = {t for page in PAGES for t in re.findall(r"^ {4}make ([a-z-]+)", page.read_text(), re.M)}
    assert named <= targets


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

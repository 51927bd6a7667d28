"""What README and docs tell people to run does run."""

import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import pytest

from rl_discovery import envs
from rl_discovery.discovery.objectives.registry import RULES
from rl_discovery.evaluation import lanes
from rl_discovery.evaluation.references import REFERENCES, Reference
from rl_discovery.meta.curriculum import SCORES
from rl_discovery.meta.evolution import STRATEGIES
from rl_discovery.scripts.cli import main
from tests.meta.recorded import record

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")), ROOT / "CONTRIBUTING.md"]

SMALL = {
    "meta-train": ["--print-config"],
    "analyse": ["--levels", "1", "--seeds", "1", "--lifetime", "2", "--terms", "2", "--suite", "small"],
    "evaluate": ["--levels", "2", "--seeds", "1", "--horizons", "2"],
    "sweep": ["--plan"],
    "bench": ["--repeats", "1", "--pairs", "2", "--workers", "2", "--horizon", "2", "--gru-width", "8"],
}
"""Added to documented commands, so that they end soon; the last of two equal flags counts."""


EXECUTED = ("docs/how-to/fine-tune.md",)
"""Pages whose commands are short enough to run as they are."""


class Block(NamedTuple):
    """A block fenced as Python, with the file that it is to be (`title="envs/corridor.py"`) if it is one."""

    page: str
    number: int
    title: str
    code: str

    @property
    def module(self) -> str:
        return "rl_discovery." + self.title.removesuffix(".py").replace("/", ".")


def python_blocks() -> list[Block]:
    """All of every page."""
    pattern = re.compile(r'^```python(?: title="([^"]+)")?\n(.*?)^```', re.M | re.S)
    return [
        Block(str(page.relative_to(ROOT)), i, match.group(1) or "", match.group(2))
        for page in PAGES
        for i, match in enumerate(pattern.finditer(page.read_text()))
    ]


BLOCKS = python_blocks()
FILES = [block for block in BLOCKS if block.title]
SCRIPTS = [block for block in BLOCKS if not block.title]


def commands() -> dict[str, str]:
    """Every indented or fenced `rl-discovery` line without placeholders, continued lines joined; its page."""
    lines = {}
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?: {4}|\t)?\$? *(rl-discovery [^`|\n]*)$", text, re.M):
            command = line.split("#")[0].strip()
            if not re.search(r"\b[A-Z]{3,}\b|\.\.\.|…", command):
                lines[command] = str(page.relative_to(ROOT))
    return dict(sorted(lines.items()))


COMMANDS = commands()


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Puts files of a page where it says, for one test; registries find them."""
    caches = (envs.registry.modules, envs.registry.families, envs.registry.distributions)
    known = dict(sys.modules)

    def forget():
        for cache in caches:
            cache.cache_clear()
        for registry in (RULES, SCORES, STRATEGIES):  # pages add to the last two themselves
            registry.refresh()

    def add(blocks):
        for block in blocks:
            package = importlib.import_module(block.module.rpartition(".")[0])
            path = tmp_path / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
        forget()
        for name, suite in envs.suites.discover().items():
            monkeypatch.setitem(envs.SUITES, name, suite)

    yield add
    monkeypatch.undo()
    forget()
    for block in FILES:
        if block.module not in known:
            sys.modules.pop(block.module, None)


@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: f"{block.page}-{block.number}")
def test_python_of_the_docs_runs(block: Block, added, tmp_path, monkeypatch):
    added([file for file in FILES if file.page == block.page])
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, block.page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.title)
def test_files_of_the_docs_are_found_and_used_by_their_page(block: Block, added, capsys):
    assert any(script.page == block.page for script in SCRIPTS)
    added([block])
    kinds = ("objectives",) if block.title.startswith("discovery/") else ("distributions", "suites")
    name = Path(block.title).stem
    for kind in kinds:
        assert main(["list", kind]) == 0
        assert name in capsys.readouterr().out


def untrained(learner, mesh, block_size, meta_params, levels, keys, ends):
    return jnp.zeros(keys.shape[0]), jnp.zeros((keys.shape[0], ends.shape[0] - 1))


def test_the_table_of_references_is_that_of_the_code():
    rows = re.findall(
        r"^\| `(\S+)` \| (\S+) \| (\S+) \| (.*) \|$", (ROOT / "docs" / "evaluation.md").read_text(), re.M
    )
    table = {name: Reference(float(random), float(high), source) for name, random, high, source in rows}
    assert table == REFERENCES


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_docs_are_accepted(command: str, added, tmp_path, monkeypatch, capsys):
    added([file for file in FILES if file.page == COMMANDS[command]])
    monkeypatch.chdir(tmp_path)
    # Agents are trained in `tests/scripts/test_evaluate.py`; here each suite would be compiled once more.
    monkeypatch.setattr(lanes, "train_lanes", untrained)
    _, name, *arguments = shlex.split(command)
    if name == "status":
        for run in arguments:
            record(tmp_path / run, [0.0])
    if name in ("evaluate", "export") and arguments[0].startswith("runs/"):
        arguments[0] = "ta-lpg"  # the pages' run directories do not exist here
    if COMMANDS[command] in EXECUTED:
        assert main([name, *arguments]) == 0, capsys.readouterr().err
        return
    end = arguments.index("--") if "--" in arguments else len(arguments)  # before flags of another command
    arguments[end:end] = SMALL.get(name, [])
    assert main([name, *arguments]) == 0, capsys.readouterr().err


def test_make_targets_of_the_docs_exist():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    named = {t for page in PAGES for t in re.findall(r"^ {4}make ([a-z-]+)", page.read_text(), re.M)}
    assert named <= targets


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

"""What README and docs tell people to run does run."""

import re
import shlex
import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
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
    "evaluate": ["--levels", "2", "--seeds", "1", "--horizons", "50000"],
    "sweep": ["--plan"],
    "report": ["--levels", "0"],
    "bench": ["--repeats", "1", "--pairs", "2", "--workers", "2", "--horizon", "2", "--gru-width", "8"],
}
"""Added to documented commands, so that they end soon; the last of two equal flags counts."""


EXECUTED = ("docs/how-to/fine-tune.md",)
"""Pages whose commands are short enough to run as they are."""


class Block(NamedTuple):
    """A block fenced as Python, with the file that it shows (`title="examples/..."`) if it shows one."""

    page: str
    number: int
    title: str
    code: str


def python_blocks() -> list[Block]:
    """All of every page, also those that are indented in a tab."""
    pattern = re.compile(r'^( *)```python(?: title="([^"]+)")?\n(.*?)^\1```', re.M | re.S)
    return [
        Block(str(page.relative_to(ROOT)), i, match.group(2) or "", textwrap.dedent(match.group(3)))
        for page in PAGES
        for i, match in enumerate(pattern.finditer(page.read_text()))
    ]


REGISTRIES = (RULES, SCORES, STRATEGIES, envs.FAMILIES, envs.SUITES)

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


@pytest.fixture(autouse=True)
def plugin_installed(tmp_path_factory, monkeypatch):
    """The example package, as if it were installed, for one test; pages add to registries themselves."""
    installed = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(ROOT / "examples" / "plugin")
    monkeypatch.syspath_prepend(installed)
    folder = installed / "rl_corridor-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: rl-corridor\nVersion: 0.1.0\n")
    declared = tomllib.loads((ROOT / "examples/plugin/pyproject.toml").read_text())["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
        for group, points in declared.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    for registry in REGISTRIES:
        registry.refresh()
    yield
    monkeypatch.undo()
    for registry in REGISTRIES:
        registry.refresh()


@pytest.mark.slow
@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: f"{block.page}-{block.number}")
def test_python_of_the_docs_runs(block: Block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, block.page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.title)
def test_files_of_the_docs_are_those_of_the_repository(block: Block):
    assert block.code == (ROOT / block.title).read_text()
    assert any(script.page == block.page for script in SCRIPTS)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("envs", "corridor/short"),
        ("distributions", "corridor/short"),
        ("suites", "corridors"),
        ("objectives", "learned-parabola"),
        ("scores", "relative_regret"),
    ],
)
def test_what_the_example_package_brings_is_listed(kind, name, capsys):
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


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_docs_are_accepted(command: str, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Agents are trained in `tests/scripts/test_evaluate.py`; here each suite would be compiled once more.
    monkeypatch.setattr(lanes, "train_lanes", untrained)
    _, name, *arguments = shlex.split(command)
    if name == "status":
        for run in arguments:
            record(tmp_path / run, [0.0])
    if name in ("evaluate", "export") and arguments[0].startswith("runs/"):
        arguments[0] = "ta-lpo" if "--to" in arguments else "ta-lpg"  # the pages' runs do not exist here
    if name == "import-drift":
        np.save(arguments[0], np.zeros(9 * 128, np.float32))
        Path("runs").mkdir()
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

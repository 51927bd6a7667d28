"""What is committed of the notebooks: whole, run in order, and written for people who have the package alone.

That they run is tested by nbmake, see `notebooks/conftest.py`.
"""

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

import rl_discovery

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OURS = {"rl_discovery", "tests"}
PACKAGES = {"rld": "rl_discovery"} | {name: f"rl_discovery.{name}" for name in rl_discovery.SUBPACKAGES}
"""What our packages are called once they are imported."""

REFERENCE = set(
    re.findall(r"^::: (\S+)", "".join(p.read_text() for p in (ROOT / "docs/reference").glob("*.md")), re.M)
)
MACHINE_PATH = re.compile(r"/(?:home|root|tmp|work|Users|usr|opt)/|site-packages|[A-Z]:\\\\")
LARGEST = 400_000  # bytes

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind="code"):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def outputs(path):
    return [output for cell in cells(path) for output in cell.outputs]


def public(module, name):
    """Whether a page of the API reference shows this name of a module, or the whole module with it."""
    loaded = importlib.import_module(module)
    exported = getattr(loaded, "__all__", None)
    listed = not name.startswith("_") if exported is None else name in exported
    return listed and bool({module, f"{module}.{name}"} & REFERENCE)


def names_used(code):
    """(module, name) of everything that code takes from our packages."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] in OURS:
            # The subpackages' own names are used below.
            yield from ((node.module, alias.name) for alias in node.names if node.module != "rl_discovery")
        elif isinstance(node, ast.Import):
            # `import rl_discovery.meta.runs.loop` would hand out more than the line says.
            ours = [alias.name for alias in node.names if alias.name.partition(".")[0] in OURS]
            assert not [name for name in ours if "." in name], "import names from submodules"
        elif (
            isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PACKAGES
        ):
            yield PACKAGES[node.value.id], node.attr


def test_it_was_run_from_start_to_end_and_kept_what_came_out(path):
    counts = [cell.execution_count for cell in cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    assert len([output for output in outputs(path) if "image/png" in output.get("data", {})]) >= 1
    assert not [output for output in outputs(path) if output.output_type == "error"]
    assert not [output for output in outputs(path) if output.get("name") == "stderr"]


def test_it_was_run_with_its_whole_budget(path):
    budget = cells(path)[0].source
    assert 'SMALL = os.environ.get("RL_DISCOVERY_NOTEBOOKS") == "small"' in budget
    minutes = re.match(r"([\d.]+) minutes", cells(path)[-1].outputs[0].text)
    assert float(minutes[1]) > 1.5


def test_it_shows_no_path_of_the_machine_that_it_ran_on(path):
    shown = [
        str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
        for output in outputs(path)
    ]
    text = "\n".join([*shown, *(cell.source for cell in nbformat.read(path, as_version=4).cells)])
    assert not MACHINE_PATH.search(text)


def test_it_is_small_and_has_nothing_that_changes_from_run_to_run(path):
    assert path.stat().st_size < LARGEST
    assert not [cell.metadata for cell in cells(path) if cell.metadata]
    assert set(nbformat.read(path, as_version=4).metadata) == {"kernelspec", "language_info"}


def test_it_begins_with_a_shipped_objective_and_names_of_the_reference_only(path):
    transform = TransformerManager().transform_cell
    used = {name for cell in cells(path) for name in names_used(transform(cell.source))}
    assert {("rl_discovery", "load_objective"), ("rl_discovery.checkpoints", "load_objective")} & used
    assert not [f"{module}.{name}" for module, name in used if not public(module, name)]


def test_its_kernel_is_of_the_python_that_runs_the_tests(path):
    name = nbformat.read(path, as_version=4).metadata.kernelspec.name
    assert name == "python3"
    KernelSpecManager().get_kernel_spec(name)
    assert KernelManager(kernel_name=name).format_kernel_cmd()[0] == sys.executable


def test_the_page_about_the_notebooks_and_the_readme_lead_to_it(path):
    assert f"notebooks/{path.name}" in (ROOT / "docs/notebooks.md").read_text()
    assert "notebooks" in (ROOT / "README.md").read_text()

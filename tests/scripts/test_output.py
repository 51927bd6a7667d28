"""What users call things is printed as it is: nothing in it is markup, whatever brackets it has."""

import re

import pytest
from rich.table import Table

import rl_discovery
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.evaluation.results import Results
from rl_discovery.scripts import output
from rl_discovery.scripts.tables import tables
from tests.evaluation.test_results import cell
from tests.meta.processes import ROOT
from tests.meta.recorded import record
from tests.meta.tiny import tiny
from tests.scripts.called import called

TEXTS = ["m[/x]", "br[seed=1]", "[bold]b[/bold]", "[/]", ":car:", "a\\[b]", "[link=x]l"]


def words(text):
    """Without the breaks and frames of tables."""
    return re.sub(r"[\s│|┃]+", "", text)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [output.messages, output.results])
def test_consoles_print_text_as_it_is(capsys, make, text):
    table = Table(title=f"title {text}", caption=f"caption {text}")
    table.add_column(f"column {text}")
    table.add_row(f"cell {text}")
    make().print(f"line {text}", table)
    captured = capsys.readouterr()
    for place in ("line", "title", "column", "cell", "caption"):
        assert f"{place} {text}" in captured.out + captured.err


def test_no_other_consoles_are_made_and_nothing_is_escaped():
    sources = [path for folder in rl_discovery.SUBPACKAGES for path in (ROOT / folder).rglob("*.py")]
    made = [p for p in sources if re.search(r"\bConsole\((?!quiet=True)|rich\.markup", p.read_text())]
    assert not made, "consoles come from scripts.output"


@pytest.mark.parametrize("text", TEXTS)
def test_status_shows_names_as_they_are(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in (text, "other"):
        record(tmp_path / name, [0.5] * 3, tiny(preset=text))
    assert called("status", capsys, text)[1].count(text) == 2
    code, out, _ = called("status", capsys, tmp_path / text, tmp_path / "other")
    assert code == 0
    assert words(text.rpartition("/")[2]) in words(out)


@pytest.mark.parametrize("text", TEXTS)
def test_tables_of_an_evaluation_show_names_as_they_are(text, capsys):
    names = {"suite": text, "environment": f"e{text}"}
    cells = [cell(**names, objective=o, score=s) for o in (f"o{text}", "a2c") for s in (None, 0.5)[:1]]
    scored = [cell(**names, objective=o) for o in (f"o{text}", "a2c")]
    rule = make_objective("a2c")
    for every in (cells, scored):
        found = Results.of(every, ["a2c"])
        output.results().print(*tables(found, text, {f"o{text}": TrainedObjective(rule, {})}))
        out = words(capsys.readouterr().out)
        assert words(f"“{text}”") in out
        assert words(f"o{text}") in out

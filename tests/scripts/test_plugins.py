"""`--plugin MODULE`: things that a module of the working directory registers, in every command."""

import shlex
import sys

import pytest

import rl_discovery as rld
from rl_discovery.checkpoints import spelling
from rl_discovery.discovery import registry
from rl_discovery.meta.curriculum import SCORES
from tests.scripts.called import called

MODULE = """
from rl_discovery.meta.curriculum import SCORES, Score
SCORES["shortest"] = Score("of a plug-in", lambda outcome: outcome.returns[0])
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "my_scores.py").write_text(MODULE)
    (tmp_path / "my_mistake.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    registry.PLUGINS.clear()
    for name in ("my_scores", "my_mistake"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    registry.PLUGINS.clear()
    SCORES.refresh()


@pytest.mark.parametrize("flag", [("--plugin", "my_scores"), ("--plugin=my_scores",)])
def test_what_a_plug_in_registers_is_listed_and_configured(plugin, capsys, flag):
    assert "shortest" in called("list", capsys, "scores", *flag)[1]
    asked = ("--preset", "quickstart", "--curriculum.score", "shortest", "--print-config")
    code, out, _ = called("meta-train", capsys, *flag, *asked)
    assert code == 0
    assert 'score = "shortest"' in out


def test_a_place_on_the_command_line_is_enough(plugin, tmp_path, capsys):
    with (tmp_path / "my_scores.py").open("a") as file:
        file.write("LONGEST = Score('of a plug-in', lambda outcome: outcome.returns[-1])\n")
    asked = ("--preset", "quickstart", "--curriculum.score", "my_scores:LONGEST", "--print-config")
    code, out, err = called("meta-train", capsys, *asked)
    assert code == 0, err
    assert 'score = "my_scores:LONGEST"' in out
    assert 'plugins = ["my_scores"]' in " ".join(out.replace(",", "").split()).replace("[ ", "[").replace(
        " ]", "]"
    )
    assert registry.PLUGINS == ["my_scores"]  # commands that are printed have it


def test_commands_that_are_printed_or_started_load_the_plug_in(plugin, capsys):
    called("list", capsys, "scores", "--plugin", "my_scores")
    printed = shlex.split(spelling.command("meta-train", "--run-dir", "x"))
    assert printed == ["rl-discovery", "meta-train", "--plugin", "my_scores", "--run-dir", "x"]
    assert spelling.plugin_flags() == ["--plugin", "my_scores"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module", "No module named 'no_such_module'"),
        ("my_mistake", "SystemExit: 3"),
        ("", "ValueError"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_one_line(plugin, capsys, name, words):
    code, out, err = called("list", capsys, "scores", f"--plugin={name}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


ENVIRONMENT = """
from gymnax.environments.classic_control.cartpole import CartPole
class Pole(CartPole):
    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight
"""


def test_an_environment_class_is_named_where_it_stands(plugin, tmp_path, capsys, monkeypatch):
    (tmp_path / "my_poles.py").write_text(ENVIRONMENT)
    monkeypatch.delitem(sys.modules, "my_poles", raising=False)
    env, level = rld.make_env("my_poles:Pole,weight=2")
    assert (type(env).__name__, env.weight, level) == ("Pole", 2.0, env.default_params)
    assert registry.PLUGINS == ["my_poles"]
    asked = ("--levels.distribution", "my_poles:Pole", "--levels.horizon", "5", "--agent.network", "mlp")
    code, out, err = called("meta-train", capsys, "--preset", "lpo-cpu", *asked, "--print-config")
    assert code == 0, err
    assert 'distribution = "my_poles:Pole"' in out
    for name, words in {
        "my_poles:Stick": "has no attribute 'Stick'",
        "no_poles:Pole": "No module named",
    }.items():
        with pytest.raises(registry.BrokenPluginError, match=words):
            rld.make_env(name)

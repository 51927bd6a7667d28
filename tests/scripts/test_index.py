"""Mistakes are answered without JAX, by an index that is made from the registries."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from rl_discovery.checkpoints.errors import CheckpointError, UnknownObjectiveError
from rl_discovery.checkpoints.fields import flatten
from rl_discovery.discovery.registry import UnknownNameError
from rl_discovery.meta.config import NOT_IDENTITY, to_json
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.presets import PRESETS
from rl_discovery.scripts import early, index
from rl_discovery.scripts.arguments import UsageError
from tests.meta.processes import ROOT, environment
from tests.scripts.indexed import DOCUMENT

ANY = "import sys; from rl_discovery.scripts import cli; sys.exit(cli.main(sys.argv[1:]))"

WITHOUT_JAX = """
import sys
from rl_discovery.scripts import cli
try:
    status = cli.main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code or 0
assert "jax" not in sys.modules, "JAX was imported"
sys.exit(status)
"""


@pytest.fixture
def indexed(monkeypatch):
    """As before JAX is imported, with an index at hand."""
    monkeypatch.setattr(index, "load", lambda: DOCUMENT)
    monkeypatch.delitem(sys.modules, "jax")


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_of_every_preset_has_a_flag_that_is_let_through(name, indexed):
    kind = PRESETS[name].config.objective.kind
    for field, value in flatten(to_json(PRESETS[name].config)).items():
        if field.startswith("also") or field == "preset":
            continue
        flag = f"--{field.replace('_', '-')}"
        if isinstance(value, bool):
            part, _, last = flag.removeprefix("--").rpartition(".")
            words = [flag if value else f"--{part}.no-{last}" if part else f"--no-{last}"]
        else:
            words = [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]
        early.check(["--preset", name, "--objective.kind", kind, *words], resume=False)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ("--sgima 1", UsageError, "unknown option --sgima: did you mean --es.sigma?"),
        ("--es.piars 1", UsageError, "unknown option --es.piars: did you mean --es.pairs?"),
        ("--run-dri x", UsageError, "unknown option --run-dri: did you mean --run-dir?"),
        ("--curriculum.no-galery", UsageError, "unknown option --curriculum.no-galery: did you mean"),
        ("--run-dir", UsageError, "--run-dir takes one value, not none"),
        ("--generations", UsageError, "--generations takes one value, not none"),
        ("--generations 1 2", UsageError, "--generations takes one value, not 1 2"),
        ("stray", UsageError, "unexpected word 'stray'"),
        ("quickstart", UsageError, "did you mean --preset quickstart?"),
        ("--start-from ta-lgp", UnknownObjectiveError, "did you mean 'ta-lpg'"),
        ("--es.pairs many", ConfigError, "--es.pairs must be a valid integer"),
        ("--es.pairs=0", ConfigError, "--es.pairs must be greater than 0, not 0"),
        ("--agent.hidden 64,x", ConfigError, "--agent.hidden must be a valid integer"),
        ("--trainer es2", ConfigError, "--trainer must be 'es' or 'meta_gradient', not es2"),
        ("--objective.discount 2", ConfigError, "must be less than or equal to 1, not 2"),
        ("--objective.widht 3", ConfigError, "objective.widht: ta-lpg has no such setting: did you mean 'wi"),
        ("--drift.width 3", UsageError, "--drift.width is now --objective.width"),
        ("--preset quikstart", UnknownNameError, "unknown preset 'quikstart': did you mean 'quickstart'?"),
        ("--objective.kind lpq", UnknownNameError, "unknown objective 'lpq': did you mean 'lp"),
        ("--levels.distribution smal", UnknownNameError, "unknown level distribution 'smal': did you mean"),
        ("--curriculum.score learnabilty", UnknownNameError, "did you mean 'learnability'"),
        ("--es.strategy open-es", UnknownNameError, "did you mean 'open_es'"),
        ("--config nowhere.toml", ConfigError, "nowhere.toml: No such file"),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(indexed, words, error, message):
    with pytest.raises(error) as caught:
        early.check(words.split(), resume=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        "--levels.distribution my_module:Env",
        "--levels.distribution brax/ant,backend=spring --levels.horizon 3",
        "--levels.distribution CartPole-v1 --es.average-decay None",
        "--agent.hidden 64,64 --agent.hidden 64 64 --start-from preset:quickstart",
        "--preset my_module:PRESET --objective.kind my_module:RULE",
        "--preset lpo-many-cpu --also.0.levels.horizon 3",
        "--preset lpo-cpu --objective.kind ta-lpo --objective.clip 0.3",
        "--profile --seed=3 --print-config --run_dir x",
    ],
)
def test_what_may_be_right_is_let_through(indexed, words):
    early.check(words.split(), resume=False)


def test_a_file_is_checked_with_its_own_objective(indexed, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text('[objective]\nkind = "lpo"\nclip = 0.3\n')
    early.check(["--config", str(path)], resume=False)
    path.write_text('[objective]\nkind = "lpo"\nclip = -1\n')
    with pytest.raises(ConfigError, match=r"my.toml: objective.clip must be greater than 0, not -1"):
        early.check(["--config", str(path)], resume=False)
    path.write_text("[es]\nsgima = 1\n")
    with pytest.raises(ConfigError, match=r"my.toml: es.sgima: no such field: did you mean 'sigma'"):
        early.check(["--config", str(path)], resume=False)


def test_objectives_and_suites_by_name_or_path(indexed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    shutil.copy(ROOT / "checkpoints/shipped/ta-lpo.safetensors", tmp_path / "mine/objective.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").write_bytes(b"nothing")
    for name in ("ta-lpg", "shipped:ppo", "mine", "./mine", "~/mine", "lpg", "my_module:RULE"):
        index.check_objective(name)
    for name, words in (
        ("ta-lgp", "did you mean 'ta-lpg'"),
        ("runs/x", "no file or run directory runs/x"),
        ("empty", "empty has no objective.safetensors"),
        ("damaged", "damaged is not an exported objective"),
    ):
        with pytest.raises(CheckpointError, match=words):
            index.check_objective(name)
    for name in ("unseen", "gridworld/dense", "dense", "CartPole-v1", "brax/ant,backend=spring"):
        index.check_suite(name)
    with pytest.raises(UnknownNameError, match="did you mean 'unseen'"):
        index.check_suite("unsen")


def test_a_run_is_not_gone_on_with_by_other_settings(indexed, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"format": 1, "config": to_json(PRESETS["quickstart"].config)})
    )
    for words in ("--generations 7", "--es.pairs 64", "--held-out.every 3", "--levels.distribution all"):
        early.check(["--run-dir", str(tmp_path), *words.split()], resume=True)
    with pytest.raises(ConfigError, match=r"another configuration \(es.pairs was 64, now 8\)"):
        early.check(["--run-dir", str(tmp_path), "--es.pairs", "8"], resume=True)
    assert not {*early.IDENTITY} & {*NOT_IDENTITY}


def test_nothing_is_refused_without_an_index_or_with_a_plug_in(monkeypatch, indexed):
    monkeypatch.setattr(index, "PLUGINS", ["my_module"])
    early.check(["--sgima", "1"], resume=False)
    monkeypatch.setattr(index, "PLUGINS", [])
    monkeypatch.setattr(index, "load", lambda: None)
    early.check(["--sgima", "1"], resume=False)


@pytest.mark.slow
@pytest.mark.e2e
def test_after_one_mistake_mistakes_and_help_need_no_jax(tmp_path):
    where = {**environment(), "XDG_CACHE_HOME": str(tmp_path)}

    def run(*words, script=WITHOUT_JAX, **more):
        command = [sys.executable, "-c", script, *words]
        return subprocess.run(
            command, env=where | more, cwd=ROOT, capture_output=True, text=True, check=False
        )

    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"nothing")
    first = run("meta-train", "--sgima", "1", script=ANY)
    assert first.returncode == 2
    assert "unknown option --sgima: did you mean --es.sigma?" in first.stderr
    assert [path.suffix for path in (tmp_path / "rl-discovery" / "index").iterdir()] == [".json"]
    for words in (
        ("meta-train", "--sgima", "1"),
        ("sweep", "--dir", "x", "--grid", "es.sgima=1"),
        ("sweep", "--dir", "x", "--seeds", "0,1", "--", "--es.piars", "3"),
        ("evaluate", "ta-lgp"),
        ("evaluate", "a2c", "--suite", "unsen"),
        ("analyse", "a2c", "--horizons", "0"),
        ("evaluate", str(damaged)),
        ("evaluate", "a2c", "--out", str(damaged)),
        ("analyse", "a2c"),
        ("report", "runs/nowhere"),
        ("report", "ta-lpo"),
        ("export", "ta-lpo", "x.txt"),
        ("import-drift", "nowhere.npy", "x.safetensors"),
        ("meta-train", "--run-dir", str(damaged)),
        ("bench", "--distribution", "smal"),
        ("bench", "--pairs", "0"),
    ):
        done = run(*words)
        failed = str(damaged) in words or words[1] in ("runs/nowhere", "nowhere.npy")
        status = 1 if failed else 2  # a failure, or bad usage
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1), done.stderr
    for command in ("meta-train", "sweep", "evaluate", "analyse", "report", "bench"):
        done = run(command, "--help")
        assert done.returncode == 0, done.stderr
        assert "usage: rl-discovery" in done.stdout
        assert command == "report" or "ta-lpg" in done.stdout
    done = run("meta-train", "--help-all", script=ANY)
    assert "--agent.adam-epsilon" in done.stdout, done.stderr
    done = run("completion", "candidates", "--", "evaluate", "ta-lp")
    assert {"ta-lpg", "ta-lpo"} <= set(done.stdout.split())
    elsewhere = os.pathsep.join([where.get("PYTHONPATH", ""), str(tmp_path)])  # other packages may be there
    assert "JAX was imported" in run("meta-train", "--sgima", "1", PYTHONPATH=elsewhere).stderr

"""The command, once for real in a process of its own and tiny; otherwise with the training left out."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import pytest

from rl_discovery.checkpoints import load_objective, save_objective, shipped
from rl_discovery.checkpoints.objective_file import is_learned
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from rl_discovery.evaluation import Results
from rl_discovery.scripts import cli, streams
from rl_discovery.scripts import evaluate as command
from tests import quick

TINY = ("--suite", "small", "--levels", "2", "--seeds", "3", "--horizons", "2", "5")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run directory with an objective that no generation has touched."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    rule = make_objective("ta-lpg", width=4)
    card = {"config": {"agent": {"workers": 3}}, "generations": 2}
    save_objective(
        folder / "objective.safetensors", TrainedObjective(rule, rule.init(jax.random.key(0)), card)
    )
    row = {"fitness_mean": 0.1, "fitness_best": 0.5, "fitness_std": 0.2, "env_steps": 960}
    lines = [json.dumps(row | {"generation": i}) for i in range(2)]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"generation": 2, "fit']))
    return folder


@pytest.mark.slow
@pytest.mark.e2e
def test_a_run_is_compared_with_its_baselines_and_keeps_the_results(run_dir):
    arguments = [sys.executable, "-m", "rl_discovery.scripts.cli", "evaluate", str(run_dir), *TINY]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    arguments += ["--baselines", "random", "--json", "--no-cache"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    found = [(a["objective"], a["horizon"], a["seeds"]) for a in document["aggregate"]]
    assert found == [(name, n, 3) for name in ("ta-lpg", "random") for n in (2, 5)]
    assert {cell["env_steps"] for cell in document["cells"]} == {2 * 3 * 20, 5 * 3 * 20}  # the card's workers
    assert "ta-lpg on gridworld/small, horizon 5" in done.stderr
    assert json.loads((run_dir / "results.json").read_text()) == document
    for name in ("evaluation.png", "summary.png"):
        assert matplotlib.image.imread(run_dir / name).size > 0


@pytest.mark.slow
@pytest.mark.e2e
def test_an_evaluation_that_was_killed_goes_on_where_it_was(tmp_path):
    command = ["evaluate", "a2c", "ppo", "dpo", *TINY, "--baselines", "random", "--json"]
    arguments = [sys.executable, "-m", "rl_discovery.scripts.cli", *command]
    outcomes = tmp_path / "rl-discovery"
    environment = os.environ | quick.ENVIRONMENT
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as first:
        try:
            deadline = time.monotonic() + 240
            while not (kept := list(outcomes.rglob("*.json"))):
                assert first.poll() is None, "it ended before anything was kept"
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            first.kill()
    written = {path: path.stat().st_mtime_ns for path in kept}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert len(cells) == 4 * 2 * 3
    assert len(list(outcomes.rglob("*.json"))) == len(cells) > len(written)
    for path, at in written.items():
        assert path.stat().st_mtime_ns == at
        outcome = json.loads(path.read_text())
        assert any(outcome.items() <= cell.items() for cell in cells)


@pytest.fixture
def untrained(monkeypatch):
    """Replaces training by returns of zero; what is left is the command."""

    def train(learner, mesh, size, meta_params, levels, keys, ends):
        return jnp.zeros(keys.shape[0]), jnp.zeros((keys.shape[0], ends.shape[0] - 1))

    monkeypatch.setattr("rl_discovery.evaluation.lanes.train_lanes", train)


def test_the_table_shows_every_objective_and_horizon(untrained, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert cli.main(["evaluate", "a2c", *TINY, "--baselines", "random", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    for text in (
        "Normalised return",
        "a2c",
        "random",
        "2 updates ┃",
        "5 updates ┃",
        "3 seeds",
        "95 % interval",
    ):
        assert text in printed.out
    assert f"wrote {out / 'results.json'}" in printed.err
    figures = {f"{name}.{kind}" for name in ("evaluation", "curves") for kind in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == {"results.json", "results.csv"} | figures
    assert Results.load(out / "results.json").cells[0].env_steps == 2 * 64 * 20


def test_a_suite_of_several_environments_has_a_row_for_each(untrained, tmp_path, capsys):
    assert cli.main(["evaluate", "ppo", "--suite", "classic", "--baselines", "random"]) == 0
    printed = capsys.readouterr().out
    for text in ("Return on suite", "CartPole-v1", "Acrobot-v1", "0.00 [0.00, 0.00]", "mean over seeds"):
        assert text in printed
    assert "Without horizon inputs: ppo, random" in printed
    assert "ppo over random" in printed


@pytest.mark.slow
def test_a_suite_without_ends_of_a_score_has_returns_alone(untrained, tmp_path, capsys):
    arguments = ["--suite", "random", "--seeds", "2", "--out", str(tmp_path)]
    assert cli.main(["evaluate", "ppo", *arguments, "--baselines", "random"]) == 0
    printed = capsys.readouterr().out
    assert "Return on suite “random”" in printed
    assert "Normalised" not in printed
    assert "over random" not in printed
    assert not (tmp_path / "profiles.png").exists()


@pytest.mark.slow
def test_tuned_baselines_say_what_was_chosen(untrained, tmp_path, capsys):
    arguments = [*TINY, "--baselines", "a2c", "random", "--tune", "--out", str(tmp_path)]
    assert cli.main(["evaluate", "ppo", *arguments]) == 0
    printed = capsys.readouterr()
    assert "Settings chosen on suite “small”" in printed.out
    assert "settings of a2c on gridworld/small, horizon 2" in printed.err
    found = Results.load(tmp_path / "results.json").tuned
    # All candidates return zero here: the published settings stay. `random` has none.
    expected = [(name, horizon, 1.0) for name in ("ppo", "a2c") for horizon in (2, 5)]
    assert [(t.objective, t.horizon, t.step_factor) for t in found] == expected


def test_step_sizes_of_learned_objectives_are_tuned_too(untrained, tmp_path, capsys):
    arguments = [*TINY, "--baselines", "a2c", "random", "--tune-step-size", "--out", str(tmp_path)]
    assert cli.main(["evaluate", "ta-lpg", *arguments]) == 0
    assert "the best of 5 by 2 seeds" in capsys.readouterr().out
    found = Results.load(tmp_path / "results.json").tuned
    assert {(t.objective, t.step_factor) for t in found} == {("ta-lpg", 1.0), ("a2c", 1.0)}


@pytest.mark.slow
def test_several_suites_have_their_tables_one_after_the_other(untrained, capsys):
    arguments = ["--suite", "small", "tabular", "--seeds", "1", "--levels", "2"]
    assert cli.main(["evaluate", "a2c", *arguments, "--baselines", "random"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("“small”") < printed.index("“tabular”")


def test_results_of_several_objectives_are_not_written_into_one_of_them(untrained, run_dir, capsys):
    before = {path.name for path in run_dir.iterdir()}
    assert cli.main(["evaluate", str(run_dir), "ppo", *TINY, "--baselines", "random", "random"]) == 0
    assert {path.name for path in run_dir.iterdir()} == before
    printed = capsys.readouterr()
    assert "nothing was written; --out DIR" in printed.err
    assert printed.out.count("ppo over random") == 1


def test_without_a_folder_nothing_is_written(untrained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", "a2c", *TINY, "--baselines", "random"]) == 0
    assert "wrote" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_name_means_the_objective_and_a_path_the_run_whatever_lies_here(
    untrained, run_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("a2c", "ppo", "random"):
        shutil.copytree(run_dir, name)
    before = sorted(Path().rglob("*"))
    few = ("--suite", "small", "--levels", "1", "--seeds", "1", "--horizons", "1")
    assert cli.main(["evaluate", "shipped:ppo", *few, "--json"]) == 0  # and the default baselines
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["objective"] for cell in cells] == ["ppo", "a2c", "random"]
    assert sorted(Path().rglob("*")) == before
    assert cli.main(["evaluate", "./ppo", *few, "--baselines", "shipped:ppo"]) == 0
    cells = Results.load(Path("ppo/results.json")).cells
    assert [cell.objective for cell in cells] == ["ta-lpg", "ppo"]


def test_a_table_that_cannot_be_printed_is_no_failure_where_the_results_are_kept(
    untrained, tmp_path, monkeypatch, capsys
):
    class Full(io.StringIO):
        failures = iter([OSError(errno.ENOSPC, "No space left on device", streams.STDOUT)])

        def flush(self):
            for error in self.failures:
                raise error

    few = ("--suite", "small", "--levels", "1", "--seeds", "1", "--horizons", "1")
    monkeypatch.setattr(cli.sys, "stdout", Full())
    status = cli.main(["evaluate", "a2c", *few, "--out", str(tmp_path)])
    monkeypatch.undo()
    assert Results.load(tmp_path / "results.json").cells
    assert "all files are written" in capsys.readouterr().err
    assert status == 0


def test_fewer_than_three_seeds_show_no_interval(untrained, capsys):
    arguments = ["--suite", "small", "--levels", "2", "--horizons", "2", "--seeds", "2"]
    assert cli.main(["evaluate", "random", *arguments, "--baselines", "random"]) == 0
    assert "no interval with fewer than 3 seeds" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "which objective"),
        (("a2c", "--horizons", "25", "0"), 2, "--horizons must be at least 1, not 0"),
        (("a2c", "--seeds", "0"), 2, "--seeds must be at least 1, not 0"),
        (("a2c", "--levels", "0"), 2, "--levels must be at least 1, not 0"),
        (("a2c", "--horizons", "5", "5"), 2, "--horizons must differ"),
        (("a2c", "--suite", "nowhere"), 2, "unknown suite or environment 'nowhere'"),
        (("nothing-like-it",), 2, "nothing-like-it"),
        (("a2c", "--baselines", "nothing-like-it"), 2, "nothing-like-it"),
        (("a2c", "--out", "file/out"), 1, "cannot write to file/out"),
        (("random", "--baselines", "random", "--tune"), 2, "--tune: none of these objectives"),
        (
            ("random", "--baselines", "random", "--tune-step-size"),
            2,
            "none of these objectives has a step size",
        ),
        (("ppo", "--tune", "--tune-step-size"), 2, "give one of them"),
        (("ppo", "--hidden", "64", "0"), 2, "--hidden must be positive, not 0"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    out = () if "--out" in arguments or not arguments else ("--out", "out")
    assert cli.main(["evaluate", *arguments, *out]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_objectives_of_the_same_name_are_told_apart(run_dir):
    # Twice the same run, by two paths.
    names = [str(run_dir), str(run_dir / "objective.safetensors")]
    loaded, baselines = command.load(names, ["a2c", str(run_dir)])
    assert baselines == ["a2c"]
    labels = list(loaded)
    assert labels == [f"ta-lpg ({run_dir.name})", "ta-lpg (objective)", "a2c"]


def test_what_comes_with_the_package_has_the_name_that_it_is_asked_for_by():
    names = [*shipped(), *(name for name in RULES if not is_learned(make_objective(name)))]
    loaded, _ = command.load(names, [])
    assert list(loaded) == names


def test_a_file_beside_a_shipped_objective_of_its_rule_is_told_apart(tmp_path):
    file = tmp_path / "mine.safetensors"
    save_objective(file, load_objective("ta-lpg-0.1"))
    loaded, _ = command.load([str(file), "shipped:ta-lpg"], [])
    assert list(loaded) == ["ta-lpg (mine)", "ta-lpg"]

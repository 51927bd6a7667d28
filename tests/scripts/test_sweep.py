"""The command: real trials, stopped and gone on with; what it refuses; trials that fail, played by others."""

import dataclasses
import functools
import json
import os
import shlex
import signal
import statistics
import sys

import pytest

from rl_discovery.checkpoints.run_directory import read_metrics
from rl_discovery.meta.presets import PRESETS
from rl_discovery.meta.runs.directory import RunDirectory
from rl_discovery.meta.runs.sweep import Trial
from rl_discovery.scripts import child, sweep
from rl_discovery.scripts.meta_train import parse_arguments
from tests.meta.processes import Command, count_rows
from tests.meta.recorded import record
from tests.meta.tiny import tiny
from tests.scripts.called import called

FLAGS = [
    *("--generations", "8", "--checkpoint.every", "2", "--es.pairs", "3", "--devices", "1"),
    *("--agent.workers", "2", "--agent.rollout-steps", "4", "--objective.width", "4"),
    *("--levels.distribution", "small", "--levels.horizon", "3", "--block-size", "1"),
    "--logging.no-tensorboard",
]
SEARCH = ["--preset", "quickstart", "--grid", "es.sigma=0.1,0.5"]
TRIALS = ["000_es.sigma=0.1", "001_es.sigma=0.5"]

PLAYED = """
import os, pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
run.mkdir(exist_ok=True)
how = sys.argv[2]
(run / "ran").open("a").write(how)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "waits":
    def stop(number, frame):
        (run / "signals").open("a").write(f"{number} ")
        sys.exit(128 + number)
    # Else Ctrl-C, which goes to a whole group, would come twice.
    assert os.getpgrp() != os.getpgid(os.getppid())
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    os.kill(os.getppid(), getattr(signal, sys.argv[3]))
    time.sleep(60)
sys.exit(int(how))
"""


@pytest.fixture
def played(monkeypatch):
    """Trials that end as a test says, in place of meta-train."""

    def play(*how):
        def process(arguments, common, trial):
            words = how[int(trial.name[:3])].split()
            run_dir = arguments.dir / trial.name
            return [sys.executable, "-S", "-c", PLAYED, str(run_dir), *words], dict(os.environ)

        monkeypatch.setattr(sweep, "process_of", process)

    return play


answer = functools.partial(called, "sweep")


@pytest.mark.e2e
@pytest.mark.slow
def test_a_stopped_sweep_goes_on_also_as_an_array_task_repeats_no_trial_and_compares_them(tmp_path):
    where = tmp_path / "my sweep"
    arguments = ["sweep", *SEARCH, "--dir", where, "--json", "--", *FLAGS]
    quick = {"cache": tmp_path / "cache", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    first, second = (where / name for name in TRIALS)
    command = Command(arguments, **quick)
    status, out, err = command.kill_when(lambda: count_rows(second) >= 3, signal.SIGTERM)
    assert (status, out) == (143, ""), err
    assert f"trial 2 of 2: {TRIALS[1]}" in err
    resume = shlex.split(err.splitlines()[-1])
    assert resume == ["rl-discovery", *map(str, arguments)]
    done = count_rows(second)
    assert (second / "checkpoints" / str(done)).is_dir()  # the signal was passed on
    before = (first / "metrics.jsonl").stat().st_mtime_ns

    at = resume.index("--json")
    task = [*resume[1:at], "--array", *resume[at + 1 :]]
    status, out, err = Command(task, **quick, SLURM_ARRAY_TASK_ID="1").finish()
    assert (status, out) == (0, ""), err
    assert f"resumed at generation {done}" in err

    status, out, err = Command(resume[1:], **quick).finish()
    assert status == 0, err
    assert err.splitlines() == [f"trial {i + 1} of 2: {name}: done already" for i, name in enumerate(TRIALS)]
    assert (first / "metrics.jsonl").stat().st_mtime_ns == before
    trials = {trial["name"]: trial for trial in json.loads(out)["trials"]}
    for path in (first, second):
        rows = read_metrics(path)
        assert [row["generation"] for row in rows] == list(range(8))
        found = trials[path.name]
        assert found["fitness"] == pytest.approx(statistics.fmean(r["fitness_mean"] for r in rows[-5:]))
        assert (found["env_steps"], found["seconds"]) == (rows[-1]["env_steps"], rows[-1]["wall_s"])
        assert (found["state"], found["generations"], found["total"]) == ("done", 8, 8)
    sigmas = [
        json.loads((path / "config.json").read_text())["config"]["es"]["sigma"] for path in (first, second)
    ]
    assert sigmas == [0.1, 0.5]


def test_a_trial_that_fails_does_not_end_the_sweep(tmp_path, capfd, played):
    played("1", "killed", "0", "3")
    arguments = ["--grid", "es.sigma=0.1,0.2,0.3,0.4", "--dir", tmp_path]
    status, out, err = answer(capfd, *arguments)
    assert status == 1
    names = [f"{i:03}_es.sigma=0.{i + 1}" for i in range(4)]
    assert [(tmp_path / name / "ran").read_text() for name in names] == ["1", "killed", "0", "3"]
    lines = err.splitlines()[-5:]
    assert lines == [
        f"{names[0]} failed with exit status 1",
        f"{names[1]} was killed by SIGKILL",
        f"{names[3]} diverged",
        "3 of 4 trials failed; to try them again:",
        "  " + shlex.join(["rl-discovery", "sweep", *map(str, arguments)]),
    ]
    assert out.count("not begun") == 4


def test_exit_status_3_says_that_trials_diverged_and_nothing_else_happened(tmp_path, capfd, played):
    played("3", "0")
    assert answer(capfd, *SEARCH, "--dir", tmp_path)[0] == 3


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_is_passed_on_once_and_ends_the_sweep(tmp_path, capfd, played, name):
    played(f"waits {name}", "0")
    number = signal.Signals[name]
    before = signal.getsignal(number)
    status, out, err = answer(capfd, *SEARCH, "--dir", tmp_path)
    assert (status, out) == (128 + number, "")
    assert (tmp_path / TRIALS[0] / "signals").read_text() == f"{int(number)} "
    assert not (tmp_path / TRIALS[1]).exists()
    assert "the sweep is stopped; go on with" in err
    assert signal.getsignal(number) == before


def test_finished_trials_are_not_run_and_half_done_ones_are(tmp_path, capfd, played):
    played("0", "0")
    record(tmp_path / TRIALS[0], [0.5] * 6, tiny(), checkpoint=6)
    record(tmp_path / TRIALS[1], [0.5] * 5, tiny(), checkpoint=4)
    status, out, err = answer(capfd, *SEARCH, "--dir", tmp_path, "--", "--generations", "6")
    assert status == 0
    assert f"{TRIALS[0]}: done already" in err
    assert not (tmp_path / TRIALS[0] / "ran").exists()
    assert (tmp_path / TRIALS[1] / "ran").exists()
    assert "5/6" in out


def test_a_trial_runs_with_the_common_flags_and_its_own_last(tmp_path):
    arguments = sweep.Arguments(dir=tmp_path, preset="quickstart")
    trial = {"es.sigma": 0.5, "objective.horizon_inputs": False, "agent.hidden": [8, 8]}
    made = type("Trial", (), {"name": "000_x", "overrides": trial})
    words, environment = sweep.process_of(arguments, ["--es.pairs", "4"], made)
    assert words[words.index("meta-train") + 1 :] == [
        *("--preset", "quickstart", "--generations", "120", "--es.pairs", "4", "--es.sigma", "0.5"),
        "--objective.no-horizon-inputs",
        *("--agent.hidden", "8", "8", "--run-dir", str(tmp_path / "000_x")),
    ]
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(child.ROOT)


def test_plan_writes_what_would_run_and_runs_nothing(tmp_path, capfd):
    where = tmp_path / "sweep"
    search = [*SEARCH, "--seeds", "0", "1", "--dir", where]
    status, out, err = answer(capfd, *search, "--plan")
    assert (status, err) == (0, "")
    assert "4 trials in" in out
    assert "000_es.sigma=0.1_seed=0" in out
    assert "sbatch --array=0-3" in out
    assert [path.name for path in where.iterdir()] == ["sweep.json"]
    status, out, _ = answer(capfd, *search, "--plan", "--json")
    assert (status, json.loads(out)) == (0, json.loads((where / "sweep.json").read_text()))
    status, _, err = answer(capfd, *SEARCH, "--dir", where, "--plan")
    assert status == 2
    assert f"{where / 'sweep.json'} is another sweep's (4 trials were planned, now 2)" in err


def test_the_table_fits_80_columns_and_needs_the_directory_only(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    search = ["--grid", "es.sigma=0.1,0.5", "es.learning_rate=0.01,0.03", "--dir", tmp_path]
    assert answer(capfd, *search, "--plan")[0] == 0
    record(tmp_path / "002_es.sigma=0.5_es.learning_rate=0.01", [0.25] * 6)
    record(tmp_path / "001_es.sigma=0.1_es.learning_rate=0.03", [0.75] * 6)
    status, out, err = answer(capfd, "--dir", tmp_path, "--table")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    rows = [line.split() for line in out.splitlines() if line.strip().startswith("00")]
    assert [row[0] for row in rows] == ["001", "002", "000", "003"]
    assert rows[0] == ["001", "0.1", "0.03", "done", "6/6", "0.750", "600", "12", "s"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("", 2, "--grid"),
        ("--seeds 1 1", 2, "--seeds must differ"),
        ("--grid es.sgima=1", 2, "--grid: unknown field 'es.sgima': did you mean 'es.sigma'?"),
        (
            "--grid es.sigma=-1",
            2,
            "trial 0 (es.sigma=-1) cannot work: es.sigma must be greater than 0",
        ),
        ("--grid es.sigma=0.1..0.2", 2, "--random"),
        ("--grid es.sigma=0.1..0.2 --random 0", 2, "--random must be at least 1"),
        ("--grid seed=1,2 --seeds 3", 2, "seed is named twice"),
        ("--grid es.sigma=1 --preset quikstart", 2, "did you mean 'quickstart'"),
        ("--grid es.sigma=1 --plan --index 0", 2, "choose one of --plan and --index"),
        ("--grid es.sigma=1 --index 1", 2, "trial 1: there are 1, counted from 0"),
        ("--grid es.sigma=1 --index -1", 2, "--index counts from 0"),
        ("--grid es.sigma=1 --array", 2, "SLURM_ARRAY_TASK_ID is not set"),
        ("--grid es.sigma=1 --index 0 --json", 2, "use it with --table"),
        ("--grid es.sigma=1 -- --es.pairs 0", 2, "es.pairs must be greater than 0"),
        ("--grid es.sigma=1 -- --es.piars 1", 2, "--es.piars"),
        ("--grid es.sigma=1 -- --run-dir x", 2, "neither --run-dir nor"),
        ("--grid es.sigma=1 -- --preset lpg", 2, "--preset and --config stand before the `--`"),
        ("--table", 1, "is not a sweep: it has no sweep.json"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_nothing_is_written(
    tmp_path, capfd, monkeypatch, arguments, status, words
):
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    where = tmp_path / "sweep"
    found, out, err = answer(capfd, "--dir", where, *arguments.split())
    assert (found, out) == (status, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not where.exists()


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, capfd):
    (tmp_path / "file").touch()
    status, out, err = answer(capfd, *SEARCH, "--dir", tmp_path / "file" / "sweep", "--plan")
    assert (status, out) == (1, "")
    assert err.startswith(f"error: cannot write to {tmp_path / 'file' / 'sweep'}: ")


@pytest.mark.parametrize(("common", "generations"), [([], 120), (["--generations", "30"], 30)])
def test_a_trial_that_was_begun_with_fewer_generations_gets_the_plans(tmp_path, common, generations):
    preset = PRESETS.find("quickstart").config
    assert preset.generations == 120
    trial = Trial(name="000_seed=1", overrides={"seed": 1})
    RunDirectory(tmp_path / trial.name, dataclasses.replace(preset, seed=1, generations=20)).close()
    arguments = sweep.Arguments(dir=tmp_path)
    arguments = dataclasses.replace(arguments, preset="quickstart")
    words, _ = sweep.process_of(arguments, common, trial)
    asked = parse_arguments(words[words.index("meta-train") + 1 :], resume=True)
    assert (asked.config.seed, asked.config.generations) == (1, generations)


def test_a_sweep_begins_at_the_preset_though_a_run_of_it_is_where_runs_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    begun = dataclasses.replace(PRESETS.find("quickstart").config, seed=77)
    RunDirectory(tmp_path / "runs" / "quickstart", begun).close()
    status, out, _ = answer(capsys, *SEARCH, "--dir", tmp_path / "sweep", "--plan", "--json")
    assert status == 0
    assert json.loads(out)["fixed"] == {}

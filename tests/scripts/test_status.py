"""The command on run directories written by hand, and its promise to change nothing and to start fast."""

import functools
import json
import subprocess
import sys

import pytest

from rl_discovery.scripts import status
from tests.meta.processes import ROOT, environment
from tests.meta.recorded import record, row
from tests.meta.tiny import tiny
from tests.scripts.called import called

FAST = """
import sys
from rl_discovery.scripts import cli
code = cli.main(["status", *sys.argv[1:]])
heavy = {"jax", "jaxlib", "numpy", "orbax", "flax", "pydantic"} & sys.modules.keys()
assert not heavy, f"status is slow: it imports {heavy}"
sys.exit(code)
"""

answer = functools.partial(called, "status")


def rows(n, **more):
    return [row(i, 0.5 + 0.01 * i, **more) for i in range(n)]


def test_a_run_is_shown_within_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    more = {"replay_fraction": 0.48, "buffer_filled": 3200, "held_out_fitness": 0.625}
    more |= {"time_compile_s": 5.0, "time_generations_s": 80.0, "time_evaluation_s": 15.0}
    record(tmp_path / "mine", rows(40, **more), tiny(generations=1200), checkpoint=30)
    code, out, err = answer(capsys, "mine")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for words in (
        "mine  ",
        "40 of 1,200",
        "3%  39 min to go",
        "0.870, mean of the last 5",
        "rising, +1.000 ± 0.000 per 100 generations",
        "0.625 after 40 generations, best 0.625",
        "48% of the levels replayed, 3,200 in the buffer",
        "4,000 in 80 s, 50 a second lately",
        "lanes 80%, evaluation 15%, compile 5%",
        "after 30 generations, 10 behind",
    ):
        assert words in out


def test_what_rows_do_not_have_is_not_shown(tmp_path, capsys):
    code, out, _ = answer(capsys, record(tmp_path / "run"))
    assert code == 0
    assert "the first generation is not over" in out
    assert not [word for word in ("held out", "curriculum", "trend", "time") if f"\n{word} " in out]


def test_several_runs_are_a_table(tmp_path, capsys):
    record(tmp_path / "one", rows(6))
    record(tmp_path / "two", rows(3, held_out_fitness=0.25))
    code, out, _ = answer(capsys, tmp_path / "one", tmp_path / "two")
    assert code == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert lines["one"][1:4] == ["done", "6/6", "0.530"]
    assert "3/6" in lines["two"]
    assert "0.250" in lines["two"]


def test_json_is_one_document_with_every_run(tmp_path, capsys):
    paths = [record(tmp_path / name, rows(n, fitness_best=None)) for name, n in (("a", 6), ("b", 0))]
    code, out, err = answer(capsys, *paths, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["format"] == 1
    first, second = document["runs"]
    assert [first[name] for name in ("run", "state", "preset")] == [str(paths[0]), "done", "tiny"]
    assert (first["generations"], first["total"], first["fitness"]) == (6, 6, pytest.approx(0.53))
    assert (second["generations"], second["fitness"], second["checkpoint"]) == (0, None, None)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "which run?"),
        (["here", "--watch", "--json"], 2, "--json prints one document"),
        (["here", "nowhere"], 1, "nowhere: no such directory"),
        (["file"], 1, "file: this is a file"),
        (["."], 1, "it has no config.json"),
        (["broken"], 1, "broken/metrics.jsonl is damaged in line 1"),
    ],
)
def test_what_cannot_be_shown_is_one_line(tmp_path, capsys, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "here", rows(1))
    (record(tmp_path / "broken") / "metrics.jsonl").write_text("nonsense\n")
    (tmp_path / "file").touch()
    found, out, err = answer(capsys, *arguments)
    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_watch_looks_again_until_the_run_is_done(tmp_path, capsys, monkeypatch):
    path = record(tmp_path / "run", rows(4))
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        record(path, rows(4 + len(looks)))

    monkeypatch.setattr(status.time, "sleep", sleep)
    code, out, _ = answer(capsys, path, "--watch")
    assert (code, len(looks)) == (0, 2)
    assert "6 of 6" in out


def test_watch_ends_with_ctrl_c_and_leaves_its_last_screen(tmp_path, capsys, monkeypatch):
    def sleep(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    code, out, err = answer(capsys, record(tmp_path / "run", rows(4)), "--watch")
    assert (code, err) == (0, "")
    assert "4 of 6" in out


@pytest.mark.e2e
def test_the_command_writes_nothing_and_imports_nothing_heavy(tmp_path):
    path = record(tmp_path / "run", rows(3), checkpoint=2)
    before = {file: file.stat().st_mtime_ns for file in [path, *path.rglob("*")]}
    done = subprocess.run(
        [sys.executable, "-c", FAST, path, "--json"],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["generations"] == 3
    assert {file: file.stat().st_mtime_ns for file in [path, *path.rglob("*")]} == before

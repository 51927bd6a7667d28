import json
import random
import signal

import pytest

from tools import faults
from tools.fault_campaign import main, table
from tools.fault_injections import CLOCK, INJECTIONS
from tools.fault_runs import Campaign, Finding, read_rows, stripped


def write_run(run_dir, numbers, value=1.0):
    run_dir.mkdir()
    rows = [{"generation": n, "fitness_mean": value, "wall_s": random.random()} for n in numbers]
    (run_dir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def campaign(tmp_path):
    write_run(tmp_path / "whole", range(5))
    return Campaign(tmp_path, 5, 1, random.Random(0), tmp_path / "whole")


@pytest.mark.parametrize(
    ("numbers", "value", "expected"),
    [
        (range(5), 1.0, {"lost": 0, "duplicate": 0, "exact": True}),
        (range(5), 1.5, {"lost": 0, "duplicate": 0, "exact": False}),
        ([0, 1, 3, 4], 1.0, {"lost": 1, "duplicate": 0, "exact": False}),
        ([0, 1, 2, 2, 3, 4], 1.0, {"lost": 0, "duplicate": 1, "exact": False}),
    ],
)
def test_lost_repeated_and_other_generations_are_found(campaign, tmp_path, numbers, value, expected):
    write_run(tmp_path / "run", numbers, value)
    assert campaign.compare(tmp_path / "run") == expected
    kept = campaign.finding("fault", "promise", "", tmp_path / "run").kept
    assert kept == (expected == {"lost": 0, "duplicate": 0, "exact": True})


def test_what_a_clock_says_is_not_compared():
    rows = [
        {"generation": 0, "wall_s": 1, "generation_s": 2, "env_steps_per_s": 3, "time_idle_s": 4, "sigma": 5}
    ]
    assert stripped(rows) == [{"generation": 0, "sigma": 5}]


def test_damage_really_changes_a_file(campaign, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    faults.flip_bit(campaign, path)
    changed = [a ^ b for a, b in zip(path.read_bytes(), range(100), strict=True) if a != b]
    assert len(changed) == 1
    assert changed[0].bit_count() == 1
    faults.truncate(campaign, path)
    assert path.stat().st_size < 100


def test_a_broken_promise_stands_out_in_the_report():
    finding = Finding("fault", "exact", "was not", 1, 2, 3, False, kept=False)
    assert table([finding]).splitlines()[-1] == "| fault | exact | was not | 2 | 3 | NO |"


@pytest.mark.parametrize(
    ("status", "line", "saved", "complaint"),
    [
        (143, "resume with", 5, None),
        (143, "resume with", 4, "stopped after 5 generations, and saved 4"),
        (-15, "", 4, None),
        (-15, "compiling", 4, "status -15: compiling"),
        (1, "error: x", 5, "status 1: error: x"),
        (0, "done", 5, None),
    ],
)
def test_a_signal_must_end_a_run_in_order_with_all_that_it_did(tmp_path, status, line, saved, complaint):
    write_run(tmp_path / "run", range(5))
    for step in (saved - 1, saved, "pruned"):
        (tmp_path / "run" / "checkpoints" / str(step)).mkdir(parents=True)
    assert faults.complaint_of(signal.SIGTERM, status, line, tmp_path / "run") == complaint
    assert faults.complaint_of(signal.SIGKILL, -signal.SIGKILL, line, tmp_path / "run") is None


@pytest.mark.parametrize(
    ("name", "changed", "expected"),
    [
        ("NaN in rewards", {"nonfinite_candidates": 2}, True),
        ("NaN in rewards", {}, False),
        ("NaN in curriculum scores", {"fitness_mean": 2.0}, True),
        ("NaN in curriculum scores", {"wall_s": 9.0}, False),
    ],
)
def test_an_injection_that_cannot_be_seen_is_no_success(campaign, name, changed, expected):
    rows = [row | {"nonfinite_candidates": 0} for row in read_rows(campaign.whole)]
    (campaign.whole / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [row | changed for row in rows]
    assert faults.effect_of(campaign, INJECTIONS[name], found)[0] is expected


@pytest.mark.parametrize("code", [CLOCK, *(injection.code for injection in INJECTIONS.values())])
def test_injections_are_programs(code):
    compile(code, "injection", "exec")


def test_an_unknown_fault_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="unknown faults floods: there are kills"):
        main(["--faults", "floods"])

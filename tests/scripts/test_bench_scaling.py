import itertools
import json
import subprocess
from types import SimpleNamespace

import pytest

from rl_discovery.scripts import bench_scaling, cli
from rl_discovery.scripts.arguments import UsageError
from rl_discovery.scripts.bench_scaling import device_counts, measure, show

RATES = {1: 100.0, 2: 180.0, 4: 190.0}


@pytest.fixture
def commands(monkeypatch):
    """What would be run, with its environment; each answers with the rate of its number of devices."""
    asked = []

    def run(command, *, env, **_):
        asked.append((command, env))
        options = dict(itertools.pairwise(command))
        row = {
            "devices": int(options["--devices"]),
            "pairs": int(options["--pairs"]),
            "env_steps_per_s": RATES[int(options["--devices"])],
            "platform": "cpu",
        }
        return SimpleNamespace(returncode=0, stdout=json.dumps(row))

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_pairs_grow_with_the_devices_and_efficiency_counts_cores(commands, capsys):
    argv = ["--preset", "ta-lpg-cpu", "--devices", "1,2,4", "--pairs=8", "--repeats", "2", "--json"]
    rows = measure([1, 2, 4], 8, argv, cores=2)
    assert [row["pairs"] for row in rows] == [8, 16, 32]
    assert [row["per_device"] for row in rows] == [100, 90, 47.5]
    # Four devices of two cores have two cores.
    assert [row["efficiency"] for row in rows] == [1, 0.9, 0.95]
    for command, _ in commands:
        assert command.count("--json") == command.count("--devices") == command.count("--pairs") == 1
        assert "--pairs=8" not in command
        assert command[command.index("--repeats") + 1] == "2"
    show(rows)
    assert "0.95" in capsys.readouterr().out


def test_a_count_that_fails_ends_the_measurement(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=2, stdout=""))
    with pytest.raises(UsageError, match=r"bench with 1 devices failed"):
        measure([1, 2], 8, [], cores=2)


def test_children_choose_their_own_number_of_host_devices(monkeypatch, commands):
    monkeypatch.setenv("XLA_FLAGS", f"--{bench_scaling.HOST_DEVICES}=2 --xla_other=1")
    measure([1], 8, [], cores=2)
    ((_, environment),) = commands
    assert environment["XLA_FLAGS"] == "--xla_other=1"


@pytest.mark.parametrize("value", ["", "0", "1,0", "1,,2", "two", "-1", "1.5"])
def test_what_is_no_count_of_devices_is_refused_with_one_line(value, capsys):
    assert cli.main(["bench", f"--devices={value}"]) == 2
    assert "--devices must be a number or a list like 1,2,4,8" in capsys.readouterr().err


def test_one_count_is_a_list_of_one_and_none_is_empty():
    assert device_counts(["3"]) == [3]
    assert device_counts([]) == []


def test_counts_are_written_with_commas_or_spaces():
    assert device_counts(["1,2,4"]) == device_counts(["1", "2", "4"]) == [1, 2, 4]


def test_weak_scaling_of_another_trainer_is_refused(capsys):
    assert cli.main(["bench", "--preset", "groove-cpu", "--devices", "1,2"]) == 2
    assert "weak scaling is measured with evolution" in capsys.readouterr().err

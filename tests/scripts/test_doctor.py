"""`rl-discovery doctor`: says what is wrong and how to mend it, and exits 1 only for what is required."""

import json
import shlex
import sys

import jax
import pytest
from packaging.requirements import Requirement

from rl_discovery.scripts import cli, doctor, runtime

PIP_INSTALL = [sys.executable, "-m", "pip", "install"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The interpreter does not lie in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def healthy(monkeypatch):
    """Only what a test breaks is broken, whatever machine it runs on."""
    monkeypatch.setattr(doctor, "requirements", lambda: [Requirement("jax>=0.4")])


def report(capsys, status):
    assert cli.main(["doctor", "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] == (status == 0)
    return {check["name"]: check for check in document["checks"]}


def test_this_environment_is_fit(capsys):
    checks = report(capsys, 0)
    assert checks["jax"]["value"] == jax.__version__
    assert {"python", "cores", "vector units", "memory", "devices", "extra wandb"} <= checks.keys()
    assert not [check for check in checks.values() if check["status"] == "broken"]


def test_table_names_each_check_and_ends_in_a_verdict(capsys, healthy):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok  jax ") for line in lines)
    assert lines[-1] == "ready"


@pytest.mark.parametrize(
    ("requirement", "value"),
    [("rl-discovery-absent>=1", "missing"), ("jax<0.1", f"{jax.__version__}, needs <0.1")],
)
def test_missing_or_wrong_package_is_broken_and_says_what_to_install(capsys, monkeypatch, requirement, value):
    monkeypatch.setattr(doctor, "requirements", lambda: [Requirement(requirement)])
    check = report(capsys, 1)[Requirement(requirement).name]
    assert (check["status"], check["value"]) == ("broken", value)
    assert shlex.split(check["hint"]) == [*PIP_INSTALL, requirement]


def test_missing_extra_is_only_a_note(capsys, monkeypatch):
    declared = [Requirement('rl-discovery-absent>=1; extra == "wandb"'), Requirement('jax; extra == "brax"')]
    monkeypatch.setattr(doctor, "requirements", lambda: declared)
    checks = report(capsys, 0)
    assert checks["extra wandb"]["status"] == "note"
    assert shlex.split(checks["extra wandb"]["hint"]) == [*PIP_INSTALL, "rl-discovery-absent>=1"]
    assert checks["extra brax"]["status"] == "ok"


def test_declared_requirements_are_found():
    names = {requirement.name for requirement in doctor.requirements()}
    assert {"jax", "orbax-checkpoint", "wandb", "brax"} <= names


def test_device_that_fails_is_broken(capsys, healthy, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend\n'tpu'")

    monkeypatch.setattr(jax, "devices", fail)
    check = report(capsys, 1)["devices"]
    assert check["value"] == "Unable to initialize backend 'tpu'"


def test_import_that_fails_is_broken(capsys, healthy, monkeypatch):
    real = doctor.importlib.import_module

    def import_module(name):
        if name == "rl_discovery.envs":
            raise ModuleNotFoundError("No module named 'six'")
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", import_module)
    assert (
        report(capsys, 1)["import rl_discovery.envs"]["value"] == "ModuleNotFoundError: No module named 'six'"
    )


def test_unwritable_cache_is_only_a_note(capsys, healthy, monkeypatch):
    monkeypatch.setattr(runtime, "cache_dir", lambda: None)
    assert report(capsys, 0)["compilation cache"]["status"] == "note"

"""The command that installs an extra, from where the user stands."""

import shutil
import sys
from importlib import metadata

import pytest

from rl_discovery.discovery import extras
from rl_discovery.discovery.extras import Extra, install_command

DECLARED = [
    "jax>=0.10",
    'brax>=0.14; extra == "brax"',
    'jax[cuda13]; extra == "cuda"',
    'six; extra == "cuda"',
]


@pytest.fixture
def beside_a_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "rl_discovery" / "discovery" / "extras.py"))
    monkeypatch.setattr(metadata, "requires", lambda name: DECLARED)


def test_a_clone_and_a_wheel_name_the_packages_themselves(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / name))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert install_command("tpu") == "pip install 'jax[tpu]'"


def test_beside_a_wheel_its_metadata_is_asked(beside_a_wheel, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/opt/venv/bin/python")
    assert install_command("cuda") == "/opt/venv/bin/python -m pip install 'jax[cuda13]' six"
    assert install_command("brax") == "/opt/venv/bin/python -m pip install 'brax>=0.14'"


def test_a_python_below_the_working_directory_is_named_from_there(beside_a_wheel, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/pip")
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert install_command("brax") == ".venv/bin/python -m pip install 'brax>=0.14'"


def test_an_extra_that_is_not_declared_is_refused():
    with pytest.raises(ValueError, match="there is no extra 'toys'"):
        install_command("toys")


def test_installed_is_whether_the_module_can_be_found():
    assert Extra("jax", module="jax").installed
    assert not Extra("jax", module="rl_discovery_absent").installed

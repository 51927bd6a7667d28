"""Commands that install packages name this interpreter and what pip takes."""

import importlib.util
import shlex
import sys
from pathlib import Path

from packaging.requirements import Requirement

from rl_discovery.discovery import extras


def test_the_command_names_every_package_of_the_extra_and_this_interpreter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    declared = [Requirement(line) for line in ("numpy>=2", 'x[y]<3,>=1; extra == "z"', 'w; extra == "v"')]
    monkeypatch.setattr(extras, "requirements", lambda: declared)
    python, *words, package = shlex.split(extras.install("z"))
    assert (python, words) == (sys.executable, ["-m", "pip", "install"])
    assert Requirement(package) == Requirement("x[y]<3,>=1")


def test_in_the_folder_of_its_environment_the_interpreter_is_named_from_there(monkeypatch):
    environment = Path(sys.executable).parents[1]
    monkeypatch.chdir(environment.parent)
    python = shlex.split(extras.pip_install(["x"]))[0]
    assert python == str(Path(sys.executable).relative_to(environment.parent))


def test_without_pip_the_command_is_that_of_uv(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "pip" else find(n, *a))
    assert extras.pip_install(["x"]).startswith("uv pip install --python ")


def test_every_extra_of_users_is_declared():
    names = {"brax", "wandb", "cuda", "tpu", "notebooks"}
    assert all(extras.of_extra(name, extras.requirements()) for name in names)


def test_installed_is_whether_the_module_can_be_found():
    assert extras.Extra("jax", module="jax").installed
    assert not extras.Extra("jax", module="rl_discovery_absent").installed

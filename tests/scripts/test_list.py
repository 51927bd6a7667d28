"""`rl-discovery list`: everything that is registered, and JSON that is nothing but JSON."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from rl_discovery import envs
from rl_discovery.checkpoints import loading, save_objective, shipped
from rl_discovery.discovery.extras import Extra
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from rl_discovery.meta.curriculum import SCORES
from rl_discovery.scripts import cli, list_
from rl_discovery.scripts.output import columns


def listed(capsys, kind):
    assert cli.main(["list", kind, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", list_.KINDS)
def test_json_is_an_array_of_named_and_described_objects(capsys, kind):
    entries = listed(capsys, kind)
    assert entries
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names)
    assert all(entry["description"] for entry in entries)


@pytest.mark.parametrize("kind", list_.KINDS)
def test_table_has_a_line_for_each(capsys, kind):
    names = [entry["name"] for entry in listed(capsys, kind)]
    assert cli.main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    if kind == "envs":  # indented under families
        lines = [line for line in lines if line.startswith("  ")]
    assert [line.split()[0] for line in lines] == names


def test_environments_stand_under_their_family_with_the_extra_that_brings_it(capsys, monkeypatch):
    missing, there = Extra("navix", module="rl_discovery_absent"), Extra("brax", module="jax")
    for name, extra in (("navix", missing), ("brax", there)):
        family = dataclasses.replace(envs.FAMILIES[name], extra=extra)
        monkeypatch.setitem(envs.FAMILIES, name, family)
    entries = {entry["name"]: entry for entry in listed(capsys, "envs")}
    told = {name: (entry["family"], entry["extra"], entry["installed"]) for name, entry in entries.items()}
    assert told["navix/Empty-5x5-v0"] == ("navix", "navix", False)
    assert told["brax/ant"] == ("brax", "brax", True)
    assert told["gridworld/all"] == ("gridworld", None, True)
    assert told["CartPole-v1"] == ("gymnax", None, True)
    assert cli.main(["list", "envs"]) == 0
    out = capsys.readouterr().out
    assert "\n\nnavix: the tasks of MiniGrid in JAX (extra navix, not installed: " + missing.command in out
    assert "brax: continuous control with Brax (extra brax)\n  brax/ant  " in out
    assert "\n\ngymnax: gymnax's own environments\n  CartPole-v1" in out


def test_lists_are_those_of_the_registries(capsys):
    assert [entry["name"] for entry in listed(capsys, "envs")] == [name for name, _ in envs.names()]
    assert [entry["name"] for entry in listed(capsys, "distributions")] == list(envs.distributions())
    assert [entry["name"] for entry in listed(capsys, "scores")] == list(SCORES)
    assert {entry["name"] for entry in listed(capsys, "suites")} == set(envs.SUITES)
    assert {entry["name"] for entry in listed(capsys, "objectives")} >= set(RULES)


def test_suites_say_what_horizons_count(capsys):
    suite = next(entry for entry in listed(capsys, "suites") if entry["name"] == "unseen")
    assert (suite["horizons"], suite["unit"]) == ([25, 100, 250], "updates")


def test_distributions_say_how_long_lifetimes_are(capsys):
    found = {entry["name"]: entry for entry in listed(capsys, "distributions")}
    assert found["gridworld/all_vrandlife"]["horizons"] == [10, 250]
    assert cli.main(["list", "distributions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("gridworld/small ") and line.endswith("; 250 updates") for line in lines)
    assert any(line.endswith("; 10 to 250 updates") for line in lines)


def test_objectives_say_which_can_be_used_at_once(capsys, tmp_path, monkeypatch):
    rule = make_objective("lpg", width=4)
    shapes = jax.eval_shape(rule.init, jax.eval_shape(lambda: jax.random.key(0)))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    for name in ("lpg", "lpg-small"):
        save_objective(tmp_path / f"{name}.safetensors", TrainedObjective(rule, params, {"seed": 9}))
    monkeypatch.setattr(loading, "_folder", lambda: tmp_path)
    found = {entry["name"]: entry for entry in listed(capsys, "objectives")}
    kinds = {name: found[name]["kind"] for name in ("a2c", "lpg", "lpg-small", "ta-lpg")}
    assert kinds == {"a2c": "hand-written", "lpg": "shipped", "lpg-small": "shipped", "ta-lpg": "learned"}
    assert found["lpg-small"]["card"]["seed"] == 9
    assert found["ta-lpg"]["description"].endswith("train it first")
    assert found["lpg"]["description"].endswith("; shipped, by evolution from random numbers")


def test_shipped_objectives_of_one_rule_are_told_apart(capsys):
    found = {entry["name"]: entry["description"] for entry in listed(capsys, "objectives")}
    assert found["ta-lpg-a2c"].endswith("; shipped, by evolution from A2C, 1.4e10 steps")
    by_gradients = "; shipped, by meta-gradients from random numbers, 2.0e9 steps"
    assert found["lpg-meta-gradient"].endswith(by_gradients)
    of_shipped = [text for text in found.values() if "; shipped" in text]
    assert len(set(of_shipped)) == len(of_shipped) == len(shipped())


def test_prints_of_other_packages_stay_out_of_the_document(capsys, monkeypatch):
    def chatty():
        print("Failed to import warp")
        return [{"name": "a", "description": "b"}]

    monkeypatch.setitem(list_.KINDS, "envs", chatty)
    assert cli.main(["list", "envs", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == [{"name": "a", "description": "b"}]
    assert captured.err == "Failed to import warp\n"


def test_columns_align_and_nothing_is_cut_in_a_pipe():
    text = columns([("a", "x" * 300), ("long-name", "y")])
    assert text == "a          " + "x" * 300 + "\nlong-name  y"
    assert columns([]) == ""

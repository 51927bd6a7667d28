"""Configurations that runs wrote when a drift had settings of its own (`former_configs.json`)."""

import dataclasses
import json
from pathlib import Path

import pytest

from rl_discovery.checkpoints.fields import flatten
from rl_discovery.checkpoints.run_directory import FORMAT
from rl_discovery.meta.config import from_json, identity, to_json
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.presets import PRESETS
from rl_discovery.meta.runs.directory import RunDirectory, read_config

FORMER = json.loads(Path(__file__).with_name("former_configs.json").read_text())


def preset_as_it_was(name):
    config = PRESETS[name].config
    if name != "ta-lpo-cpu":
        return config
    return dataclasses.replace(
        config,
        objective=config.objective.replace(schedule=False, encoding="paper", longest_horizon=100),
        es=dataclasses.replace(PRESETS["lpo-many-cpu"].config.es, pairs=128),
        levels=dataclasses.replace(config.levels, longest_horizon=100),
    )


@pytest.mark.parametrize("preset", FORMER)
def test_a_former_configuration_means_the_rule_that_it_meant(preset):
    config = from_json(FORMER[preset]["config"])
    rule = config.build_objective()
    known = FORMER[preset]["rule"]
    # Settings that came since are at their defaults.
    added = {f.name: f.default for f in dataclasses.fields(rule) if f.name not in known["fields"]}
    assert {"name": rule.name, "fields": dataclasses.asdict(rule)} == known | {
        "fields": known["fields"] | added
    }
    assert identity(config) == identity(preset_as_it_was(preset))
    former, today = flatten(FORMER[preset]["config"]), flatten(to_json(config))
    others = [name for name in former if not name.startswith(("objective.", "drift."))]
    assert {name: today[name] for name in others} == {name: former[name] for name in others}


@pytest.mark.parametrize("preset", FORMER)
def test_a_run_that_was_begun_with_it_goes_on_and_its_file_is_as_of_today_then(preset, tmp_path):
    document = {"format": FORMAT, "config": FORMER[preset]["config"], "versions": {}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    config = preset_as_it_was(preset)
    assert read_config(tmp_path).build_objective() == config.build_objective()
    RunDirectory(tmp_path, config).close()
    written = json.loads((tmp_path / "config.json").read_text())["config"]
    assert written == json.loads(json.dumps(to_json(config)))
    assert "drift" not in written


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drift": {"width": 0}}, "objective.width must be greater than 0, not 0"),
        ({"drift": 3}, "drift"),
        ({"objective": {"kind": ["lpo"]}}, "objective"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        from_json(FORMER["ta-lpo-cpu"]["config"] | changes)
    assert "\n" not in str(caught.value)


def test_another_former_rule_is_still_refused(tmp_path):
    document = {"format": FORMAT, "config": FORMER["ta-lpo-cpu"]["config"], "versions": {}}
    (tmp_path / "config.json").write_text(json.dumps(document))
    config = preset_as_it_was("ta-lpo-cpu")
    other = dataclasses.replace(config, objective=config.objective.replace(width=17))
    with pytest.raises(ConfigError, match=r"objective\.width was 16, now 17"):
        RunDirectory(tmp_path, other)

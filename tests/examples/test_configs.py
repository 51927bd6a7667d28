"""The example of each preset in examples/configs is that preset, and holds all that it sets."""

import tomllib
from pathlib import Path

import pytest

from rl_discovery.meta import config_file
from rl_discovery.meta.config import RunConfig
from rl_discovery.meta.presets import PRESETS

EXAMPLES = Path(__file__).parents[2] / "examples" / "configs"


def test_every_preset_has_an_example_and_every_example_a_preset():
    assert sorted(path.stem for path in EXAMPLES.iterdir()) == sorted(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_an_example_is_its_preset(name):
    assert config_file.load(EXAMPLES / f"{name}.toml") == PRESETS[name].config


@pytest.mark.parametrize("name", PRESETS)
def test_an_example_holds_all_that_its_preset_sets(name):
    file = config_file.read(EXAMPLES / f"{name}.toml")
    assert file.over(RunConfig(preset=name)) == PRESETS[name].config


@pytest.mark.parametrize("name", PRESETS)
def test_an_example_says_how_it_is_run_and_what_its_fields_are(name):
    text = (EXAMPLES / f"{name}.toml").read_text()
    assert f"--config examples/configs/{name}.toml" in text
    assert text.count("#") > len(tomllib.loads(text)) + 5

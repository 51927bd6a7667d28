"""Configurations as TOML: what goes in comes out, and what makes no sense is one line."""

import dataclasses

import pytest

from rl_discovery.discovery.registry import BrokenPluginError, UnknownNameError
from rl_discovery.meta import config_file
from rl_discovery.meta.config import CheckpointConfig, RunConfig
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.objective_settings import objective_settings
from rl_discovery.meta.presets import PRESETS


@pytest.fixture
def written(tmp_path):
    """Writes a file; returns its path."""

    def write(text):
        path = tmp_path / "my.toml"
        path.write_text(text)
        return path

    return write


def quickstart(**changes):
    return dataclasses.replace(PRESETS["quickstart"].config, **changes)


CONFIGS = {
    **{name: preset.config for name, preset in PRESETS.items()},
    "a value less than the preset's": quickstart(
        es=dataclasses.replace(quickstart().es, average_decay=None), checkpoint=CheckpointConfig(minutes=None)
    ),
    "another rule": quickstart(objective=objective_settings("ta-ppo", discount=0.9)),
    "tuples": quickstart(objective=objective_settings("closed-form-drift", terms=("(r-1)^2", "log(r)^2"))),
    "the same rule with its own horizons": quickstart(
        objective=dataclasses.replace(quickstart().objective, shortest_horizon=3, longest_horizon=30)
    ),
    "fewer environments than the preset": dataclasses.replace(PRESETS["lpo-many-cpu"].config, also=()),
    "a preset that is not installed": dataclasses.replace(RunConfig(), preset="somebody-elses"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_survives_toml(name, written):
    config = CONFIGS[name]
    file = config_file.read(written(config_file.to_toml(config)))
    assert file.preset == config.preset
    base = PRESETS[file.preset].config if file.preset in PRESETS else RunConfig(preset=file.preset)
    assert file.over(base) == config


def test_a_file_goes_over_its_preset_and_leaves_the_rest(written):
    path = written('preset = "lpo-cpu"\nseed = 3\n[es]\nsigma = 1\n[objective]\nkind = "ta-lpo"\n')
    base = PRESETS["lpo-cpu"].config
    found = config_file.load(path)
    assert found.objective == base.objective.replace(progress_inputs=True)
    assert found.es == dataclasses.replace(base.es, sigma=1.0)
    assert dataclasses.replace(found, seed=0, es=base.es, objective=base.objective) == base


def test_without_a_preset_a_file_is_over_the_default_one(written):
    assert config_file.load(written("seed = 3")) == dataclasses.replace(PRESETS["ta-lpg-cpu"].config, seed=3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[es]\nsgima = 1", "es.sgima: no such field: did you mean 'sigma'? there are strategy, pairs, "),
        ("sedd = 1", "sedd: no such field: did you mean 'seed'? there are preset, seed, "),
        ("[es]\npairs = 'x'", "es.pairs must be a valid integer"),
        ("es = 3", "es: it must be a table, not 3"),
        ("generations = 0", "generations must be greater than 0, not 0"),
        ("trainer = 'es2'", "trainer must be 'es' or 'meta_gradient', not 'es2'"),
        ("[objective]\nkind = 'lpq'", "unknown objective 'lpq': did you mean 'lp"),
        ("[objective]\nkind = 'lpo'\nwidht = 3", "objective.widht: no such field: did you mean 'width'?"),
        ("[objective]\nwidth = 'none'", "objective.width must be a valid integer, not None"),
        ("[[also]]\nblock_size = 2", "also.0.levels: Field required"),
        ("[es", " is not a TOML file: "),
        ("preset = 3", "preset: it must be one of `rl-discovery list presets`, not 3"),
        ("plugins = 'x'", "plugins: it must be a list of modules, not 'x'"),
    ],
)
def test_what_makes_no_sense_is_one_line_with_the_file_and_what_is_allowed(written, text, words):
    path = written(text)
    with pytest.raises(ConfigError) as caught:
        config_file.load(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_one_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, words in (("nowhere", "No such file"), ("binary", "is not a TOML"), (".", "Is a directory")):
        with pytest.raises(ConfigError, match=words):
            config_file.load(tmp_path / name)


def test_an_unknown_preset_and_a_plugin_that_is_not_there_are_named(written):
    with pytest.raises(UnknownNameError, match="did you mean 'quickstart'"):
        config_file.load(written("preset = 'quikstart'"))
    with pytest.raises(BrokenPluginError, match="no_such_module"):
        config_file.load(written("plugins = ['no_such_module']"))


def test_a_file_and_a_flag_that_name_two_presets_are_refused(written):
    file = config_file.read(written("preset = 'lpo'"))
    assert config_file.preset_of(file, None) == config_file.preset_of(file, "lpo") == "lpo"
    with pytest.raises(ConfigError, match="is based on the preset 'lpo', not 'lpg'"):
        config_file.preset_of(file, "lpg")

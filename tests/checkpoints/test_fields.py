import dataclasses

from rl_discovery.checkpoints.fields import changed, flatten
from rl_discovery.meta.config import to_json
from rl_discovery.meta.presets import PRESETS


def test_every_field_has_its_dotted_name_and_the_names_lead_back():
    document = to_json(PRESETS.find("lpo-many-cpu").config)
    found = flatten(document)
    assert found["es.pairs"] == 48
    assert found["also.0.levels.distribution"] == "CartPole-v1"
    for name, value in found.items():
        part = document
        for key in name.split("."):
            part = part[int(key)] if isinstance(part, list) else part[key]
        assert part == value


def test_what_is_changed_is_told_with_its_new_value():
    config = PRESETS.find("lpo-many-cpu").config
    first, *rest = config.also
    other = dataclasses.replace(
        config,
        seed=7,
        also=(dataclasses.replace(first, levels=dataclasses.replace(first.levels, horizon=9)), *rest),
    )
    assert changed(to_json(other), to_json(config)) == {"seed": 7, "also.0.levels.horizon": 9}
    assert changed(to_json(config), to_json(config)) == {}

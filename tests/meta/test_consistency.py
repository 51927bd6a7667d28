"""Settings that do not fit together."""

import dataclasses

import pytest

from rl_discovery.meta.config import validate
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.presets import PRESETS

UNUSED = {
    "average of meta-gradients": ("lpg-meta-gradient-cpu", "es.average_decay", 0.9, "trainer is es"),
    "fitness of meta-gradients": ("lpg-meta-gradient-cpu", "fitness", "area_under_curve", "trainer is es"),
    "gamma of the free form": (
        "lpg-cpu",
        "objective.schedule_discount",
        True,
        "objective.form is a2c_residual",
    ),
    "discount of the free form": ("ta-lpg-cpu", "objective.discount", 0.9, "objective.form is a2c_residual"),
    "clip of the free form": (
        "ta-lpg-cpu",
        "objective.schedule_clip",
        True,
        "objective.form is a2c_residual",
    ),
    "square of a schedule that is not there": (
        "lpo-cpu",
        "objective.schedule_v_squared",
        True,
        "objective.schedule is on",
    ),
    "pihat of the residual form": (
        "ta-lpg-a2c-cpu",
        "objective.normalise_pihat",
        True,
        "objective.form is free",
    ),
    "heads of the free form": (
        "ta-lpg-cpu",
        "objective.residual_scale",
        1.0,
        "objective.form is a2c_residual",
    ),
    "edited levels without replay": (
        "ta-lpg-cpu",
        "curriculum.edit_probability",
        0.5,
        "curriculum.score replays levels",
    ),
    "discount without a schedule": (
        "lpo-cpu",
        "objective.schedule_discount",
        True,
        "objective.schedule is on",
    ),
}


@pytest.mark.parametrize("case", UNUSED.values(), ids=UNUSED)
def test_a_setting_that_nothing_reads_is_refused(case):
    preset, name, value, where = case
    config = PRESETS.find(preset).config
    *place, last = name.split(".")
    part = getattr(config, place[0]) if place else config
    changed = dataclasses.replace(part, **{last: value})
    config = dataclasses.replace(config, **{place[0]: changed}) if place else changed
    with pytest.raises(
        ConfigError, match=f"^{name} has no effect: it is read only where {where}; leave it at "
    ):
        validate(config)

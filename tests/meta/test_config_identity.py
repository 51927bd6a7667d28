"""Which fields decide results, and which may change when a run resumes."""

import dataclasses

import pytest

from rl_discovery.meta.config import (
    CurriculumConfig,
    RunConfig,
    from_json,
    identity,
    to_json,
    validate,
)

MAY_CHANGE = {
    "preset": "other",
    "generations": 1,
    "devices": 3,
    "checkpoint": {"every": 7, "keep": 9, "minutes": None},
    "logging": {"tensorboard": False, "wandb_project": "x"},
}


@pytest.mark.parametrize("name", MAY_CHANGE)
def test_a_run_may_resume_with_another(name):
    document = to_json(RunConfig()) | {name: MAY_CHANGE[name]}
    assert identity(from_json(document)) == identity(RunConfig())


@pytest.mark.parametrize("name", sorted(set(to_json(RunConfig())) - set(MAY_CHANGE)))
def test_everything_else_decides_results_and_is_identity(name):
    assert name in identity(RunConfig())
    decisive = {"seed", "objective", "agent", "trainer", "es", "meta_gradient", "levels"}
    decisive |= {"fitness", "start_from"}
    assert name in decisive | {"also", "curriculum", "block_size", "held_out"}, "new field: which is it?"


def test_the_gallery_may_be_switched_on_and_off_but_the_curriculum_stays():
    replayed = RunConfig(curriculum=CurriculumConfig(score="learnability"))
    same, other = (
        dataclasses.replace(replayed, curriculum=dataclasses.replace(replayed.curriculum, **change))
        for change in ({"gallery": False}, {"temperature": 0.5})
    )
    assert identity(validate(same)) == identity(replayed)
    assert identity(validate(other)) != identity(replayed)


@pytest.mark.parametrize("change", [("every", 7), ("on_divergence", "stop"), ("drop", 0.9), ("patience", 9)])
def test_held_out_evaluations_that_are_only_looked_at_may_change_but_for_their_levels(change):
    document = to_json(RunConfig())
    looked_at = {"held_out": document["held_out"] | dict([change])}
    assert identity(from_json(document | looked_at)) == identity(RunConfig())
    levels = {"held_out": document["held_out"] | {"levels": 9}}
    assert identity(from_json(document | levels)) != identity(RunConfig())


@pytest.mark.parametrize("change", [("every", 7), ("on_divergence", "stop"), ("drop", 0.9), ("patience", 9)])
def test_held_out_evaluations_that_may_reduce_sigma_decide_results(change):
    reducing = {"held_out": {"every": 5, "on_divergence": "reduce"}}
    document = to_json(RunConfig()) | reducing
    other = to_json(RunConfig()) | {"held_out": reducing["held_out"] | dict([change])}
    assert identity(from_json(document)) != identity(RunConfig())
    assert identity(from_json(document)) != identity(from_json(other))

"""Plans of a sweep and how its trials compare."""

import dataclasses
import json
import math
import random

import pytest

from rl_discovery.meta.errors import ConfigError, RunError
from rl_discovery.meta.runs import sweep
from rl_discovery.meta.runs.sweep import Plan, Trial, make_plan, parse_axis, points, write_plan
from tests.meta.recorded import record, row
from tests.meta.tiny import TINY, tiny


def planned(*texts, base=TINY, count=None, seed=0):
    return make_plan(TINY, base, points([parse_axis(text, base) for text in texts], count, seed))


def test_a_grid_is_every_combination_in_a_stable_order():
    plan, configs = planned("es.sigma=0.1,0.5", "agent.workers=2,4")
    assert [dict(trial.overrides) for trial in plan.trials] == [
        {"es.sigma": 0.1, "agent.workers": 2},
        {"es.sigma": 0.1, "agent.workers": 4},
        {"es.sigma": 0.5, "agent.workers": 2},
        {"es.sigma": 0.5, "agent.workers": 4},
    ]
    assert plan.trials[1].name == "001_es.sigma=0.1_agent.workers=4"
    assert configs[3] == tiny(es={"sigma": 0.5}, agent={"workers": 4})


def test_values_take_the_type_of_their_field():
    plan, (config,) = planned(
        "objective.horizon-inputs=false",
        "levels.horizon=none",
        "agent.hidden=16 8",
        "levels.distribution=all",
    )
    assert (config.objective.horizon_inputs, config.levels.horizon) == (False, None)
    assert (config.agent.hidden, config.levels.distribution) == ((16, 8), "all")
    assert plan.trials[0].name == (
        "000_objective.horizon_inputs=False_levels.horizon=None_agent.hidden=16-8_levels.distribution=all"
    )


def test_kinds_may_be_searched_with_settings_that_only_they_have():
    axes = ("objective.value-clip=0.1,0.3", "objective.kind=lpo,ta-ppo")
    plan, configs = planned(*axes, base=tiny(agent={"epochs": 2}))
    assert [dict(trial.overrides) for trial in plan.trials][:2] == [
        {"objective.value_clip": 0.1, "objective.kind": "lpo"},
        {"objective.value_clip": 0.1, "objective.kind": "ta-ppo"},
    ]
    assert [config.build_objective().name for config in configs] == ["lpo", "ta-ppo"] * 2


def test_a_name_of_a_directory_has_neither_slashes_nor_an_end():
    plan, _ = planned("levels.distribution=gridworld/small", "seed=1")
    assert plan.trials[0].name == "000_levels.distribution=gridworld-small_seed=1"
    levels = ("levels.distribution=gridworld/small", "levels.horizon=5", "levels.longest-horizon=9")
    plan, _ = planned(*levels, "es.sigma=0.1", "objective.normalise-pihat=true", "es.learning-rate=0.01")
    assert len(plan.trials[0].name) == sweep.NAME_LENGTH


def test_random_points_are_log_uniform_all_different_and_the_same_for_a_seed():
    axes = [parse_axis("es.sigma=0.001..1.0", TINY), parse_axis("es.pairs=2..64", TINY)]
    found = points(axes, 400, seed=3)
    assert found == points(axes, 400, seed=3)
    assert found != points(axes, 400, seed=4)
    assert len({tuple(point.items()) for point in found}) == 400
    sigmas = sorted(float(point["es.sigma"]) for point in found)
    assert 0.001 <= sigmas[0] < sigmas[-1] <= 1.0
    assert math.log10(sigmas[200]) == pytest.approx(-1.5, abs=0.25)
    assert {int(point["es.pairs"]) for point in found} > set(range(2, 12))


def test_random_points_of_a_list_are_its_values():
    axis = parse_axis("es.sigma=0.1,0.2", TINY)
    assert {axis.draw(random.Random(i)) for i in range(20)} == {"0.1", "0.2"}
    assert sorted(point["es.sigma"] for point in points([axis], 2, seed=0)) == ["0.1", "0.2"]


@pytest.mark.parametrize(
    ("texts", "count", "words"),
    [
        (["es.sgima=1"], None, "unknown field 'es.sgima': did you mean 'es.sigma'?"),
        (["preset=lpg"], None, "unknown field 'preset'"),
        (["es=1"], None, "unknown field 'es'"),
        (["es.sigma"], None, "'es.sigma' is not FIELD=VALUE"),
        (["es.sigma="], None, "is not FIELD=VALUE"),
        (["es.sigma=1..0.1"], 2, "a range is LOW..HIGH with 0 < LOW < HIGH"),
        (["es.sigma=0..1"], 2, "a range is LOW..HIGH"),
        (["es.sigma=a..b"], 2, "a range is LOW..HIGH"),
        (["es.sigma=1..2..3"], 2, "a range is LOW..HIGH"),
        (["es.sigma=0.1..1"], None, "es.sigma is a range, which needs random points: give --random"),
        (["es.sigma=0.1", "es.sigma=0.2"], None, "es.sigma is named twice"),
        (["es.sigma=0.1,0.2"], 3, "only 2 different combinations were found, not 3"),
        (
            ["es.sigma=0.1,-1"],
            None,
            "trial 1 (es.sigma=-1) cannot work: es.sigma must be greater than 0",
        ),
        (["es.sigma=0.1,,0.2"], None, "es.sigma must be a valid number"),
        (["es.sigma=nan"], None, "es.sigma must be a finite number"),
        (["es.sigma=0.001"], None, "es.sigma_min (0.01) exceeds es.sigma (0.001)"),
        (["agent.workers=x"], None, "agent.workers"),
        (["es.strategy=open-es"], None, "did you mean 'open_es'"),
        (["levels.distribution=smal"], None, "did you mean 'small'"),
        (["agent.network=cnn"], None, "network='mlp'"),
        (["drift.width=3"], None, "drift.width is now objective.width"),
        (["objective.value_clip=0.1"], None, "objective.value_clip: ta-lpg has no such setting"),
        (["es.sigma=0.1,0.10"], None, "trial 1 is the same as 000_es.sigma=0.1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(texts, count, words):
    with pytest.raises(ConfigError) as error:
        planned(*texts, count=count)
    assert words in str(error.value)


def test_a_plan_is_read_as_it_was_written(tmp_path):
    plan, _ = planned("es.sigma=0.1,0.5", base=tiny(generations=9, agent={"workers": 4}))
    assert plan.fixed == {"generations": 9, "agent.workers": 4}
    write_plan(tmp_path / "sweep", plan)
    assert sweep.read_plan(tmp_path / "sweep") == plan
    document = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert document["format"] == 1
    assert document["trials"][0] == {
        "name": "000_es.sigma=0.1",
        "overrides": {"es.sigma": 0.1},
        "run_dir": "000_es.sigma=0.1",
    }


def test_the_same_plan_may_run_longer_and_another_is_refused(tmp_path):
    plan, _ = planned("es.sigma=0.1,0.5")
    write_plan(tmp_path, plan)
    write_plan(tmp_path, plan)
    longer, _ = planned("es.sigma=0.1,0.5", base=tiny(generations=100, checkpoint={"every": 5}))
    write_plan(tmp_path, longer)
    assert sweep.read_plan(tmp_path) == longer
    for other, words in (
        (planned("es.sigma=0.1")[0], "2 trials were planned, now 1"),
        (planned("es.sigma=0.1,0.6")[0], "trial 001_es.sigma=0.5 is now 001_es.sigma=0.6"),
        (planned("es.sigma=0.1,0.5", base=tiny(seed=8))[0], "seed was as in the preset, now 8"),
        (dataclasses.replace(plan, preset="lpg"), "preset was tiny, now lpg"),
    ):
        with pytest.raises(ConfigError) as error:
            write_plan(tmp_path, other)
        assert words in str(error.value)
    assert sweep.read_plan(tmp_path) == longer


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "has no field 'format'"),
        ('{"format": 1}', "is damaged (KeyError)"),
        ('{"format": 2, "preset": "a", "fixed": {}, "trials": []}', "has format 2"),
        (
            '{"format": 1, "preset": "a", "fixed": {}, "trials": [{"name": "../x", "overrides": {}}]}',
            "is damaged (ValueError)",
        ),
    ],
)
def test_a_damaged_plan_is_named_and_leads_nowhere_else(tmp_path, contents, words):
    (tmp_path / "sweep.json").write_text(contents)
    with pytest.raises(RunError) as error:
        sweep.read_plan(tmp_path)
    assert words in str(error.value)


def test_a_directory_without_a_plan_is_no_sweep(tmp_path):
    with pytest.raises(RunError, match=r"is not a sweep: it has no sweep\.json"):
        sweep.read_plan(tmp_path)


def sweep_of(*names):
    return Plan(preset="tiny", fixed={}, trials=tuple(Trial(name=name, overrides={}) for name in names))


def test_trials_compare_by_the_mean_of_their_newest_tenth(tmp_path):
    long = tiny(generations=60)
    record(tmp_path / "0", [float(i) for i in range(60)], long)  # mean of 54 to 59
    record(tmp_path / "1", [0.0] * 54 + [60.0] * 6, long)
    record(tmp_path / "2", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])  # of 5 at least: 2 to 6
    record(tmp_path / "3", [1000.0], long)  # ended early
    (record(tmp_path / "4", [0.0]) / "metrics.jsonl").write_text("nonsense\n")
    found = sweep.compare(tmp_path, sweep_of("0", "1", "2", "3", "4", "5"))
    assert [(r.name, r.fitness, r.generations, r.env_steps, r.seconds) for r in found] == [
        ("1", 60.0, 60, 6000, 120.0),
        ("0", 56.5, 60, 6000, 120.0),
        ("2", 4.0, 6, 600, 12.0),
        ("3", 1000.0, 1, 100, 2.0),
        ("4", None, 0, 0, 0.0),
        ("5", None, 0, 0, 0.0),
    ]
    assert [r.state for r in found[-2:]] == ["damaged", "not begun"]


def test_held_out_fitness_decides_where_all_that_ran_have_it(tmp_path):
    record(tmp_path / "0", [row(i, 1.0, held_out_fitness=0.2) for i in range(6)])
    record(tmp_path / "1", [row(i, 0.5, held_out_fitness=0.4) for i in range(6)])
    assert [r.name for r in sweep.compare(tmp_path, sweep_of("0", "1", "2"))] == ["1", "0", "2"]
    record(tmp_path / "2", [0.7] * 6)
    assert [r.name for r in sweep.compare(tmp_path, sweep_of("0", "1", "2"))] == ["0", "2", "1"]


def test_a_trial_is_finished_with_the_checkpoint_after_its_last_generation(tmp_path):
    assert not sweep.is_finished(tmp_path / "none", TINY)
    path = record(tmp_path / "run", [0.0] * 6, checkpoint=4)
    assert not sweep.is_finished(path, TINY)
    (path / "checkpoints" / "6").mkdir()
    assert sweep.is_finished(path, TINY)
    assert not sweep.is_finished(path, tiny(generations=7))
    (path / "metrics.jsonl").write_text("nonsense\n")
    assert not sweep.is_finished(path, TINY)

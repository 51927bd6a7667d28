import copy
import dataclasses
import json
import re

import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.mirror_learning import MirrorLearning
from rl_discovery.discovery.objectives.registry import RULES, Entry
from rl_discovery.meta.config import (
    LevelsConfig,
    RunConfig,
    from_json,
    to_json,
    validate,
)
from rl_discovery.meta.errors import ConfigError

NAN, INF = float("nan"), float("inf")

NOT_POSITIVE = st.integers(max_value=0)
NOT_POSITIVE_NUMBERS = st.floats(max_value=0) | st.sampled_from([NAN, INF, -INF])
NOT_FRACTIONS = NOT_POSITIVE_NUMBERS | st.floats(min_value=1, exclude_min=True)
NEGATIVE_NUMBERS = st.floats(max_value=0, exclude_max=True) | st.sampled_from([NAN, INF])

# Hypothesis also tries the strings that it finds in our code.
NAMES = {"float32", "bfloat16", "tabular", "mlp", "cnn", "sgd", "adam", "plain", "ppo_residual"} | {
    "warn",
    "reduce",
    "stop",
    *("free", "a2c_residual", "paper", "scaled", "exponential", "linear", "cosine", "objective", "zeros"),
}
NO_NAME = st.text(max_size=9).filter(lambda text: text not in NAMES)
IMPOSSIBLE = {
    "seed": st.integers(max_value=-1) | st.integers(min_value=2**32),
    "generations": NOT_POSITIVE,
    "block_size": NOT_POSITIVE,
    "devices": NOT_POSITIVE,
    "objective.width": NOT_POSITIVE,
    "objective.bins": st.integers(max_value=1),
    "objective.embedding_width": NOT_POSITIVE,
    "objective.prediction_coef": NEGATIVE_NUMBERS,
    "objective.precision": NO_NAME,
    "agent.network": NO_NAME,
    "agent.hidden": st.lists(NOT_POSITIVE, min_size=1, max_size=2).map(tuple),
    "agent.optimiser": NO_NAME,
    "agent.workers": NOT_POSITIVE,
    "agent.rollout_steps": NOT_POSITIVE,
    "agent.policy_learning_rate": NOT_POSITIVE_NUMBERS,
    "agent.head_learning_rate": NOT_POSITIVE_NUMBERS,
    "agent.max_grad_norm": NOT_POSITIVE_NUMBERS,
    "agent.adam_epsilon": NOT_POSITIVE_NUMBERS,
    "agent.epochs": NOT_POSITIVE,
    "agent.minibatches": NOT_POSITIVE,
    "agent.reward_range": st.floats(max_value=1, exclude_max=True) | st.sampled_from([NAN, INF]),
    "agent.step_range": st.floats(max_value=1, exclude_max=True) | st.sampled_from([NAN, INF]),
    "objective.discount": NEGATIVE_NUMBERS | st.floats(min_value=1, exclude_min=True),
    "objective.entropy_coef": NEGATIVE_NUMBERS,
    "objective.clip": NOT_POSITIVE_NUMBERS,
    "objective.shortest_horizon": NOT_POSITIVE,
    "objective.longest_horizon": st.integers(max_value=1),
    "es.pairs": NOT_POSITIVE,
    "es.learning_rate": NOT_POSITIVE_NUMBERS,
    "es.learning_rate_decay": NOT_FRACTIONS,
    "es.learning_rate_min": NEGATIVE_NUMBERS,
    "es.sigma": NOT_POSITIVE_NUMBERS,
    "es.adam_b1": st.floats(max_value=0, exclude_max=True)
    | st.floats(min_value=1)
    | st.sampled_from([NAN, INF]),
    "es.weight_decay": NEGATIVE_NUMBERS,
    "es.average_decay": NOT_FRACTIONS,
    "es.warmup": st.integers(max_value=-1),
    "es.learning_rate_schedule": NO_NAME,
    "es.initial_mean": NO_NAME,
    "objective.form": NO_NAME,
    "objective.encoding": NO_NAME,
    "objective.residual_scale": NOT_POSITIVE_NUMBERS,
    "es.sigma_decay": NOT_FRACTIONS,
    "es.sigma_min": NOT_POSITIVE_NUMBERS,
    "es.group_size": st.integers(max_value=1),
    "levels.horizon": NOT_POSITIVE,
    "checkpoint.every": NOT_POSITIVE,
    "checkpoint.keep": st.integers(max_value=1),
    "checkpoint.minutes": NOT_POSITIVE_NUMBERS,
    "held_out.every": st.integers(max_value=-1),
    "held_out.levels": NOT_POSITIVE,
    "held_out.on_divergence": NO_NAME,
    "held_out.drop": NOT_FRACTIONS,
    "held_out.patience": NOT_POSITIVE,
}


def changed(path, value):
    """A default configuration as JSON values, with one of them changed."""
    document = copy.deepcopy(to_json(RunConfig()))
    *parents, name = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[name] = value
    return document


def complaint(document):
    """What is said of an impossible configuration."""
    with pytest.raises(ConfigError) as caught:
        from_json(document)
    return str(caught.value)


@pytest.mark.parametrize("path", IMPOSSIBLE)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_an_impossible_value_is_refused_in_one_line_with_its_field_and_itself(path, data):
    value = data.draw(IMPOSSIBLE[path])
    message = complaint(changed(path, value))
    assert path in message
    assert (repr(value) if isinstance(value, str) else str(value)) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("generations", "many"),
        ("generations", 1.5),
        ("generations", None),
        ("objective", None),
        ("es.pairs", [1]),
        ("levels.horizon", "long"),
        ("agent.hidden", ["a"]),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_field(path, value):
    assert path in complaint(changed(path, value))


@pytest.mark.parametrize("document", [None, [], "preset", 3])
def test_what_is_no_configuration_at_all_is_refused(document):
    assert "\n" not in complaint(document)


def test_a_field_that_does_not_exist_is_refused():
    assert "sigmas" in complaint(to_json(RunConfig()) | {"sigmas": 1})


def test_a_range_of_horizons_needs_both_ends_in_order():
    assert "levels.longest_horizon (50)" in complaint(changed("levels.longest_horizon", 50))
    both = changed("levels.longest_horizon", 50)
    both["levels"]["horizon"] = 51
    assert "levels.longest_horizon (50)" in complaint(both)
    both["levels"]["horizon"] = 10
    assert from_json(both).levels.build().horizon == (10, 50)


REVISITS = AgentConfig(epochs=2)
"""Without this a drift does nothing."""


def test_a_drift_is_built_where_the_objective_is_one_and_cannot_be_learned_by_meta_gradients():
    objective = {"kind": "lpo", "form": "plain", "width": 7, "progress_inputs": True}
    document = to_json(RunConfig(agent=REVISITS)) | {"objective": objective}
    trained_on = {"shortest_horizon": 10, "longest_horizon": 250}  # the range of the default levels
    expected = LPO(form="plain", width=7, progress_inputs=True, **trained_on)
    assert from_json(document).build_objective() == expected
    assert isinstance(RunConfig().build_objective(), LPG)
    document["trainer"] = "meta_gradient"
    assert "trainer es" in complaint(document)


@pytest.mark.parametrize("kind", ["lpg", "ta-lpg", "lpo", "ta-lpo", "ta-a2c", "ta-ppo", "closed-form-drift"])
def test_every_field_of_a_rule_is_in_the_configuration_and_kind_is_what_it_is_called(kind):
    config = from_json({"objective": {"kind": kind}, "agent": {"epochs": 2}})
    rule, document = config.build_objective(), to_json(config)["objective"]
    assert document["kind"] == rule.name == kind
    assert set(document) == {"kind", *(field.name for field in dataclasses.fields(rule))}
    again = from_json({"objective": document, "agent": {"epochs": 2}}).build_objective()
    assert again == rule


def test_kind_follows_the_settings():
    document = to_json(RunConfig())["objective"]
    assert document["kind"] == "ta-lpg"
    blind = from_json({"objective": document | {"horizon_inputs": False}})
    assert to_json(blind)["objective"]["kind"] == blind.build_objective().name == "lpg"


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (
            {"kind": "lpo", "cilp": 0.3},
            "objective.cilp: lpo has no such setting: did you mean 'clip'? it has ",
        ),
        ({"kind": "ta-ppo", "bins": 3}, "objective.bins: ta-ppo has no such setting: it has schedule, "),
        ({"kind": "lpo", "clip": -1.0}, "objective.clip must be greater than 0, not -1.0"),
        (
            {"kind": "closed-form-drift", "terms": ["r"]},
            "objective: terms must be of the basis, and 'r' is not",
        ),
        ({"width": 3, "kind": None}, "objective: "),
        ({}, "objective: "),
    ],
)
def test_settings_that_a_rule_does_not_have_or_take_are_refused_in_one_line(objective, words):
    message = complaint({"objective": objective} if objective else {"objective": []})
    assert words in message
    assert "\n" not in message


@dataclasses.dataclass(frozen=True)
class Quadratic(MirrorLearning):
    """A learned drift that somebody might add: one number."""

    name = "quadratic"

    def init(self, key):
        return {"weight": jnp.ones(())}

    def drift(self, meta_params, log_ratio, advantage, progress):
        return jnp.square(meta_params["weight"] * jnp.expm1(log_ratio))


def test_any_learned_objective_of_the_registry_can_be_evolved(monkeypatch):
    monkeypatch.setitem(RULES, "quadratic", Entry("a new one", Quadratic))
    config = from_json({"objective": {"kind": "quadratic", "entropy_coef": 0.5}})
    levels = {"shortest_horizon": 10, "longest_horizon": 250}
    assert config.build_objective() == Quadratic(entropy_coef=0.5, **levels)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("ppo", "ppo has no meta-parameters"),
        ("random", "random has no meta-parameters"),
        ("lpq", "unknown objective 'lpq': did you mean 'lp"),
    ],
)
def test_what_cannot_be_evolved_is_refused(kind, words):
    with pytest.raises(ValueError, match=words):
        from_json({"objective": {"kind": kind}})


@pytest.mark.parametrize("name", ["discount", "gae_lambda"])
def test_a_discount_outside_the_unit_interval_is_refused(name):
    assert f"agent.{name} must be between 0 and 1, not 1.5" in complaint(changed(f"agent.{name}", 1.5))
    assert getattr(from_json(changed(f"agent.{name}", 0.5)).agent, name) == 0.5


@pytest.mark.parametrize("name", ["reward_range", "step_range"])
def test_agents_vary_only_where_evolution_trains_them(name):
    document = changed(f"agent.{name}", 4.0)
    assert from_json(document).agent.varies
    message = complaint(document | {"trainer": "meta_gradient"})
    assert f"agent.{name} has no effect: it is read only where trainer is es" in message


def test_floors_above_the_start_are_refused():
    assert "es.sigma_min (0.5) exceeds es.sigma (0.1)" in complaint(changed("es.sigma_min", 0.5))
    message = complaint(changed("es.learning_rate_min", 0.5))
    assert "es.learning_rate_min (0.5) exceeds es.learning_rate (0.01)" in message


def test_a_group_size_that_does_not_divide_the_candidates_is_refused():
    assert "es.group_size (3) must divide the 1024 candidates" in complaint(changed("es.group_size", 3))


def test_an_unknown_level_distribution_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="unknown level distribution 'smal': did you mean 'small'"):
        from_json(changed("levels.distribution", "smal"))


def test_several_impossible_values_are_all_named():
    document = changed("es.sigma", -1.0) | {"generations": 0}
    assert {"es.sigma", "generations"} <= set(complaint(document).replace(":", " ").split())


@settings(max_examples=30, deadline=None)
@given(
    pairs=st.integers(1, 10**6),
    sigma=st.floats(0.01, 1e30),
    seed=st.integers(0, 2**32 - 1),
    horizon=st.none() | st.integers(1, 10**6),
    hidden=st.lists(st.integers(1, 512), max_size=3).map(tuple),
)
def test_every_legal_configuration_survives_the_way_through_a_file(pairs, sigma, seed, horizon, hidden):
    default = RunConfig()
    config = dataclasses.replace(
        default,
        seed=seed,
        es=dataclasses.replace(default.es, pairs=pairs, sigma=sigma),
        levels=dataclasses.replace(default.levels, horizon=horizon),
        agent=dataclasses.replace(default.agent, hidden=hidden),
    )
    assert validate(config) == config
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_the_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().es.sigma = 1.0  # type: ignore[misc]


def test_lanes_and_groups_follow_from_pairs_and_group_size():
    config = from_json(changed("es.pairs", 6))
    assert (config.lanes, config.groups) == (12, 6)
    config = from_json(changed("es.group_size", 4) | {})
    assert (config.lanes, config.groups) == (1024, 256)


def test_levels_without_a_horizon_need_one():
    levels = LevelsConfig(distribution="CartPole-v1")
    with pytest.raises(ConfigError, match=r"'CartPole-v1' have no horizon[^\n]*set levels.horizon$"):
        levels.build()
    assert dataclasses.replace(levels, horizon=9).build().horizon == (9, 9)


CARTPOLE = {"levels": {"distribution": "CartPole-v1", "horizon": 2}, "agent": {"network": "mlp"}}


def test_environments_share_the_candidates_evenly():
    config = from_json(changed("es.pairs", 6) | {"also": [CARTPOLE, CARTPOLE | {"block_size": 4}]})
    assert [task.levels.distribution for task in config.tasks] == ["all_vrandlife", *["CartPole-v1"] * 2]
    assert [(task.lanes, task.block_size) for task in config.tasks] == [(4, 1), (4, 1), (4, 4)]
    assert [task.agent.network for task in config.tasks] == ["tabular", "mlp", "mlp"]
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"es": {"pairs": 5}}, "2 environments cannot share 5 pairs in groups of 2 evenly"),
        ({"trainer": "meta_gradient"}, "trainer meta_gradient takes one environment only"),
        ({"also": [CARTPOLE | {"agent": {"workers": 0}}]}, "also.0.agent.workers must be positive"),
        (
            {
                "also": [CARTPOLE, {"levels": {"horizon": 3, "longest_horizon": 2}, "agent": {}}],
                "es": {"pairs": 6},
            },
            "also.1.levels.longest_horizon (2) needs also.1.levels.horizon",
        ),
    ],
)
def test_environments_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        from_json(to_json(RunConfig()) | {"also": [CARTPOLE]} | changes)

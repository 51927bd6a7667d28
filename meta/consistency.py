"""Checks of a configuration across its fields."""

from typing import TYPE_CHECKING, Any

from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpo import LPO, LearnedDrift
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.envs.registry import distribution
from rl_discovery.meta.errors import ConfigError

if TYPE_CHECKING:
    from rl_discovery.meta.config import RunConfig

POSITIVE = (
    *("workers", "rollout_steps", "epochs", "minibatches"),
    *("policy_learning_rate", "head_learning_rate", "max_grad_norm", "adam_epsilon"),
)
"""Fields of an agent that must be positive. They are checked here so that errors name the environment."""

RESIDUAL_ONLY = (
    "residual_scale",
    "schedule_discount",
    "schedule_clip",
    "discount",
    "gae_lambda",
    "entropy_coef",
    "value_coef",
    "clip",
)
"""Settings of LPG that its form `free` does not read."""

REPLAY_ONLY = (
    *("replay_probability", "minimum_fill", "edit_probability", "edits"),
    *("prioritisation", "temperature", "staleness_weight"),
)
"""Settings of the curriculum that nothing reads where no level is replayed."""


def check(config: "RunConfig") -> None:
    """Refuses fields that do not fit each other, or that nothing in the run would read.

    Raises:
        ConfigError: in one line that names the field.
    """
    es = config.es
    if es.learning_rate_min > es.learning_rate:
        raise ConfigError(
            f"es.learning_rate_min ({es.learning_rate_min}) exceeds es.learning_rate ({es.learning_rate})"
        )
    if es.sigma_min > es.sigma:
        raise ConfigError(f"es.sigma_min ({es.sigma_min}) exceeds es.sigma ({es.sigma})")
    if config.trainer == "es" and config.lanes % es.group_size:
        raise ConfigError(f"es.group_size ({es.group_size}) must divide the {config.lanes} candidates")
    if config.also and config.trainer != "es":
        raise ConfigError(f"trainer {config.trainer} takes one environment only, and `also` names more")
    environments = 1 + len(config.also)
    if config.groups % environments or config.es.pairs % environments:
        raise ConfigError(
            f"{environments} environments cannot share {config.es.pairs} pairs in groups of "
            f"{config.es.group_size} evenly: change es.pairs or es.group_size"
        )
    if config.trainer == "meta_gradient" and config.objective.rule() is not LPG:
        raise ConfigError(
            "trainer meta_gradient learns objective.kind lpg and ta-lpg only: evolve others with trainer es"
        )
    rule, begins_at_zeros = config.objective.rule(), es.initial_mean == "zeros" and config.start_from is None
    if config.trainer == "es" and rule is LPO and begins_at_zeros:
        raise ConfigError(
            "es.initial_mean zeros: a drift network is even in its weights, so evolution would never leave "
            "zeros, where both members of a pair are equal; set it to objective"
        )
    _refuse_unused(config)
    for number, task in enumerate(config.tasks):
        _check_environment(task, f"also.{number - 1}." if number else "")
    config.build_objective()
    if issubclass(rule, LearnedDrift) and not all(task.agent.revisits for task in config.tasks):
        raise ConfigError(
            f"objective.kind {config.objective.kind}: a drift acts where agents revisit their rollouts; set "
            "agent.epochs or agent.minibatches to more than 1, in every environment"
        )


def _refuse_unused(config: "RunConfig") -> None:
    """Refuses settings that a user would rely on and that nothing in the run would read.

    Fields of a preset that the chosen trainer does not read are not refused for that.
    """
    es, settings = config.es, config.objective
    rule = settings.rule()
    # Name, value, default, whether it is read, and the condition for that.
    cases: list[tuple[str, Any, Any, bool, str]] = [
        ("es.average_decay", es.average_decay, None, config.trainer == "es", "trainer is es"),
        ("fitness", config.fitness, type(config).fitness, config.trainer == "es", "trainer is es"),
        (
            "logging.inner_metrics",
            config.logging.inner_metrics,
            False,
            config.trainer == "es",
            "trainer is es",
        ),
    ]
    for name in REPLAY_ONLY:
        value, default = getattr(config.curriculum, name), getattr(type(config.curriculum), name)
        cases.append(
            (
                f"curriculum.{name}",
                value,
                default,
                config.curriculum.replays,
                "curriculum.score replays levels",
            )
        )
    # Names of the objective's settings, whether they are read, and the condition for that.
    of_rule: list[tuple[tuple[str, ...], bool, str]] = []
    if rule is LPG:
        is_residual = settings.form == "a2c_residual"
        of_rule.append((RESIDUAL_ONLY, is_residual, "objective.form is a2c_residual"))
        of_rule.append((("normalise_pihat",), not is_residual, "objective.form is free"))
    if issubclass(rule, LearnedDrift):
        of_rule.append((("clip",), settings.form == "ppo_residual", "objective.form is ppo_residual"))
    if issubclass(rule, Scheduled):
        bent = tuple(
            name
            for name in ("schedule_discount", "schedule_clip", "schedule_v_squared")
            if hasattr(settings, name)
        )
        of_rule.append((bent, settings.schedule, "objective.schedule is on"))
    for names, read, where in of_rule:
        for name in names:
            default = getattr(type(settings), name)
            cases.append((f"objective.{name}", getattr(settings, name), default, read, where))
    for name, value, default, read, where in cases:
        if value != default and not read:
            raise ConfigError(f"{name} has no effect: it is read only where {where}; leave it at {default}")


def _check_environment(config: "RunConfig", place: str) -> None:
    """Agents and levels of one environment; `place` is where their fields are."""
    for name in POSITIVE:
        value = getattr(config.agent, name)
        if not 0 < value < float("inf"):
            raise ConfigError(f"{place}agent.{name} must be positive and finite, not {value}")
    for name in ("reward_range", "step_range"):
        value = getattr(config.agent, name)
        if not 1 <= value < float("inf"):
            raise ConfigError(f"{place}agent.{name} must be finite and at least 1, not {value}")
        if value != 1 and config.trainer != "es":
            raise ConfigError(f"{place}agent.{name} has no effect: it is read only where trainer is es")
    if not all(width > 0 for width in config.agent.hidden):
        raise ConfigError(f"{place}agent.hidden must be positive widths, not {config.agent.hidden}")
    for name in ("discount", "gae_lambda"):
        value = getattr(config.agent, name)
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{place}agent.{name} must be between 0 and 1, not {value}")
    if config.agent.reward_range != 1 and config.agent.scale_rewards:
        raise ConfigError(
            f"{place}agent.reward_range has no effect where {place}agent.scale_rewards divides by the scale"
        )
    shortest, longest = config.levels.horizon, config.levels.longest_horizon
    if longest is not None and (shortest is None or longest < shortest):
        raise ConfigError(
            f"{place}levels.longest_horizon ({longest}) needs {place}levels.horizon, and one not longer"
        )
    distribution(config.levels.distribution)  # an unknown name has its own message

"""The configuration of a meta-training run: immutable, every field a flag, validated by `validate`.

Presets are values of `RunConfig` (see `presets`); the command line overrides any field of one
(`--es.sigma 0.05`). A run directory keeps the resolved configuration in `config.json`.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rl_discovery.checkpoints.errors import one_line, refusal
from rl_discovery.discovery.agents.config import AgentConfig
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.discovery.ranges import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitInterval,
)
from rl_discovery.envs.levels import LevelDistribution
from rl_discovery.envs.registry import distribution
from rl_discovery.meta.consistency import check
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.former import modern
from rl_discovery.meta.objective_settings import ObjectiveSettings, objective_settings
from rl_discovery.meta.objective_settings import from_json as objective_from_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """The evolution strategy and its schedules."""

    strategy: str = "open_es"
    """One of `list strategies`."""
    pairs: PositiveInt = 512
    """P: 2 P candidates a generation (TA-LPG paper: 512)."""
    learning_rate: PositiveFloat = 1e-2
    """Adam's step size at generation 0 (TA-LPG paper: 1e-2)."""
    learning_rate_schedule: Literal["exponential", "linear", "cosine"] = "exponential"
    """How it falls: by `learning_rate_decay` each generation (TA-LPG paper), or to `learning_rate_min` at the
    run's last generation (cosine: Loshchilov & Hutter 2017); in the latter case a finished run whose
    `generations` are raised goes on with another schedule."""
    learning_rate_decay: Fraction = 0.999
    """Factor per generation of the exponential schedule (TA-LPG paper: 0.999)."""
    learning_rate_min: Annotated[float, Field(ge=0)] = 1e-5
    """Where the fall stops (TA-LPG paper: 1e-5; GROOVE's code for LPO: 1e-3)."""
    warmup: NonNegativeInt = 0
    """Generations over which the step size rises from 0, linearly (usual for Adam; none in the papers)."""
    adam_b1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam's decay of the mean gradient (Adam paper and evosax today: 0.9; evosax when the papers used it:
    0.99)."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay: each generation the mean shrinks by this times the step size (AdamW)."""
    initial_mean: Literal["objective", "zeros"] = "objective"
    """Where evolution starts: the objective's own initial meta-parameters, or zeros (the official code)."""
    average_decay: Fraction | None = None
    """Decay per generation of the running average of the means, which is then what is saved and evaluated;
    None: no average, the last mean (the papers). Until there are 1 / (1 - decay) means, all have the same
    weight."""
    sigma_per_part: bool = False
    """Divide the perturbations and steps of each layer by the square root of its number of inputs, instead of
    treating all alike (ours)."""
    sigma: PositiveFloat = 0.1
    """Standard deviation of the perturbations at generation 0 (TA-LPG paper: 0.1)."""
    sigma_decay: Fraction = 1.0
    """Factor per generation."""
    sigma_min: PositiveFloat = 0.01
    """Where the decay stops."""
    group_size: Annotated[int, Field(ge=2)] = 2
    """Candidates that share a level, a divisor of 2 P. With open_es 2 compares within antithetic pairs
    (TA-LPG), and a larger even number ranks all that met the same level (LPO: all of them)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelsConfig:
    """What the agents train on."""

    distribution: str = "all_vrandlife"
    """One of `list distributions`, where new levels and their horizons are drawn from, or of `list envs`."""
    horizon: PositiveInt | None = None
    """N for every level, in agent updates, in place of the distribution's own."""
    longest_horizon: PositiveInt | None = None
    """With `horizon`: N is drawn log-uniformly between the two."""
    observation: Literal["tabular", "planes"] | None = None
    """What agents see of a gridworld, in place of the distribution's own: planes suit MLP and CNN agents."""

    def build(self) -> LevelDistribution:
        """The level distribution, with the overrides applied."""
        options = {} if self.observation is None else {"observation": self.observation}
        found = distribution(self.distribution, **options)
        if self.horizon is not None:
            return found.with_horizon(self.horizon, self.longest_horizon or self.horizon)
        if found.horizon is None:
            raise ConfigError(
                f"levels of {self.distribution!r} have no horizon of their own, which a lifetime and the "
                "inputs n/N and log N of a horizon-aware objective need: set levels.horizon"
            )
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """One more environment to train on, with agents that suit it."""

    levels: LevelsConfig
    """Its level distribution."""
    agent: AgentConfig
    """The agents that are trained on it."""
    block_size: PositiveInt = 1
    """Its lanes that run side by side on a device."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prioritisation:
    """Which levels are replayed how often."""

    prioritisation: Literal["rank", "proportional"] = "rank"
    """Weight of a level: its score's rank to the power of -1 / temperature, or its score to the power of
    1 / temperature, where scores below 0 count as 0 (PLR paper and GROOVE's code: rank)."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Towards 0 only the highest score counts, towards infinity all levels count alike (GROOVE's code:
    1.0; PLR paper: 0.1)."""
    staleness_weight: UnitInterval = 0.0
    """Share of replays drawn by the generations since a level was last played, in place of its score
    (GROOVE's code has none; PLR paper: 0.1)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumConfig(Prioritisation):
    """Which levels are played: fresh ones, or the ones that an objective learns most from."""

    score: str = "random"
    """One of `list scores`: what levels are replayed by; random: never replayed; frozen: a fixed set."""
    buffer_size: PositiveInt = 4000
    """Levels that are kept (GROOVE's code: 4,000); with `frozen` the size of the set."""
    replay_probability: UnitInterval = 0.5
    """Chance that a level is replayed, in place of a new one (GROOVE's code: 0.5)."""
    minimum_fill: UnitInterval = 0.1
    """Share of the buffer that must be filled before anything is replayed (PLR's code: 1; ours: a buffer
    of 4,000 fills slowly on two cores)."""
    edit_probability: UnitInterval = 0.0
    """Chance that a new level is an edited copy of one in the buffer, in place of a fresh one (ACCEL)."""
    edits: PositiveInt = 3
    """Random changes that make an edited copy."""
    gallery: bool = True
    """Draw the levels of highest score with the paths of both agents at each checkpoint (gallery.png)."""

    @property
    def replays(self) -> bool:
        """Whether levels are replayed by a score."""
        return self.score not in ("random", "frozen")

    @property
    def levels_before_replay(self) -> int:
        """Number of levels that the buffer must hold before any is replayed."""
        return max(1, math.ceil(self.minimum_fill * self.buffer_size))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaGradientConfig:
    """Learning the objective by gradients through the agents' updates."""

    lanes: PositiveInt = 512
    """Agents that live side by side (GROOVE's code: 512)."""
    updates: PositiveInt = 5
    """K, agent updates between two steps of the meta-optimiser (GROOVE's code: 5)."""
    learning_rate: PositiveFloat = 1e-4
    """Adam's step size (GROOVE's code: 1e-4)."""
    max_grad_norm: PositiveFloat = 0.5
    """Global-norm clip of the meta-gradient, applied before Adam (GROOVE's code: 0.5)."""
    policy_entropy_coef: NonNegativeFloat = 5e-2
    """beta0, weight of the agents' policy entropy (GROOVE's code: 5e-2)."""
    prediction_entropy_coef: NonNegativeFloat = 1e-3
    """beta1, weight of the entropy of the agents' predictions y (GROOVE's code: 1e-3)."""
    pihat_coef: NonNegativeFloat = 5e-3
    """beta2, weight of the mean square of pihat (GROOVE's code: 5e-3)."""
    yhat_coef: NonNegativeFloat = 1e-3
    """beta3, weight of the mean squared norm of yhat (GROOVE's code: 1e-3)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state of a run is saved."""

    every: PositiveInt = 20
    """Generations between two checkpoints, counted from the start of the run."""
    minutes: PositiveFloat | None = 10.0
    """Also when this many minutes have passed since the last checkpoint; None: by generations alone. It
    limits what a `kill -9` costs where generations are long."""
    keep: Annotated[int, Field(ge=2)] = 3
    """Newest checkpoints kept; one is always spare in case the newest is damaged. The best by held-out
    fitness is kept as well."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """Evaluation of the current objective on levels that are held out from training."""

    every: NonNegativeInt = 0
    """Generations between two evaluations, counted from the start of the run. 0: none."""
    levels: PositiveInt = 64
    """Levels, per environment: an agent's whole lifetime each. The same in every evaluation and run."""
    on_divergence: Literal["warn", "reduce", "stop"] = "warn"
    """What happens when held-out fitness has fallen (see `drop`, `patience`): a line says so; or also sigma
    and learning rate are halved; or the run stops with exit status 3."""
    drop: Fraction = 0.5
    """Held-out fitness has fallen when this share of the gain from the first to the best evaluation is lost,
    and at least two standard errors of the best one."""
    patience: PositiveInt = 3
    """Evaluations in a row that must have fallen before anything happens."""

    @property
    def reduces(self) -> bool:
        """Whether sigma and learning rate may come to depend on the evaluations."""
        return self.every > 0 and self.on_divergence == "reduce"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where metrics go besides metrics.jsonl."""

    tensorboard: bool = True
    """Write TensorBoard events to tb/ in the run directory."""
    wandb_project: str | None = None
    """Log to this Weights & Biases project (`doctor` says how to install wandb)."""
    inner_metrics: bool = False
    """Also log means over lanes of the metrics of each agent's last update (losses, entropy, gradient norm,
    kl), as `inner/NAME`; where `trainer` is es. Results do not depend on it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One meta-training run."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    preset: str = "ta-lpg"
    """Where the defaults came from."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """With the generation's number, the whole random state."""
    generations: PositiveInt = 2500
    """Outer steps in all; a finished run goes on when this is raised (TA-LPG paper: 2,500)."""
    objective: ObjectiveSettings = dataclasses.field(default_factory=lambda: objective_settings(LPG))
    """The objective that is searched."""
    start_from: str | None = None
    """Begin at the meta-parameters of this objective: a shipped name, a run directory or a `.safetensors`
    file; or `preset:NAME`, which is run first, in `start/` of the run directory. None: at the rule's own."""
    agent: AgentConfig = dataclasses.field(default_factory=AgentConfig)
    """The agents that are trained with it."""
    trainer: Literal["es", "meta_gradient"] = "es"
    """How the objective is searched: by evolution, or by gradients through the agents' updates."""
    fitness: str = "final_return"
    """One of `list fitness`: what evolution selects for."""
    es: EvolutionConfig = EvolutionConfig()
    """The evolution strategy, where `trainer` is es."""
    meta_gradient: MetaGradientConfig = MetaGradientConfig()
    """Meta-gradients, where `trainer` is meta_gradient."""
    levels: LevelsConfig = LevelsConfig()
    """The level distribution."""
    curriculum: CurriculumConfig = CurriculumConfig()
    """Which levels of it are played."""
    also: tuple[EnvironmentConfig, ...] = ()
    """More environments (where `trainer` is es): each gets as many groups of candidates as the first, and
    fitness is standardised within each."""
    block_size: PositiveInt = 1
    """Lanes that run side by side on a device. It decides results to the last bit and speed (small blocks
    stay in cache): on a CPU 1 is fastest with 64 workers, 4 to 8 with 16. A GPU works on one block at a time,
    so give each GPU all its lanes as one block."""
    devices: PositiveInt | None = None
    """Devices to use (default: all; on a CPU one per core). Results do not depend on it, except for
    rounding between one and several accelerators with meta-gradients."""
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    """Checkpoints."""
    held_out: HeldOutConfig = dataclasses.field(default_factory=HeldOutConfig)
    """Evaluation on levels that are held out from training."""
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)
    """Logging."""

    def build_objective(self) -> Objective:
        """The objective that is searched; the range of horizons that it knows is that of the levels.

        Raises:
            ConfigError: there is nothing to search in it, or it refuses its settings.
        """
        rule, given = self.objective.build(), self.objective
        if not isinstance(rule, LPG | LPO) and not jax.tree.leaves(
            jax.eval_shape(lambda: rule.init(jax.random.key(0)))
        ):
            raise ConfigError(f"objective.kind {rule.name} has no meta-parameters: nothing could evolve")
        if not isinstance(rule, Scheduled):
            return rule
        ranges = [task.levels.build().horizon or (1, 1) for task in self.tasks]
        longest = given.longest_horizon or max(high for _, high in ranges)
        shortest = min(given.shortest_horizon or min(low for low, _ in ranges), longest)
        try:
            return dataclasses.replace(rule, shortest_horizon=shortest, longest_horizon=longest)
        except ValueError as error:
            raise ConfigError(f"objective: {error}") from None

    @property
    def tasks(self) -> tuple["RunConfig", ...]:
        """One configuration per environment, with its share of the candidates."""
        if not self.also:
            return (self,)
        share = dataclasses.replace(self.es, pairs=self.es.pairs // (1 + len(self.also)))
        first = dataclasses.replace(self, also=(), es=share)
        others = (
            dataclasses.replace(first, levels=more.levels, agent=more.agent, block_size=more.block_size)
            for more in self.also
        )
        return (first, *others)

    @property
    def averages(self) -> bool:
        """Whether what is saved is a running average of what the search went through."""
        return self.trainer == "es" and self.es.average_decay is not None

    @property
    def lanes(self) -> int:
        """Agents that are trained side by side: one per candidate, or those of the meta-gradient."""
        return 2 * self.es.pairs if self.trainer == "es" else self.meta_gradient.lanes

    @property
    def groups(self) -> int:
        """Levels that are played at once."""
        return self.lanes // self.es.group_size if self.trainer == "es" else self.lanes


NOT_IDENTITY = ("preset", "generations", "devices", "checkpoint", "logging")
"""Fields that may change when a run resumes: its length, its devices, and how it is watched."""


def to_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON values."""
    return _ADAPTER.dump_python(config, mode="json")


def identity(config: RunConfig) -> dict[str, Any]:
    """What decides a run's results, and so must not change when it resumes."""
    document = {name: value for name, value in to_json(config).items() if name not in NOT_IDENTITY}
    del document["curriculum"]["gallery"]  # only shows the run
    if not config.held_out.reduces:
        # Evaluations do not change the run; to be comparable with earlier ones, they need the same levels.
        document["held_out"] = {"levels": config.held_out.levels, "on_divergence": "not reduce"}
    return document


def from_json(document: Any) -> RunConfig:
    """A validated configuration from JSON values.

    Raises:
        ConfigError: one line that names every offending field, its value and what is allowed.
    """
    config = read_fields(document)
    check(config)
    return config


def read_fields(document: Any) -> RunConfig:
    """A configuration from JSON values, each field checked by itself; see `from_json` for the error."""
    complaints: list[str] = []
    if isinstance(document, dict):
        document = dict(modern(document))
        try:
            document["objective"] = objective_from_json(document["objective"])
        except ValidationError as error:
            complaints += [_complaint(detail, "objective") for detail in error.errors()]
            del document["objective"]
    try:
        config = _ADAPTER.validate_python(document)
    except ValidationError as error:
        complaints += [_complaint(detail) for detail in error.errors()]
    if complaints:
        raise ConfigError("; ".join(complaints))
    return config


def validate(config: RunConfig) -> RunConfig:
    """The configuration, checked; see `from_json` for the error."""
    return from_json(dataclasses.asdict(config))


_ADAPTER = TypeAdapter(RunConfig)


def _complaint(detail: Any, *prefix: str) -> str:
    place = one_line(".".join(str(part) for part in (*prefix, *detail["loc"])))
    return refusal(place, detail["msg"], repr(detail["input"]))

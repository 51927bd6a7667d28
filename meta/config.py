"""The configuration of a meta-training run: immutable, every field a flag, validated by `validate`.

Presets are values of `RunConfig` (see `presets`); the command line overrides any field of one
(`--es.sigma 0.05`). A run directory keeps the resolved configuration in `config.json`.
"""

import dataclasses
import math
from typing import Annotated, Any, Literal

import jax
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from rl_discovery.checkpoints.errors import one_line
from rl_discovery.discovery.agents.agent import AgentConfig
from rl_discovery.discovery.objectives.base import Objective
from rl_discovery.discovery.objectives.gru import Precision
from rl_discovery.discovery.objectives.horizon import Encoding
from rl_discovery.discovery.objectives.learned_drift import Form
from rl_discovery.discovery.objectives.lpg import LPG
from rl_discovery.discovery.objectives.lpg import Form as LPGForm
from rl_discovery.discovery.objectives.lpo import LPO
from rl_discovery.discovery.objectives.registry import make_objective
from rl_discovery.discovery.objectives.schedule import Scheduled
from rl_discovery.envs.levels import LevelDistribution
from rl_discovery.envs.registry import distribution
from rl_discovery.meta.consistency import check
from rl_discovery.meta.errors import ConfigError
from rl_discovery.meta.keeping import (
    CheckpointConfig,
    Fraction,
    HeldOutConfig,
    LoggingConfig,
    PositiveFloat,
    PositiveInt,
)

Coefficient = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The learned objective: LPG, with or without the horizon inputs, unless `kind` says otherwise."""

    kind: str = "lpg"
    """lpg: what follows. lpo: a learned drift, whose settings are `drift`. Any other learned objective of
    `list objectives` has its own defaults."""
    form: LPGForm = "free"
    """`free`: the papers' LPG. `a2c_residual`: A2C, and what is learned to add to it."""
    horizon_inputs: bool = True
    """Append n/N and log N to the inputs: TA-LPG (Jackson et al. 2024); off: LPG (Oh et al. 2020)."""
    encoding: Encoding = "paper"
    """Those inputs as in the `paper`, or `scaled` to [-1, 1] over the horizons of the levels (ours)."""
    schedule: bool = False
    """Learn how step size and entropy bonus change with n/N and N, by a linear map of them (ours)."""
    schedule_discount: bool = False
    """Let the schedule bend the discount too (`a2c_residual` only)."""
    normalise_pihat: bool = False
    """Bring pihat to mean 0 and deviation 1 over each rollout (`free` only; ours)."""
    residual_scale: PositiveFloat = 0.2
    """g, factor on what the GRU adds to A2C (ours: with 1 a perturbation of sigma 0.2 ruins the agent)."""
    width: PositiveInt = 256
    """G, units of the GRU (GROOVE's code: 256)."""
    bins: Annotated[int, Field(ge=2)] = 8
    """M, width of the agent's prediction y (GROOVE's code: 8; the LPG paper: 30)."""
    embedding_width: PositiveInt = 16
    """Hidden units of phi, the embedding of y (LPG paper: 16)."""
    prediction_coef: Coefficient = 0.5
    """alpha_y, weight of the prediction in the agent's loss (LPG paper: 0.5)."""
    precision: Precision = "float32"
    """Operands of the GRU's recurrent product; sums and state are float32 either way."""

    def build(self) -> LPG:
        """The objective."""
        settings = dataclasses.asdict(self)
        del settings["kind"]
        return LPG(**settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """The learned drift of the LPO family, where `objective.kind` is lpo."""

    form: Form = "ppo_residual"
    """`plain`, or added to PPO's drift, so that evolution starts at PPO (published code: `ppo_init`)."""
    schedule: bool = False
    """Learn how step size, entropy bonus and clip change with n/N and N, by a linear map of them (ours)."""
    schedule_discount: bool = False
    """Let the schedule bend the discount too."""
    width: PositiveInt = 128
    """Hidden units (LPO paper: 128)."""
    progress_inputs: bool = False
    """Append n/N times every input: TA-LPO (Jackson et al. 2024); off: LPO (Lu et al. 2022)."""
    horizon_inputs: bool = False
    """Append log N / log N_max times every input, where horizons vary."""
    encoding: Encoding = "paper"
    """Those inputs as above, or `scaled` to [-1, 1] over the horizons of the levels (ours)."""
    longest_horizon: Annotated[int, Field(ge=2)] | None = None
    """N_max, in agent updates; None: the longest horizon of the levels."""

    def build(self) -> LPO:
        """The objective."""
        settings = dataclasses.asdict(self)
        if self.longest_horizon is None:
            del settings["longest_horizon"]
        return LPO(**settings)


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
    run's last generation; then a finished run whose `generations` are raised goes on with another
    schedule."""
    learning_rate_decay: Fraction = 0.999
    """Factor per generation of the exponential schedule (TA-LPG paper: 0.999)."""
    learning_rate_min: Annotated[float, Field(ge=0)] = 1e-5
    """Where the fall stops (TA-LPG paper: 1e-5; GROOVE's code for LPO: 1e-3)."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Generations over which the step size rises from 0, linearly."""
    adam_b1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Adam's decay of the mean gradient (Adam paper and evosax today: 0.9; evosax when the papers used it:
    0.99)."""
    weight_decay: Coefficient = 0.0
    """Decoupled weight decay: each generation the mean shrinks by this times the step size (AdamW)."""
    initial_mean: Literal["objective", "zeros"] = "objective"
    """Where evolution starts: the objective's own initial meta-parameters, or zeros (the official code)."""
    average_decay: Fraction | None = None
    """Decay per generation of the running average of the means, which is then what is saved and evaluated;
    None: no average, the last mean. The first means count alike until there are 1 / (1 - decay) of them."""
    sigma_per_part: bool = False
    """Perturb each layer by sigma over the root of its inputs, and step accordingly, in place of all
    alike."""
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
    1 / temperature, where scores below 0 count 0 (PLR paper and GROOVE's code: rank)."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Towards 0 only the highest score counts, towards infinity all levels count alike (GROOVE's code:
    1.0; PLR paper: 0.1)."""
    staleness_weight: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of replays drawn by the generations since a level was last played, in place of its score
    (GROOVE's code has none; PLR paper: 0.1)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumConfig(Prioritisation):
    """Which levels are played: fresh ones, or the ones that an objective learns most from."""

    score: str = "random"
    """One of `list scores`: what levels are replayed by; random: never replayed; frozen: a fixed set."""
    buffer_size: PositiveInt = 4000
    """Levels that are kept (GROOVE's code: 4,000); with `frozen` the size of the set."""
    replay_probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Chance that a level is replayed, in place of a new one (GROOVE's code: 0.5)."""
    minimum_fill: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the buffer that must be filled before anything is replayed (PLR's code: 1; ours: a buffer
    of 4,000 fills slowly on two cores)."""
    edit_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Chance that a new level is an edited copy of one in the buffer, in place of a fresh one (ACCEL)."""
    edits: PositiveInt = 3
    """Random changes that make an edited copy."""
    gallery: bool = True
    """Draw the levels of highest score with the paths of both agents at each checkpoint (gallery.png)."""

    @property
    def levels_before_replay(self) -> int:
        """Levels in the buffer from which on it is drawn from."""
        return max(1, math.ceil(self.minimum_fill * self.buffer_size))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaGradientConfig:
    """Learning the objective by gradients through the agents' updates (section 3.4 of the design)."""

    lanes: PositiveInt = 512
    """Agents that live side by side (GROOVE's code: 512)."""
    updates: PositiveInt = 5
    """K, agent updates between two steps of the meta-optimiser (GROOVE's code: 5)."""
    learning_rate: PositiveFloat = 1e-4
    """Adam's step size (GROOVE's code: 1e-4)."""
    max_grad_norm: PositiveFloat = 0.5
    """Global-norm clip of the meta-gradient, applied before Adam (GROOVE's code: 0.5)."""
    policy_entropy_coef: Coefficient = 5e-2
    """beta0, weight of the agents' policy entropy (GROOVE's code: 5e-2)."""
    prediction_entropy_coef: Coefficient = 1e-3
    """beta1, weight of the entropy of the agents' predictions y (GROOVE's code: 1e-3)."""
    pihat_coef: Coefficient = 5e-3
    """beta2, weight of the mean square of pihat (GROOVE's code: 5e-3)."""
    yhat_coef: Coefficient = 1e-3
    """beta3, weight of the mean squared norm of yhat (GROOVE's code: 1e-3)."""


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
    objective: ObjectiveConfig = ObjectiveConfig()
    """The objective that is evolved."""
    drift: DriftConfig = DriftConfig()
    """Its settings, where `objective.kind` is lpo."""
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
    so give each the lanes over the number of GPUs (not measured)."""
    devices: PositiveInt | None = None
    """Devices to use (default: all; on a CPU one per core). Results do not depend on it, but for rounding
    between one and several accelerators with meta-gradients."""
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    """Checkpoints."""
    held_out: HeldOutConfig = dataclasses.field(default_factory=HeldOutConfig)
    """Evaluation on levels that are held out from training."""
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)
    """Logging."""

    def build_objective(self) -> Objective:
        """The objective that is searched; the range of horizons that it knows is that of the levels.

        Raises:
            ConfigError: there is nothing to search in `objective.kind`, or it is known by another name.
            UnknownNameError: no objective is called so.
        """
        found = self._rule()
        if not isinstance(found, Scheduled):
            return found
        ranges = [task.levels.build().horizon or (1, 1) for task in self.tasks]
        shortest, longest = min(low for low, _ in ranges), max(high for _, high in ranges)
        if self.objective.kind == "lpo" and self.drift.longest_horizon is not None:
            longest = self.drift.longest_horizon
        return dataclasses.replace(found, shortest_horizon=min(shortest, longest), longest_horizon=longest)

    def _rule(self) -> Objective:
        kind = self.objective.kind
        if kind == "lpg":
            return self.objective.build()
        if kind == "lpo":
            return self.drift.build()
        found = make_objective(kind)
        if isinstance(found, LPG | LPO):
            name = "lpg" if isinstance(found, LPG) else "lpo"
            raise ConfigError(f"objective.kind {kind} is {name} with other settings: give it those")
        if not jax.tree.leaves(jax.eval_shape(lambda: found.init(jax.random.key(0)))):
            raise ConfigError(f"objective.kind {kind} has no meta-parameters: nothing could evolve")
        return found

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
"""What may change when a run resumes: how long, on what and how it is watched."""


def to_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as JSON values."""
    return _ADAPTER.dump_python(config, mode="json")


def identity(config: RunConfig) -> dict[str, Any]:
    """What decides a run's results, and so must not change when it resumes."""
    document = {name: value for name, value in to_json(config).items() if name not in NOT_IDENTITY}
    del document["curriculum"]["gallery"]  # a way to watch
    if not config.held_out.reduces:
        # Only looked at. What is compared with earlier evaluations must be of the same levels.
        document["held_out"] = {"levels": config.held_out.levels, "on_divergence": "not reduce"}
    return document


def from_json(document: Any) -> RunConfig:
    """A validated configuration from JSON values.

    Raises:
        ConfigError: one line that names every offending field, its value and what is allowed.
    """
    try:
        config = _ADAPTER.validate_python(document)
    except ValidationError as error:
        raise ConfigError("; ".join(_complaint(detail) for detail in error.errors())) from None
    check(config)
    return config


def validate(config: RunConfig) -> RunConfig:
    """The configuration, checked; see `from_json` for the error."""
    return from_json(dataclasses.asdict(config))


_ADAPTER = TypeAdapter(RunConfig)


def _complaint(detail: Any) -> str:
    place = one_line(".".join(str(part) for part in detail["loc"]))
    return f"{place}: {detail['msg']}, not {one_line(repr(detail['input']))}"

"""`rl-discovery bench`: throughput of whole generations, counted as the official code's is.

Environment steps of training over the time of a whole generation (sample levels, ask, lifetimes,
final evaluation, tell). docs/performance.md explains the figures and keeps the history.
"""

import dataclasses
import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from rl_discovery.scripts import bench_scaling, index, output, runtime
from rl_discovery.scripts.arguments import UsageError, check_positive, parse

if TYPE_CHECKING:
    from rl_discovery.meta.build import Program
    from rl_discovery.meta.config import RunConfig
    from rl_discovery.meta.evolve import Evolution, Lanes


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measure the throughput of whole generations, counted as the official code's is: environment steps of
    training over the time of a generation. What is left out comes from the preset.

    docs/performance.md explains the figures and keeps the history.
    """

    preset: Annotated[str, tyro.conf.arg(metavar=index.choices("presets"))] = "ta-lpg"
    """The preset that everything else comes from."""
    pairs: int | None = None
    """Antithetic pairs, P."""
    workers: int | None = None
    """Workers of each agent, W."""
    rollout_steps: int | None = None
    """Steps between two agent updates, T."""
    horizon: int | None = None
    """Fixed lifetime in agent updates, N (default: the distribution's own)."""
    gru_width: int | None = None
    """Units of the GRU, G."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Number format of the operands of the GRU's recurrent product."""
    distribution: Annotated[str | None, tyro.conf.arg(metavar=index.choices("distributions"))] = None
    """Level distribution."""
    score: Annotated[str | None, tyro.conf.arg(metavar=index.choices("scores"))] = None
    """Level score of a curriculum; replay starts with the first timed generation."""
    block_size: int | None = None
    """Lanes that run side by side on a device."""
    devices: Annotated[tuple[str, ...], tyro.conf.arg(metavar="INT ...")] = ()
    """Devices to use (default: all; on a CPU one per core). 1,2,4,8: weak scaling, with pairs growing."""
    repeats: int = 3
    """Timed generations, after one to warm up."""
    seed: int = 0
    """Seed of levels and meta-parameters."""
    json: bool = False
    """Print one JSON object."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    arguments = parse(Arguments, argv, "bench")

    check_positive(
        arguments, "pairs", "workers", "rollout_steps", "horizon", "gru_width", "block_size", "repeats"
    )
    counts = bench_scaling.device_counts(arguments.devices)
    index.check_name("preset", "presets", arguments.preset)
    for kind, listing, name in (
        ("level distribution", "distributions", arguments.distribution),
        ("score", "scores", arguments.score),
    ):
        if name is not None:
            index.check_name(kind, listing, name)
    result: Any
    show: Callable[[Any], None]
    with output.only_json():
        config = _config(arguments, counts[0] if counts else None)
        if len(counts) <= 1:
            result, show = _measure(config, arguments.repeats), _show
        elif config.trainer == "es":
            result = bench_scaling.measure(counts, config.es.pairs, argv, runtime.cores())
            show = bench_scaling.show
        else:
            raise UsageError("weak scaling is measured with evolution: choose a preset of another trainer")
    if arguments.json:
        output.print_json(result)
    else:
        show(result)
    return 0


def _config(arguments: Arguments, devices: int | None) -> "RunConfig":
    from rl_discovery.meta.config import LevelsConfig, validate
    from rl_discovery.meta.presets import PRESETS

    config = PRESETS.find(arguments.preset).config

    network = {"width": arguments.gru_width, "precision": arguments.precision}
    network = {name: value for name, value in network.items() if value is not None}

    def changed(part: Any, **values: Any) -> Any:
        return dataclasses.replace(part, **{k: v for k, v in values.items() if v is not None})

    def lived(levels: LevelsConfig) -> LevelsConfig:
        if arguments.horizon is None:
            return levels
        return dataclasses.replace(levels, horizon=arguments.horizon, longest_horizon=None)

    curriculum = changed(config.curriculum, score=arguments.score)
    if curriculum.replays:
        # A run fills its buffer first; what is measured here is what comes after.
        curriculum = dataclasses.replace(curriculum, minimum_fill=0.0)
    return validate(
        changed(
            config,
            seed=arguments.seed,
            block_size=arguments.block_size,
            devices=devices,
            es=changed(config.es, pairs=arguments.pairs),
            agent=changed(config.agent, workers=arguments.workers, rollout_steps=arguments.rollout_steps),
            objective=config.objective.replace(**network),
            levels=lived(changed(config.levels, distribution=arguments.distribution)),
            also=tuple(dataclasses.replace(each, levels=lived(each.levels)) for each in config.also),
            curriculum=curriculum,
        )
    )


def _measure(config: "RunConfig", repeats: int) -> dict[str, Any]:
    import jax

    from rl_discovery.checkpoints.provenance import versions
    from rl_discovery.discovery.objectives.lpg import LPG
    from rl_discovery.meta.build import make_program
    from rl_discovery.meta.evolve import Evolution

    program = make_program(config)
    rule = config.build_objective()
    whole = _time_generations(program, config, repeats)
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Agents of the meta-gradient are evaluated only where a lifetime ends: there is little to leave out.
    training = whole
    if isinstance(program, Evolution):
        training = _time_generations(_without_evaluation(program), config, repeats)
    rates = [steps / s for steps, s in zip(whole.env_steps, whole.seconds, strict=True)]
    train_rates = [steps / s for steps, s in zip(training.env_steps, training.seconds, strict=True)]
    gemm = _gemm_gflops(config)
    flop = flop_per_env_step(config)
    train_rate = statistics.median(train_rates)
    return {
        "env_steps_per_s": round(statistics.median(rates), 1),
        "train_env_steps_per_s": round(train_rate, 1),
        "generation_s": round(statistics.median(whole.seconds), 4),
        "generation_all_s": [round(s, 4) for s in whole.seconds],
        "replay_fraction": None if whole.replayed is None else round(whole.replayed, 3),
        "curriculum_s": round(_time_curriculum(program, whole.state, config.groups), 5),
        "compile_s": round(whole.compile_s, 2),
        "first_generation_s": round(whole.first_s, 3),
        "peak_rss_mb": round(peak_rss / 1024, 1),
        "gemm_gflops": round(gemm, 1),
        "flop_per_env_step": flop,
        "gemm_fraction": round(train_rate * flop / (gemm * 1e9), 4),
        "train_env_steps": whole.env_steps[-1],
        "devices": program.mesh.size,
        "platform": jax.default_backend(),
        "preset": config.preset,
        "pairs": config.es.pairs,
        "workers": config.agent.workers,
        "rollout_steps": config.agent.rollout_steps,
        "horizon": config.levels.horizon,
        "gru_width": rule.width if isinstance(rule, LPG) else None,
        "precision": getattr(config.objective, "precision", "float32"),
        "distribution": config.levels.distribution,
        "score": config.curriculum.score,
        "block_size": config.block_size,
        "repeats": repeats,
        "seed": config.seed,
        "versions": versions(),
    }


@dataclasses.dataclass(frozen=True)
class _Timing:
    compile_s: float
    first_s: float
    seconds: list[float]
    env_steps: list[int]
    replayed: float | None
    state: Any


def _time_generations(program: "Program", config: "RunConfig", repeats: int) -> _Timing:
    """Compiles one generation, runs it once to warm up, then `repeats` times from state to state."""
    import jax

    from rl_discovery.meta.build import compile_step
    from rl_discovery.meta.results import env_steps_of

    state = jax.block_until_ready(program.place(jax.jit(program.init)()))
    began = time.perf_counter()
    step = compile_step(program, state)
    compile_s = time.perf_counter() - began
    seconds, env_steps, replayed = [], [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state))
        seconds.append(time.perf_counter() - began)
        env_steps.append(env_steps_of(config, jax.device_get(metrics["updates"])))
        replayed.append(float(metrics.get("replay_fraction", math.nan)))
    # Nothing is replayed where there is no buffer, or where no lifetime of a meta-gradient ended.
    known = [share for share in replayed[1:] if not math.isnan(share)]
    mean = statistics.mean(known) if known else None
    return _Timing(compile_s, seconds[0], seconds[1:], env_steps[1:], mean, state)


def _time_curriculum(program: "Program", state: Any, levels: int, repeats: int = 20) -> float:
    """Seconds that the curriculum itself takes in a generation: serving levels and recording plays."""
    import jax
    import jax.numpy as jnp

    from rl_discovery.meta.curriculum import Played

    curriculum, everywhere = program.curriculum, jnp.ones(levels, bool)

    def serve_and_record(state: Any, key: Any, generation: Any) -> Any:
        playing, level_batch = curriculum.serve(state, key, generation, everywhere)
        scores = jax.random.uniform(key, (levels,))
        played = Played(agent_return=scores, score=scores, best_return=scores)
        return curriculum.record(playing, level_batch, played, everywhere, generation), level_batch

    run = jax.jit(serve_and_record)
    key, generation = jax.random.key(0), state.generation
    jax.block_until_ready(run(state.curriculum, key, generation))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run(state.curriculum, key, generation))
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _without_evaluation(program: "Evolution") -> "Evolution":
    """The program with lanes that train and are not evaluated."""
    import jax
    import jax.numpy as jnp

    from rl_discovery.discovery.learning.lifetime import Learner
    from rl_discovery.discovery.learning.rollout import Episodes

    class TrainingOnly(Learner):
        def episodes(self, level: Any, key: Any, train_state: Any, discount: float = 1.0) -> Any:
            """A number that needs the whole trained agent, so that no work is optimised away."""
            total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(train_state.agent.params))
            return Episodes(returns=jnp.full(self.workers, total), discounted=jnp.full(self.workers, total))

    def training_only(lanes: "Lanes") -> "Lanes":
        learner = lanes.learner
        fields = {field.name: getattr(learner, field.name) for field in dataclasses.fields(learner)}
        return dataclasses.replace(lanes, learner=TrainingOnly(**fields))

    return dataclasses.replace(program, lanes=tuple(training_only(lanes) for lanes in program.lanes))


def flop_per_env_step(config: "RunConfig") -> int:
    """Floating-point operations of the objective's matrix products per environment step.

    GRU: 2 x 3 G (G + inputs); heads: 2 G (1 + M); phi, on y(s_t) and y(s_{t+1}): 2 x 2 (M E + E).
    A drift: its two layers forwards, once an epoch.
    """
    from rl_discovery.discovery.objectives.lpg import LPG
    from rl_discovery.discovery.objectives.lpo import LPO

    rule = config.build_objective()
    if isinstance(rule, LPO):
        return 2 * rule.width * (len(rule.inputs) + 1) * config.agent.epochs
    if not isinstance(rule, LPG):  # a few terms or a schedule
        return 0
    gru = 6 * rule.width * (rule.width + len(rule.inputs))
    heads = 2 * rule.width * rule.network.outputs
    return gru + heads + 4 * rule.embedding_width * (rule.bins + 1)


def _gemm_gflops(config: "RunConfig", size: int = 1024, products: int = 20) -> float:
    """Matrix-product rate of all devices together, in the run's precision, best of five."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    from rl_discovery.discovery.sharding import AXIS, make_mesh

    mesh = make_mesh(config.devices)
    dtype = jnp.dtype(getattr(config.objective, "precision", "float32"))

    def on_device(a: Any) -> Any:
        def multiply(_: Any, x: Any) -> Any:
            product = jnp.matmul(x, a[0], preferred_element_type=jnp.float32)
            return (product * (1.0 / math.sqrt(size))).astype(dtype)

        return jax.lax.fori_loop(0, products, multiply, a[0])[None]

    spec = PartitionSpec(AXIS)
    run = jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    # Random numbers: zeros would flatter some hardware.
    operand = jax.random.normal(jax.random.key(0), (mesh.size, size, size)).astype(dtype)
    jax.block_until_ready(run(operand))
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(run(operand))
        seconds.append(time.perf_counter() - began)
    return mesh.size * products * 2 * size**3 / min(seconds) / 1e9


def _show(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title="throughput", show_header=False)
    for name, value in result.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    output.results().print(table)

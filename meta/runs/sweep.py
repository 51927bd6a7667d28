"""A search over fields of a configuration: the plan, its trials, and how they compare.

A trial is a run of its own in a directory of its own, so all that a run promises (exact resuming, metrics)
holds for it. `scripts.sweep` is the command; Slurm arrays run one trial each.
"""

import dataclasses
import itertools
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints import untrusted
from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import one_line
from rl_discovery.checkpoints.fields import changed, flatten, unknown_field
from rl_discovery.checkpoints.run_directory import CONFIG
from rl_discovery.discovery.objectives.registry import RULES, make_objective
from rl_discovery.meta.build import make_program
from rl_discovery.meta.config import NOT_IDENTITY, RunConfig, from_json, to_json
from rl_discovery.meta.errors import ConfigError, RunError
from rl_discovery.meta.objective_settings import of_kind, settings_class
from rl_discovery.meta.objective_settings import to_json as objective_to_json
from rl_discovery.meta.runs.status import read_status

FORMAT = 1
"""Version of sweep.json; a higher one is refused."""

PLAN_FILE = "sweep.json"

NONE = ("none", "None", "null")
"""Spellings of a field without a value."""

DRAWS = 100
"""Random points tried per trial before the search space is called too small."""

DIGITS = 4
"""Significant digits of a random value; more would only make names long."""

NAME_LENGTH = 120
"""Longest name of a trial's directory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """Values of one field.

    Attributes:
        name: dotted, as in config.json.
        values: as typed; empty for a range.
        low, high: ends of a range, which is sampled log-uniformly.
        whole: the range is of integers.
    """

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False

    def draw(self, source: random.Random) -> str:
        """Draws one of the values, or a point in the range, as text."""
        if self.values:
            return self.values[int(source.random() * len(self.values))]
        value = self.low * math.exp(source.random() * math.log(self.high / self.low))
        return str(round(value)) if self.whole else f"{value:.{DIGITS}g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep.

    Attributes:
        name: its directory in the sweep's.
        overrides: fields that it sets, by dotted name; JSON values.
    """

    name: str
    overrides: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All runs of a sweep.

    Attributes:
        preset: what they start from.
        fixed: fields in which all of them differ from the preset; JSON values.
        trials: in the order that they run in.
    """

    preset: str
    fixed: Mapping[str, Any]
    trials: tuple[Trial, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """The state of a trial.

    Attributes:
        name, overrides: the trial's.
        run_dir: its run directory.
        state: of its run, or `not begun`, or `damaged`.
        generations, fitness, held_out_fitness, env_steps, seconds: as in `RunStatus`.
        total: generations to be done; None before it began.
    """

    name: str
    run_dir: str
    overrides: Mapping[str, Any]
    state: str
    generations: int = 0
    total: int | None = None
    fitness: float | None = None
    held_out_fitness: float | None = None
    env_steps: int = 0
    seconds: float = 0.0


def parse_axis(text: str, base: RunConfig) -> Axis:
    """`FIELD=A,B,...`, or `FIELD=LOW..HIGH` for a range; integers make a range of integers.

    Raises:
        ConfigError: there is no such field, or the values cannot be read.
    """
    name, equals, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    known = [field for field in flatten(to_json(base)) if field != "preset"]
    known += [field for field in _fields_of_rules() if field not in known]
    if not equals or not values.strip():
        raise ConfigError(f"{text!r} is not FIELD=VALUE,... or FIELD=LOW..HIGH")
    if name.startswith("drift."):
        raise ConfigError(f"{name} is now {name.replace('drift', 'objective')}")
    if name not in known:
        raise ConfigError(unknown_field(name, known))
    if ".." in values:
        return _range(name, values)
    return Axis(name=name, values=tuple(value.strip() for value in values.split(",")))


def _fields_of_rules() -> set[str]:
    """Settings of all learned objectives: a sweep over `objective.kind` may search them too."""
    rules = {type(rule) for rule in map(make_objective, RULES) if dataclasses.is_dataclass(type(rule))}
    return {f"objective.{name}" for rule in rules for name in settings_class(rule).names()}


def _range(name: str, values: str) -> Axis:
    words = values.split("..")
    try:
        low, high = map(float, words)
        usable = 0 < low < high < math.inf
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{name}={values}: a range is LOW..HIGH with 0 < LOW < HIGH, as it is log-uniform")
    whole = all(word.strip().isdecimal() for word in words)
    return Axis(name=name, low=low, high=high, whole=whole)


def points(axes: Sequence[Axis], count: int | None, seed: int) -> list[dict[str, str]]:
    """Combinations of values, by field.

    Args:
        axes: the fields.
        count: how many random combinations, all different; None: all of them.
        seed: of the random ones.

    Raises:
        ConfigError: a field is named twice, a range without random points, or fewer combinations than
            `count`.
    """
    names = [axis.name for axis in axes]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is named twice; give all its values at once")
    if count is None:
        if ranges := [axis.name for axis in axes if not axis.values]:
            raise ConfigError(f"{ranges[0]} is a range, which needs random points: give --random")
        combinations = itertools.product(*(axis.values for axis in axes))
        return [dict(zip(names, values, strict=True)) for values in combinations]
    source, drawn = random.Random(seed), dict[tuple[str, ...], None]()
    for _ in range(DRAWS * count):
        drawn[tuple(axis.draw(source) for axis in axes)] = None
        if len(drawn) == count:
            return [dict(zip(names, values, strict=True)) for values in drawn]
    raise ConfigError(f"only {len(drawn)} different combinations were found, not {count}")


def make_plan(
    preset: RunConfig, base: RunConfig, combinations: Sequence[Mapping[str, str]]
) -> tuple[Plan, list[RunConfig]]:
    """A plan and the configuration of each trial, all of them checked.

    Args:
        preset: what was started from.
        base: what the trials have in common.
        combinations: the fields that each trial sets, by name, as typed.

    Raises:
        ConfigError: a trial is impossible, or two are the same.
    """
    trials: list[Trial] = []
    configs: list[RunConfig] = []
    for number, texts in enumerate(combinations):
        document = to_json(base)
        try:
            if kind := texts.get("objective.kind"):
                document["objective"] = objective_to_json(of_kind(base.objective, kind))
            for name, text in texts.items():
                _set(document, name, text)
            config = from_json(document)
            # Built on this machine's devices, whichever the trial will run on.
            make_program(dataclasses.replace(config, devices=None))
        except ValueError as error:  # all refusals are ValueErrors
            words = " ".join(f"{name}={text}" for name, text in texts.items())
            raise ConfigError(f"trial {number} ({words}) cannot work: {error}") from None
        values = flatten(to_json(config))
        overrides = {name: values[name] for name in texts}
        if equal := [trial for trial in trials if trial.overrides == overrides]:
            raise ConfigError(f"trial {number} is the same as {equal[0].name}: a value is named twice")
        trials.append(Trial(name=_name(number, overrides), overrides=overrides))
        configs.append(config)
    fixed = changed(to_json(base), to_json(preset))
    return Plan(preset=preset.preset, fixed=fixed, trials=tuple(trials)), configs


def write_plan(directory: Path, plan: Plan) -> None:
    """Writes a plan to its directory, whole or not at all; the same plan may be there already.

    What may change when any run resumes, such as its number of generations, may change here too. Held-out
    evaluation may not, since whether a run allows it depends on the rest of its configuration.

    Raises:
        ConfigError: the directory has another plan.
        RunError, CheckpointError: it cannot be read or written.
    """
    path = directory / PLAN_FILE
    if path.exists():
        if (old := read_plan(directory)) == plan:
            return
        if reason := _difference(old, plan):
            raise ConfigError(f"{path} is another sweep's ({reason}); choose another --dir")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {directory}: {error.strerror}; choose another --dir") from None
    replace_file(path, (json.dumps(to_document(plan), indent=2) + "\n").encode())


def to_document(plan: Plan) -> dict[str, Any]:
    """The contents of sweep.json."""
    trials = [{**dataclasses.asdict(trial), "run_dir": trial.name} for trial in plan.trials]
    return {"format": FORMAT, "preset": plan.preset, "fixed": dict(plan.fixed), "trials": trials}


def read_plan(directory: Path) -> Plan:
    """The plan of a sweep's directory.

    Raises:
        RunError: there is none, or it is damaged or of a newer format.
    """
    path = directory / PLAN_FILE
    try:
        document = untrusted.read_json(path, untrusted.PLAN)
        untrusted.check_version(document, FORMAT)
        trials = tuple(Trial(name=t["name"], overrides=dict(t["overrides"])) for t in document["trials"])
        if not all(re.fullmatch(r"\d[\w.=+-]*", trial.name) for trial in trials):  # inside the folder
            raise ValueError("a trial is a directory in the sweep's")
        if not isinstance(document["preset"], str):
            raise TypeError("a preset is a name")
        return Plan(preset=document["preset"], fixed=dict(document["fixed"]), trials=trials)
    except FileNotFoundError:
        raise RunError(f"{directory} is not a sweep: it has no {PLAN_FILE}") from None
    except untrusted.RefusedError as error:
        raise RunError(f"{path} {one_line(str(error))}; restore it or delete it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({type(error).__name__}); restore it or delete it") from None


def is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether a trial has every generation, and the checkpoint after the last."""
    try:
        status = read_status(run_dir)
    except RunError:  # not begun; or damaged, which the trial itself repairs or complains about
        return False
    return status.generations >= config.generations and (status.checkpoint or 0) >= config.generations


def compare(directory: Path, plan: Plan) -> list[Result]:
    """Results of the trials: the finished ones first, the best of them at the top.

    Better is a higher held-out fitness where all that ran have one, else a higher fitness.
    """
    results = [_result(directory / trial.name, trial) for trial in plan.trials]
    ran = [result for result in results if result.fitness is not None]
    held_out = bool(ran) and all(result.held_out_fitness is not None for result in ran)

    def order(result: Result) -> tuple[bool, float]:
        value = result.held_out_fitness if held_out else result.fitness
        return result.state != "done", math.inf if value is None else -value

    return sorted(results, key=order)


def _result(path: Path, trial: Trial) -> Result:
    def result(state: str, **more: Any) -> Result:
        return Result(name=trial.name, run_dir=str(path), overrides=trial.overrides, state=state, **more)

    if not (path / CONFIG).exists():
        return result("not begun")
    try:
        status = read_status(path)
    except RunError:  # one damaged file must not hide the others' results
        return result("damaged")
    return result(
        status.state,
        generations=status.generations,
        total=status.total,
        fitness=status.fitness,
        held_out_fitness=status.held_out_fitness,
        env_steps=status.env_steps,
        seconds=status.seconds,
    )


def _set(document: Any, name: str, text: str) -> None:
    """Sets a field to text, which validation converts; tuples are separated by spaces."""
    *path, last = name.split(".")
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    as_list = isinstance(document.get(last), list)
    document[last] = None if text in NONE else text.split() if as_list else text


def _name(number: int, overrides: Mapping[str, Any]) -> str:
    """The name of a trial's directory, as in `003_es.sigma=0.1_seed=1`."""
    words = (f"{name}={_text(value)}" for name, value in overrides.items())
    return re.sub(r"[^\w.=+-]", "-", "_".join([f"{number:03}", *words]), flags=re.ASCII)[:NAME_LENGTH]


def _text(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _difference(old: Plan, new: Plan) -> str | None:
    """Why two plans are not the same sweep, in words; None where they are."""
    if old.preset != new.preset:
        return f"preset was {old.preset}, now {new.preset}"
    if changed := list(_changed(old.fixed, new.fixed)):
        return "; ".join(changed)
    if len(old.trials) != len(new.trials):
        return f"{len(old.trials)} trials were planned, now {len(new.trials)}"
    for before, now in zip(old.trials, new.trials, strict=True):
        if before != now:
            return f"trial {before.name} is now {now.name}"
    return None


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in {**old, **new}:
        may_change = name.partition(".")[0] in NOT_IDENTITY or name == "curriculum.gallery"
        before, now = (fixed.get(name, "as in the preset") for fixed in (old, new))
        if not may_change and before != now:
            yield f"{name} was {before}, now {now}"

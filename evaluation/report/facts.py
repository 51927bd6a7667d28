"""What came out, what a run is, where its numbers come from: summary, configuration, provenance, commands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.fields import flatten
from rl_discovery.checkpoints.loading import is_named
from rl_discovery.checkpoints.provenance import versions
from rl_discovery.checkpoints.spelling import SHIPPED
from rl_discovery.discovery.formatting import (
    MISSING,
    count,
    difference,
    duration,
    interval,
    number,
    plural,
    setting,
)
from rl_discovery.evaluation.report.curves import first_mean, last_mean
from rl_discovery.evaluation.report.document import Fact
from rl_discovery.evaluation.report.figures import slug
from rl_discovery.evaluation.report.files import RunFiles
from rl_discovery.evaluation.results import Aggregate, Results
from rl_discovery.evaluation.tables import Table
from rl_discovery.evaluation.tuning import tuning_flag


def verdict(run: RunFiles) -> str:
    """What came out, in one sentence: the score at the longest lifetime beside that of the best other one.

    The objective is called ahead or behind where their paired difference is more than two standard errors.
    Without an evaluation, what the card says of one; without that, how fitness rose.
    """
    aggregates = run.card_scores if run.results is None else run.results.aggregate
    scored = [a for a in aggregates if a.iqm is not None]
    if not scored:
        return _how_fitness_rose(run)
    name = _subject(run, scored)
    mine = max((a for a in scored if a.objective == name), key=lambda a: a.horizon)
    others = [a for a in scored if (a.suite, a.horizon) == (mine.suite, mine.horizon) and a is not mine]
    where = f"on “{mine.suite}”, lifetime {mine.horizon:,}"
    score = f"a normalised return of {interval(mine.iqm, mine.ci_low, mine.ci_high)}"
    if not others:
        return f"{name} reaches {score} {where}."
    best = max(others, key=lambda a: a.iqm or 0.0)
    against = interval(best.iqm, best.ci_low, best.ci_high)
    pairs = () if run.results is None else run.results.improvement
    paired = next(
        (
            e.paired
            for e in pairs
            if (e.objective, e.over, e.suite, e.horizon) == (name, best.objective, mine.suite, mine.horizon)
        ),
        None,
    )
    if paired is None or paired.standard_error is None:
        return f"{name} reaches {score} {where}; {best.objective} reaches {against}."
    ahead = abs(paired.mean) > 2 * paired.standard_error
    relation = ("ahead of" if paired.mean > 0 else "behind") if ahead else "level with"
    return (
        f"{name} is {relation} {best.objective} {where}: {score} against {against}, "
        f"paired difference {difference(*paired)}."
    )


def _subject(run: RunFiles, scored: Sequence[Aggregate]) -> str:
    """The label of the objective that the page is about: its own name, else the first."""
    own = ((run.card or {}).get("objective") or {}).get("type")
    labels = [a.objective for a in scored]
    return own if own in labels else labels[0]


def _how_fitness_rose(run: RunFiles) -> str:
    if run.card is not None:
        return "It has not been evaluated yet."
    first, last = first_mean(run.rows, "fitness_mean"), last_mean(run.rows, "fitness_mean")
    if first is None or last is None:
        return "No result yet."
    over = plural(len(run.rows), "generation")
    return f"Mean fitness went from {number(first[0])} to {number(last[0])} in {over}; not evaluated yet."


def headline(run: RunFiles) -> str:
    """What was searched, how, on what; in one sentence."""
    if not run.config:
        rule = ((run.card or {}).get("objective") or {}).get("type", "unknown")
        return f"An exported objective, {str(rule).upper()}; its card does not say how it was evolved."
    objective, levels = run.config.get("objective") or {}, run.config.get("levels") or {}
    how = "evolution strategies" if run.config.get("trainer") == "es" else "meta-gradients"
    kind = str(objective.get("kind", "objective")).upper()
    where = [levels, *((more.get("levels") or {}) for more in run.config.get("also") or ())]
    names = ", ".join(str(place.get("distribution")) for place in where)
    return f"Preset {run.config.get('preset')}: {kind}, searched by {how}, on levels of {names}."


def summary(run: RunFiles) -> tuple[Fact, ...]:
    """The numbers that people ask for first."""
    last, planned = run.totals, run.config.get("generations")
    facts = []
    if isinstance(done := last["generations"], int):
        detail = f"of {planned:,} planned" if isinstance(planned, int) else ""
        facts.append(Fact("Generations", f"{done:,}", detail))
    if (mean := last_mean(run.rows, "fitness_mean")) is not None:
        value, last_few = mean
        detail = f"mean over the last {last_few:,} generations" if last_few > 1 else "of the last generation"
        facts.append(Fact("Fitness", number(value), detail))
    if (noise := last_mean(run.rows, "noise_ratio")) is not None:
        detail = "step length; pure noise gives 1"
        if (agreement := last_mean(run.rows, "direction_correlation")) is not None:
            detail += f"; correlation with the recent direction {number(agreement[0], 3, sign=True)}"
        facts.append(Fact("Noise ratio", number(noise[0]), detail))
    if isinstance(last.get("env_steps"), int | float):
        facts.append(Fact("Environment steps", count(last["env_steps"]), "in meta-training"))
    if isinstance(last.get("wall_s"), int | float):
        rate = last["env_steps"] / last["wall_s"] if last.get("env_steps") and last["wall_s"] > 0 else None
        facts.append(
            Fact(
                "Wall time",
                duration(last["wall_s"]),
                "" if rate is None else f"{count(rate)} steps per second",
            )
        )
    facts.append(Fact("Seed", str(run.config.get("seed"))))
    scored = [
        a for a in (run.card_scores if run.results is None else run.results.aggregate) if a.iqm is not None
    ]
    if scored:
        facts.append(_best_score(_subject(run, scored), scored))
    return tuple(facts)


def card_scores(run: RunFiles) -> Table | None:
    """The scores in an objective's card: a row per objective and suite, a column per horizon."""
    scores = run.card_scores
    if not scores:
        return None
    horizons = sorted({a.horizon for a in scores})
    known = {(a.objective, a.suite, a.horizon): interval(a.iqm, a.ci_low, a.ci_high) for a in scores}
    rows = tuple(
        (label, suite, *(known.get((label, suite, horizon), MISSING) for horizon in horizons))
        for label, suite in dict.fromkeys((a.objective, a.suite) for a in scores)
    )
    head = ("Objective", "Suite", *(f"{horizon:,}" for horizon in horizons))
    return Table(f"Normalised return by lifetime, from the card of {run.name}", head, rows, labels=2)


def _best_score(first: str, aggregates: Sequence[Aggregate]) -> Fact:
    scored = [a for a in aggregates if a.objective == first]
    longest = max((a for a in scored if a.suite == scored[0].suite), key=lambda a: a.horizon)
    where = f"{first} on “{longest.suite}”, lifetime {longest.horizon:,}"
    return Fact("Normalised return", number(longest.iqm), where)


def configuration(run: RunFiles) -> Table:
    """Every field of the configuration."""
    rows = tuple((name, setting(value)) for name, value in flatten(run.config).items())
    return Table(f"Configuration of {run.name}: {len(rows)} fields", ("Field", "Value"), rows, labels=2)


def differences(runs: Sequence[RunFiles]) -> Table:
    """Fields that are not the same in all runs."""
    flat = [flatten(run.config) for run in runs]
    names = dict.fromkeys(name for fields in flat for name in fields)
    rows = tuple(
        (name, *("not there" if name not in fields else setting(fields[name]) for fields in flat))
        for name in names
        if any(fields.get(name, names) != flat[0].get(name, names) for fields in flat)
    )
    caption = f"{len(rows)} of {len(names)} fields of the configuration differ"
    return Table(caption, ("Field", *(run.name for run in runs)), rows, labels=1 + len(runs))


def provenance(run: RunFiles, card: Mapping[str, Any]) -> Table:
    """Versions of every stage, seeds, steps, time, the objective's fingerprint."""
    last = run.totals
    rows: list[tuple[str, str]] = [("Seed of meta-training", str(run.config.get("seed")))]
    if isinstance(done := last["generations"], int):
        rows.append(("Generations", f"{done:,}"))
    if isinstance(steps := last.get("env_steps"), int | float):
        rows.append(("Environment steps", f"{steps:,}"))
    if isinstance(earlier := card.get("earlier_env_steps"), int):
        rows.append(("Environment steps of the runs before", f"{earlier:,}"))
    if isinstance(seconds := last.get("wall_s"), int | float):
        words, exact = duration(seconds), f"{seconds:,.0f} s"
        rows.append(("Wall time", words if words == exact else f"{words} ({exact})"))
    if run.objective_sha256 is not None:
        generation = card.get("generations")
        at = f" after {generation:,} generations" if isinstance(generation, int) else ""
        rows.append((f"SHA-256 of objective.safetensors{at}", run.objective_sha256))
    if run.results is not None:
        seeds = sorted({cell.seed for cell in run.results.cells})
        rows.append(("Seeds of the evaluation", ", ".join(map(str, seeds))))
        rows.append(("Environment steps of the evaluation", f"{_steps(run.results):,}"))
    stages = {"meta-training": run.versions}
    stages |= {} if run.results is None else {"evaluation": run.results.versions}
    stages |= {} if run.analysis is None else {"analysis": run.analysis.versions}
    stages["this report"] = versions()
    for packages, names in _grouped(stages).items():
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        rows.append((f"Versions of {listed}", packages))
    return Table(f"Provenance of {run.name}", ("What", "Value"), tuple(rows), labels=2)


def _steps(results: Results) -> int:
    return sum(cell.env_steps * cell.levels for cell in results.cells)


def _grouped(stages: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for stage, known in stages.items():
        words = ", ".join(f"{name} {version}" for name, version in known.items()) or "not recorded"
        groups.setdefault(words, []).append(stage)
    return groups


def evaluate_commands(run: RunFiles) -> tuple[tuple[str, str], ...]:
    """What repeats the evaluation, a command per suite: horizons are in the suite's own unit.

    Repeated are suites, horizons, levels, numbers of seeds, tuning, and the baselines that have a name of
    their own; results do not hold what other options were given, nor the files of other objectives.

    Returns:
        Suite and command line; nothing without results.
    """
    if run.results is None:
        return ()
    suites = list(dict.fromkeys(cell.suite for cell in run.results.cells))
    several = len(suites) > 1  # each would overwrite the others' results
    commands = []
    for suite in suites:
        words = _evaluate_words(run.results, suite)
        name = f"evaluation-{slug(suite)}" if several else "evaluation"
        out = _out(run, name) if several or run.card is not None else []
        commands.append((suite, spelling.command("evaluate", run.path, *out, *words)))
    return tuple(commands)


def _evaluate_words(results: Results, suite: str) -> list[str]:
    """The flags; `--baselines` last and always there, as without it there would be the default ones."""
    cells = [cell for cell in results.cells if cell.suite == suite]
    horizons = sorted({cell.horizon for cell in cells})
    words = ["--suite", suite, "--horizons", *map(str, horizons)]
    words += ["--seeds", str(len({cell.seed for cell in cells}))]
    words += ["--levels", str(max(cell.levels for cell in cells))]
    tuned = [entry for entry in results.tuned if entry.suite == suite]
    if tuned:
        words.append(tuning_flag(tuned))
    _, *others = dict.fromkeys(cell.objective for cell in results.cells)
    named = [label for label in others if is_named(label)]
    # Somebody may have a file or folder of that name here.
    return [*words, "--baselines", *(f"{SHIPPED}{n}" if Path(n).exists() else n for n in named)]


def analyse_command(run: RunFiles) -> str | None:
    """What makes the analysis again; None without one."""
    if run.analysis is None:
        return None
    lives = run.analysis.lifetimes
    words = ["--suite", lives.suite, "--levels", str(lives.levels), "--seeds", str(lives.seeds)]
    words += ["--lifetime", str(lives.horizon), "--workers", str(lives.workers)]
    horizons = dict.fromkeys(d.horizon for d in run.analysis.horizon_blind.distances)
    words += [] if run.card is None else _out(run, "analysis")
    return spelling.command("analyse", run.path, *words, "--horizons", *map(str, horizons))


def hints(run: RunFiles) -> dict[str, tuple[str, str]]:
    """What would fill the sections on evaluation and analysis: a sentence and a command for each."""
    found = {}
    for section, command in (("evaluation", "evaluate"), ("analysis", "analyse")):
        text, out = f"No {section} of {run.name} yet. This command makes it:", []
        if run.card is not None:
            out = _out(run, section)
            text = f"This command makes the {section} of {run.name}; then give `report` --{section} {out[1]}:"
        found[section] = text, spelling.command(command, run.path, *out)
    return found


def _out(run: RunFiles, name: str) -> list[str]:
    """The flag for a folder in the run directory, or beside an objective's file; not one of its very name."""
    in_run = isinstance(run.path, Path) and run.card is None
    return ["--out", spelling.word(Path(run.path) / name if in_run else Path(f"{run.name}-{name}"))]

"""From files and agents to the document; `scripts.report` calls it, `render` draws what comes out."""

import dataclasses
from collections.abc import Callable, Sequence

from rl_discovery.checkpoints import spelling
from rl_discovery.evaluation.report import boards, facts
from rl_discovery.evaluation.report.agents import POINTS, Lesson, Subject, levels_of, watch
from rl_discovery.evaluation.report.analysis import analysis_part
from rl_discovery.evaluation.report.curves import curves
from rl_discovery.evaluation.report.document import AgentsPart, Curriculum, Document, Figure, RunPart
from rl_discovery.evaluation.report.figures import PALETTE, figure, line
from rl_discovery.evaluation.report.files import RunFiles
from rl_discovery.evaluation.report.scores import evaluation_part

SHOWN_LEVELS = 8
"""Levels that are drawn where the run has no gallery."""

GALLERY_ALT = (
    "Sheet of the levels of highest score in the replay buffer, two pictures each: the path of an agent "
    "trained by the objective on the left, of the A2C antagonist on the right, with their "
    "numbers."
)


@dataclasses.dataclass(frozen=True)
class Source:
    """What a run's part of the page is made of.

    Attributes:
        files: of the run directory.
        command: the command line that makes the run again.
        subject: for what is trained and drawn; None without a saved objective.
        levels: levels that agents are trained on; 0: none.
        seed: of these levels and agents.
    """

    files: RunFiles
    command: str
    subject: Subject | None
    levels: int
    seed: int


def gather(
    sources: Sequence[Source], made: str, command: str, progress: Callable[[str], None] = lambda stage: None
) -> Document:
    """The whole document; trains the agents that it shows.

    Args:
        sources: the runs.
        made: when and by which version the report was made.
        command: what makes the report again.
        progress: called with what is about to be done.
    """
    runs = [source.files for source in sources]
    *most, last = (run.name for run in runs)
    names = f"{', '.join(most)} and {last}" if most else last
    return Document(
        title=f"{names} compared" if len(runs) > 1 else names,
        made=made,
        runs=tuple(_part(i, source, command, progress) for i, source in enumerate(sources)),
        curves=curves(runs),
        differences=facts.differences(runs) if len(runs) > 1 else None,
        evaluation=evaluation_part(runs),
    )


def _part(index: int, source: Source, command: str, progress: Callable[[str], None]) -> RunPart:
    run = source.files
    made: list[tuple[str, str | None]] = [("Meta-training", source.command)]
    made += [(f"Evaluation on “{suite}”", line) for suite, line in facts.evaluate_commands(run)]
    made += [("Analysis", facts.analyse_command(run)), ("This report", command)]
    return RunPart(
        name=run.name,
        headline=facts.headline(run),
        facts=facts.summary(run),
        config=facts.configuration(run),
        curriculum=_curriculum(source),
        agents=_agents(index, source, progress),
        analysis=None if run.analysis is None else analysis_part(f"analysis-{index}", run.analysis),
        provenance=facts.provenance(run, {} if source.subject is None else source.subject.objective.card),
        commands=tuple((what, line) for what, line in made if line is not None),
        hints={
            "evaluation": spelling.command("evaluate", run.path),
            "analysis": spelling.command("analyse", run.path),
        },
        evaluated=run.results is not None,
        no_agents="No agents were asked for."
        if source.subject is not None
        else "There is no objective yet: the run has not reached a checkpoint.",
    )


def _curriculum(source: Source) -> Curriculum:
    run, subject = source.files, source.subject
    settings = run.config.get("curriculum") or {}
    score = str(settings.get("score", "random"))
    if run.gallery is not None:
        return Curriculum(
            f"Levels are replayed by {score.replace('_', ' ')}. The gallery as of the run's last checkpoint.",
            run.gallery,
            GALLERY_ALT,
        )
    replay = (
        "This run has no curriculum: every level is new"
        if score == "random"
        else f"Levels are replayed by {score.replace('_', ' ')}, and the run has drawn no gallery"
    )
    if subject is None or not subject.drawable:
        return Curriculum(f"{replay}; its environments are not drawn.")
    levels = subject.levels(source.seed + 1, SHOWN_LEVELS)
    env = subject.distribution.env
    drawn = tuple(boards.board(env, level) for level in levels_of(levels))
    return Curriculum(
        f"{replay}. Here are {SHOWN_LEVELS} levels drawn for this page from its distribution "
        f"{subject.environment}.",
        boards=drawn,
    )


def _agents(index: int, source: Source, progress: Callable[[str], None]) -> AgentsPart | None:
    subject = source.subject
    if subject is None or source.levels == 0:
        return None
    levels = subject.levels(source.seed, source.levels)
    lessons = watch(subject, levels, source.seed, progress)
    where = subject.environment
    note = f"For this page {len(lessons)} agents were trained from scratch on "
    note += f"a level of {where} each, " if subject.drawable else f"{where}, "
    note += (
        "with the objective as it stands and the run's own settings of agents "
        f"({subject.agent.workers} workers)."
    )
    if source.files.config.get("also"):
        note += " It is the first of the run's environments."
    if any(lesson.horizon < lesson.own_horizon for lesson in lessons):
        note += f" Lifetimes were cut at {subject.longest():,} updates, to bound the time that this takes."
    if subject.drawable:
        note += (
            " Of each there is an episode before and one after, with actions sampled from the policy, on the "
            "same random numbers."
        )
        env = subject.distribution.env
        shown = tuple(boards.shown(env, f"Level {i + 1}", lesson) for i, lesson in enumerate(lessons))
    else:
        note += " This environment's states are not drawn; returns over the lifetime are shown instead."
        shown = ()
    return AgentsPart(note, shown, _returns(index, lessons))


def _returns(index: int, lessons: Sequence[Lesson]) -> Figure:
    traces, words = [], []
    for i, lesson in enumerate(lessons):
        label, colour = f"agent {i + 1} (N = {lesson.horizon:,})", PALETTE[i % len(PALETTE)]
        share = [update / lesson.horizon for update in lesson.updates]
        values = [round(value, 4) for value in lesson.returns]
        traces.append(line(share, values, label, colour).update(mode="lines+markers"))
        if lesson.optimal is not None:
            best = {"width": 1.2, "dash": "dot"}
            traces.append(line([0, 1], [lesson.optimal] * 2, "best", colour, line=best, showlegend=False))
        words.append(f"{label} from {values[0]:.2f} to {values[-1]:.2f}")
    title = "Return over the lifetime"
    alt = f"{title}, at {POINTS + 1} moments: {'; '.join(words)}."
    known = any(lesson.optimal is not None for lesson in lessons)
    # Elsewhere than on gridworlds the upper end of a score is somebody's result.
    dotted = f"; dotted: {'best policy' if lessons[0].level is not None else 'reference'}" if known else ""
    return figure(f"agents-{index}", title + dotted, alt, traces, x="n/N", y="mean return of an episode")

"""Makes the document from files and agents; `scripts.report` calls it, `render` draws the result."""

import dataclasses
from collections.abc import Callable, Sequence

from rl_discovery.evaluation.report import boards, facts
from rl_discovery.evaluation.report.agents import POINTS, AgentHistory, ReportedRun, levels_of, train_agents
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
    """The inputs of a run's part of the page.

    Attributes:
        files: of the run directory.
        command: the command line that makes the run again; None where nothing says how it was made.
        reported: for what is trained and drawn; None without a saved objective.
        levels: levels that agents are trained on; 0: none.
        seed: of these levels and agents.
    """

    files: RunFiles
    command: str | None
    reported: ReportedRun | None
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
        no_curves="No generation has ended yet."
        if any(run.card is None for run in runs)
        else "The file of an objective does not hold the metrics of its run.",
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
        verdict=facts.verdict(run),
        headline=facts.headline(run),
        facts=facts.summary(run),
        config=facts.configuration(run),
        curriculum=_curriculum(source),
        agents=_agents(index, source, progress),
        analysis=None if run.analysis is None else analysis_part(f"analysis-{index}", run.analysis),
        provenance=facts.provenance(run, {} if source.reported is None else source.reported.objective.card),
        commands=tuple((what, line) for what, line in made if line is not None),
        hints=facts.hints(run),
        evaluated=run.results is not None,
        card_scores=None if run.results is not None else facts.card_scores(run),
        no_agents=_why_no_agents(source),
    )


def _why_no_agents(source: Source) -> str:
    if source.reported is not None:
        return "No agents were asked for."
    if source.files.card is not None:
        return "The objective's card does not say on which levels it was evolved."
    return "There is no objective yet: the run has not reached a checkpoint."


def _curriculum(source: Source) -> Curriculum:
    run, reported = source.files, source.reported
    if not run.config:
        return Curriculum("The objective's card does not say on which levels it was evolved.")
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
    if reported is None or not reported.drawable:
        return Curriculum(f"{replay}; its environments are not drawn.")
    levels = reported.levels(source.seed + 1, SHOWN_LEVELS)
    env = reported.distribution.env
    drawn = tuple(boards.board(env, level) for level in levels_of(levels))
    return Curriculum(
        f"{replay}. Here are {SHOWN_LEVELS} levels drawn for this page from its distribution "
        f"{reported.environment}.",
        boards=drawn,
    )


def _agents(index: int, source: Source, progress: Callable[[str], None]) -> AgentsPart | None:
    reported = source.reported
    if reported is None or source.levels == 0:
        return None
    levels = reported.levels(source.seed, source.levels)
    histories = train_agents(reported, levels, source.seed, progress)
    where = reported.environment
    note = f"For this page {len(histories)} agents were trained from scratch on "
    note += f"a level of {where} each, " if reported.drawable else f"{where}, "
    note += (
        "with the objective as it stands and the run's own settings of agents "
        f"({reported.agent.workers} workers)."
    )
    if source.files.config.get("also"):
        note += " It is the first of the run's environments."
    if any(history.horizon < history.own_horizon for history in histories):
        note += f" Lifetimes were cut at {reported.longest():,} updates, to bound the time that this takes."
    if reported.drawable:
        note += (
            " Of each there is an episode before and one after, with actions sampled from the policy, on the "
            "same random numbers."
        )
        env = reported.distribution.env
        shown = tuple(
            boards.agent_level(env, f"Level {i + 1}", history) for i, history in enumerate(histories)
        )
    else:
        note += " This environment's states are not drawn; returns over the lifetime are shown instead."
        shown = ()
    return AgentsPart(note, shown, _returns(index, histories))


def _returns(index: int, histories: Sequence[AgentHistory]) -> Figure:
    traces, words = [], []
    for i, history in enumerate(histories):
        label, colour = f"agent {i + 1} (N = {history.horizon:,})", PALETTE[i % len(PALETTE)]
        share = [update / history.horizon for update in history.updates]
        values = [round(value, 4) for value in history.returns]
        traces.append(line(share, values, label, colour).update(mode="lines+markers"))
        if history.optimal is not None:
            best = {"width": 1.2, "dash": "dot"}
            traces.append(line([0, 1], [history.optimal] * 2, "best", colour, line=best, showlegend=False))
        words.append(f"{label} from {values[0]:.2f} to {values[-1]:.2f}")
    title = "Return over the lifetime"
    alt = f"{title}, at {POINTS + 1} moments: {'; '.join(words)}."
    known = any(history.optimal is not None for history in histories)
    # Elsewhere than on gridworlds the upper end of a score is somebody's result.
    dotted = f"; dotted: {'best policy' if histories[0].level is not None else 'reference'}" if known else ""
    return figure(f"agents-{index}", title + dotted, alt, traces, x="n/N", y="mean return of an episode")

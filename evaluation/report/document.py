"""The contents of a report: the typed document that `gather` makes and `render` draws.

Texts are plain; figures are Plotly's JSON; boards are numbers in units of cells. Nothing here knows HTML.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from rl_discovery.evaluation.tables import Table

Json: TypeAlias = Any
"""What `json.dumps` takes."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """An interactive figure.

    Attributes:
        name: unique in the page, fit for an HTML id.
        title: above it.
        alt: what it shows, in words, for those who cannot see it.
        spec: `data` and `layout` as Plotly takes them; colours of text and grid are the page's.
    """

    name: str
    title: str
    alt: str
    spec: Mapping[str, Json]


@dataclasses.dataclass(frozen=True)
class Fact:
    """A number of the summary with its label."""

    label: str
    value: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Curves:
    """Metrics over meta-training, all of them, for the page to choose from.

    Attributes:
        runs: per run its name and columns by name; `smooth` holds their running means.
        metrics: what can be chosen, the most telling first.
        axes: what they can be drawn over: column and label.
        note: how the numbers were thinned.
    """

    runs: tuple[Mapping[str, Json], ...]
    metrics: tuple[str, ...]
    axes: tuple[tuple[str, str], ...]
    note: str


@dataclasses.dataclass(frozen=True)
class EvaluationPart:
    """What agents reach on suites: tables that are shown, tables on request, figures.

    Attributes:
        tables, figures: shown.
        more: tables shown when asked for.
        note: what a score is.
    """

    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    more: tuple[Table, ...]
    note: str


@dataclasses.dataclass(frozen=True)
class Explorer:
    """Figures that follow a choice of N and a slider over n/N.

    Attributes:
        name: unique in the page, fit for an HTML id.
        horizons: labels of N, the choice; a single one is no choice.
        shares: n/N, the slider's stops; one alone is no slider.
        groups: figures as they begin, those together that are to be compared.
        states: per horizon and stop: per figure, by name, the changes of each of its traces; and `facts`,
            the numbers beside them.
        facts: labels of these numbers.
        start: index of the horizon that is shown first.
    """

    name: str
    horizons: tuple[str, ...]
    shares: tuple[float, ...]
    groups: tuple[tuple[Figure, ...], ...]
    states: tuple[tuple[Mapping[str, Json], ...], ...]
    facts: tuple[str, ...]
    start: int

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The figures of all groups."""
        return tuple(figure for group in self.groups for figure in group)


@dataclasses.dataclass(frozen=True)
class AnalysisPart:
    """What `analyse` found.

    Attributes:
        explorer: response or drift over the horizon; None where the rule is a schedule and nothing else.
        schedule: each constant over the lifetime.
        figures: agents over their lifetime.
        tables: what they reach with a wrong n/N, and how well the formula fits.
        formula: of a learned drift.
        note: how much the objective makes of the horizon, in words.
    """

    explorer: Explorer | None
    schedule: tuple[Figure, ...]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    formula: str | None
    note: str


@dataclasses.dataclass(frozen=True)
class Disc:
    """An object of a gridworld: where, how large, what it is worth."""

    x: float
    y: float
    radius: float
    strength: float
    kind: Literal["positive", "negative"]
    ring: bool


@dataclasses.dataclass(frozen=True)
class Board:
    """A gridworld as it is drawn, in units of cells from the upper left corner.

    Attributes:
        size: side.
        walls: columns and rows of walls.
        discs: the objects.
        agent: column and row of its first cell; None where it is placed at random.
        alt: the board in words.
    """

    size: int
    walls: tuple[tuple[int, int], ...]
    discs: tuple[Disc, ...]
    agent: tuple[float, float] | None
    alt: str


@dataclasses.dataclass(frozen=True)
class Walk:
    """An episode to be played on a board.

    Attributes:
        title: whose.
        result: what came of it, in words.
        board: where, as the episode begins.
        frames: per step, from the first state on: `agent` [x, y], `present` bits, `places` of the objects
            where they move, `gained` so far.
    """

    title: str
    result: str
    board: Board
    frames: Sequence[Mapping[str, Json]]


@dataclasses.dataclass(frozen=True)
class AgentLevel:
    """One level of the section on agents: its name, what is known of it, and the agent before and after."""

    title: str
    facts: str
    walks: tuple[Walk, ...]


@dataclasses.dataclass(frozen=True)
class AgentsPart:
    """Agents before and after their lifetime.

    Attributes:
        note: how they were trained, and what is not shown.
        levels: to be played; none where the environment cannot be drawn.
        curve: their returns over the lifetime.
    """

    note: str
    levels: tuple[AgentLevel, ...]
    curve: Figure


@dataclasses.dataclass(frozen=True)
class Curriculum:
    """The levels of a run.

    Attributes:
        note: what they are.
        picture: the gallery as a PNG, if the run has drawn one.
        alt: the picture in words.
        boards: levels drawn anew, where it has not.
    """

    note: str
    picture: bytes | None = None
    alt: str = ""
    boards: tuple[Board, ...] = ()


@dataclasses.dataclass(frozen=True)
class RunPart:
    """The sections on one run.

    Attributes:
        name: how the page calls it.
        verdict: what came out, in one sentence.
        headline: what was searched, how, on what.
        facts: its numbers.
        config: every field of the configuration.
        curriculum, agents, analysis: their sections; None where there is nothing to show.
        provenance: where its numbers come from.
        commands: what makes them again: what for, and the command line.
        hints: by section a sentence and the command that would fill it.
        evaluated: whether the evaluation has it.
        card_scores: scores of an objective's card, for want of an evaluation.
        no_agents: why there are none.
    """

    name: str
    verdict: str
    headline: str
    facts: tuple[Fact, ...]
    config: Table
    curriculum: Curriculum
    agents: AgentsPart | None
    analysis: AnalysisPart | None
    provenance: Table
    commands: tuple[tuple[str, str], ...]
    hints: Mapping[str, tuple[str, str]]
    evaluated: bool
    card_scores: Table | None = None
    no_agents: str = ""


@dataclasses.dataclass(frozen=True)
class Document:
    """The whole report.

    Attributes:
        title: of the page.
        made: when and by which version.
        runs: one, or several that are compared.
        curves: of all runs; None before the first generation has ended, and of objectives' files.
        no_curves: why there are none.
        differences: of their configurations; None for one run.
        evaluation: of all runs that were evaluated; None if none was.
    """

    title: str
    made: str
    runs: tuple[RunPart, ...]
    curves: Curves | None
    no_curves: str
    differences: Table | None
    evaluation: EvaluationPart | None

"""Errors of evaluations, analyses and reports; each message is one line for a person to act on."""

import importlib.util
from collections.abc import Mapping


class EvaluationError(ValueError):
    """Something was asked for that cannot be evaluated; the message is for a person."""


class ResultsError(RuntimeError):
    """No results of a known format, or with parts missing."""


class RaggedError(ResultsError, ValueError):
    """Cells of which no matrix of runs x environments can be made: some are missing."""


class ReportError(RuntimeError):
    """A file that the report is made of is damaged or not there; says which and what to do."""


class MissingExtraError(RuntimeError):
    """A package of one of our extras is not installed."""


def require(extra: str, what: str, packages: Mapping[str, str]) -> None:
    """Makes sure of the packages of an extra.

    Args:
        extra: its name.
        what: what needs them, as the message begins.
        packages: by the name of their modules what people call them.

    Raises:
        MissingExtraError: one is not installed; names the extra.
    """
    if missing := [name for module, name in packages.items() if importlib.util.find_spec(module) is None]:
        raise MissingExtraError(f"{what} {' and '.join(missing)} (pip install 'rl-discovery[{extra}]')")

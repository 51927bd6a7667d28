"""Errors of evaluations, analyses and reports; each message is one line that a user can act on."""


class EvaluationError(ValueError):
    """The request cannot be evaluated; the message says why."""


class ResultsError(RuntimeError):
    """No results of a known format, or with parts missing."""


class RaggedError(ResultsError, ValueError):
    """Cells of which no matrix of runs x environments can be made: some are missing."""


class ReportError(RuntimeError):
    """A file that the report is made of is damaged or not there; says which and what to do."""

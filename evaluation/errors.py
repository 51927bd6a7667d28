"""What can go wrong with an evaluation, as errors whose message is one line for a person to act on."""


class EvaluationError(ValueError):
    """Something was asked for that cannot be evaluated; the message is for a person."""


class ResultsError(RuntimeError):
    """No results of a known format, or with parts missing."""


class RaggedError(ResultsError, ValueError):
    """Cells of which no matrix of runs x environments can be made: some are missing."""

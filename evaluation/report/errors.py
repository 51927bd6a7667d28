"""What can go wrong with a report, as errors whose message is one line for a person to act on."""

import importlib.util

PACKAGES = ("plotly", "jinja2")
"""Of the extra `report`."""


class ReportError(RuntimeError):
    """A file that the report is made of is damaged or not there; says which and what to do."""


class MissingExtraError(RuntimeError):
    """A package of the extra `report` is not installed."""


def require() -> None:
    """Refuses to start without the packages of the extra.

    Raises:
        MissingExtraError: one is missing; names the extra.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"a report needs {' and '.join(missing)}: pip install 'rl-discovery[report]'")

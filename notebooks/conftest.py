"""nbmake runs every notebook here from start to end, on the small budget that its first cell has for that.

The kernel is one of the Python that runs the tests, and imports the packages of this checkout.
"""

import os
from pathlib import Path

import pytest

from tests import quick

ROOT = Path(__file__).parent.parent
PATHS = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = {"RL_DISCOVERY_NOTEBOOKS": "small", "PYTHONPATH": os.pathsep.join(PATHS), **quick.ENVIRONMENT}


def pytest_itemcollected(item):
    """All of them compile for half a minute: they start before the quick tests."""
    item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """The kernel inherits the environment of this process, for as long as it runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        return (yield)

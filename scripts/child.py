"""The command in a process of its own, for `sweep`, weak scaling of `bench`, and the tools of tools/."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder that holds the package."""

COMMAND = (sys.executable, "-m", "rl_discovery.scripts.cli")
"""Starts `rl-discovery`; its arguments follow."""


def environment() -> dict[str, str]:
    """This process's, in which the package is found, installed or not."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

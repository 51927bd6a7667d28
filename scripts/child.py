"""The command in a process of its own, with the same packages wherever the user stands.

Called by `sweep`, weak scaling of `bench`, the fault campaign and the soak.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""Where the packages are."""

PYTHON = (sys.executable, "-P")
"""-P: a folder named scripts where the user stands is not ours."""

COMMAND = (*PYTHON, "-m", "scripts.cli")
"""Starts `rl-discovery`; its arguments follow."""


def environment() -> dict[str, str]:
    """This process's, in which the packages are found."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

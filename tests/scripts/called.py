"""Commands called in the tests' own process."""

import tempfile
from pathlib import Path

from rl_discovery.meta import config_file
from rl_discovery.scripts import cli


def called(command, capture, *arguments):
    """Exit status, standard output and standard error of the command; `capture` is capsys or capfd."""
    try:
        status = cli.main([command, *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    captured = capture.readouterr()
    return status, captured.out, captured.err


def given_back(printed):
    """The configuration that `--print-config` printed, when `--config` is given it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "printed.toml")
        path.write_text(printed)
        return config_file.load(path)

"""Commands called in the tests' own process."""

from rl_discovery.scripts import cli


def called(command, capture, *arguments):
    """Exit status, standard output and standard error of the command; `capture` is capsys or capfd."""
    try:
        status = cli.main([command, *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    captured = capture.readouterr()
    return status, captured.out, captured.err

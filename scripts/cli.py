"""`rl-discovery COMMAND`: finds the command's module, sets up JAX for it, and turns errors into one line.

A command is imported when it is called, so that `--help` is instant.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from rl_discovery.checkpoints import spelling
from rl_discovery.discovery.registry import did_you_mean, load_place, load_plugin
from rl_discovery.meta import config_file
from rl_discovery.meta.errors import ConfigError
from rl_discovery.scripts import index, runtime, streams


class Command(NamedTuple):
    """A command.

    Attributes:
        module: of this package, with `main(argv) -> exit status`.
        description: for the overview.
        names: whether its help lists names.
        arguments: a module that checks the arguments without JAX, where `module` imports it.
    """

    module: str
    description: str
    names: bool = False
    arguments: str = ""


COMMANDS: dict[str, Command] = {
    "meta-train": Command("meta_train", "evolve an objective; run it again to resume", names=True),
    "status": Command("status", "how a run goes, from its files; --watch follows it"),
    "sweep": Command("sweep", "search over fields, a run for each value, and a table of them", names=True),
    "evaluate": Command(
        "evaluate", "train agents with an objective on levels it never saw", True, "evaluate_arguments"
    ),
    "analyse": Command(
        "analyse",
        "what an objective does over the horizon: figures, numbers, a formula",
        True,
        "analyse_arguments",
    ),
    "report": Command(
        "report",
        "a run as one HTML file that opens offline; several are compared",
        arguments="report_arguments",
    ),
    "export": Command(
        "export",
        "write a run's objective to one file, also for PyTorch or NumPy",
        arguments="export_arguments",
    ),
    "import-drift": Command(
        "import_drift",
        "make an objective of an LPO drift that other code has saved",
        arguments="import_drift_arguments",
    ),
    "bench": Command("bench", "measure throughput", names=True),
    "list": Command("list_", "presets, envs, distributions, suites, objectives, strategies, scores, fitness"),
    "doctor": Command("doctor", "versions, devices, what is missing and how to install it"),
    "completion": Command("completion", "a script that completes commands, options and names in a shell"),
}
"""Every command by name."""

FAILURE, BAD_USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: its name and arguments; those of the process by default.

    Returns:
        The exit status: 0 success, 1 failure, 2 bad usage or configuration, 128 + signal after a
        stop; commands have others of their own.
    """
    streams.secure()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h"):
        return _survive_closed_pipe(lambda: print(overview()))
    if name == "--version":
        return _survive_closed_pipe(lambda: print(f"rl-discovery {_version()}"))
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        return _fail(f"unknown command {name!r}: {hint}`rl-discovery --help` lists them", BAD_USAGE)
    return _run(COMMANDS[name], arguments[1:])


def overview() -> str:
    """What `rl-discovery --help` prints."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {command.description}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: rl-discovery COMMAND [options]",
            "",
            "Evolve reinforcement-learning objectives, evaluate them, use them.",
            "",
            "commands:",
            *rows,
            "",
            "`rl-discovery COMMAND --help` explains each; `rl-discovery --version` says which this is.",
            "Every command takes `--plugin MODULE`, which registers objectives, environments or scores.",
        ]
    )


def _run(command: Command, argv: list[str]) -> int:
    alone = "jax" not in sys.modules  # it is in tests and notebooks, where they decide
    if alone:
        runtime.configure(devices_asked_for(argv))

    def run() -> int | None:
        if command.names and {"-h", "--help"} & {*argv}:
            index.make()
        rest = _load_plugins(argv)
        if command.arguments:
            _import(command.arguments).parse_arguments(rest)
        return _import(command.module).main(rest)

    status = guarded(run)
    if alone and status == BAD_USAGE and "jax" in sys.modules:
        index.make()  # so that the next mistake is answered at once
    return status


def _import(module: str) -> Any:
    return importlib.import_module(f"rl_discovery.scripts.{module}")


def _load_plugins(argv: list[str]) -> list[str]:
    """The arguments without `--plugin MODULE`; the modules of `module:name` are loaded too."""
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        flag, equals, module = word.partition("=")
        if word == "--":
            return [*rest, word, *words]
        if flag == "--plugin":
            load_plugin(module if equals else next(words, ""))
            continue
        rest.append(word)
        load_place(module if equals else word)
    return rest


def guarded(action: Callable[[], int | None]) -> int:
    """The exit status of a command; errors that a person can do something about become one line."""
    try:
        return _survive_closed_pipe(action)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.filename is None:  # no file that the user named: a bug
            raise
        return _fail(f"{error.filename}: {error.strerror}", FAILURE)
    except Exception as error:
        if not _is_message(error):
            raise
        return _fail(str(error), BAD_USAGE if isinstance(error, ValueError) else FAILURE)


def _is_message(error: Exception) -> bool:
    """Whether an exception speaks to the user: all classes that our package defines do.

    By convention those that derive from ValueError mean that something impossible was asked for.
    """
    return type(error).__module__.partition(".")[0] == "rl_discovery"


def _survive_closed_pipe(action: Callable[[], int | None]) -> int:
    """Calls; if whoever reads our output has left (`| head`), ends quietly."""
    try:
        try:
            status = action()
        finally:
            sys.stdout.flush()  # also after `--help`, which ends in SystemExit
    except BrokenPipeError:
        return BROKEN_PIPE
    return status or 0


def _fail(message: str, status: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


def devices_asked_for(argv: Sequence[str]) -> int | None:
    """The number of devices, which must be known before JAX is; the command itself checks it."""
    value = _value("--devices", argv)
    if value is not None:
        return int(value) if value.isdecimal() and int(value) > 0 else None
    if (path := _value("--config", argv)) is None:
        return None
    try:
        number = config_file.read(spelling.path_of(path)).fields.get("devices")
    except (ConfigError, spelling.HomeError):
        return None
    return number if isinstance(number, int) and number > 0 else None


def _value(flag: str, argv: Sequence[str]) -> str | None:
    for position, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name == flag:
            return value if equals else "".join(argv[position + 1 : position + 2])
    return None


def _version() -> str:
    try:
        return metadata.version("rl-discovery")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())

"""The command line: what is typed wrong, or goes wrong, is one clear line with the right exit status."""

import os
import signal
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

from rl_discovery.scripts import cli, runtime

ROOT = Path(__file__).parents[2]


class OurError(RuntimeError):
    """Speaks to the user."""


class OurUsageError(ValueError):
    """Speaks to the user about what they asked for."""


OurError.__module__ = OurUsageError.__module__ = "rl_discovery.evaluation.errors"


@pytest.fixture
def command(monkeypatch):
    """Registers a command `fake` that calls what a test gives it."""

    def register(main):
        monkeypatch.setitem(sys.modules, "rl_discovery.scripts.fake", types.SimpleNamespace(main=main))
        monkeypatch.setitem(cli.COMMANDS, "fake", cli.Command("fake", "for tests"))

    return register


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_shows_every_command(capsys, arguments):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    for name, entry in cli.COMMANDS.items():
        assert f"  {name} " in out
        assert entry.description in out
    assert max(map(len, out.splitlines())) <= 100


def test_console_command_is_main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"rl-discovery": "rl_discovery.scripts.cli:main"}


def test_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rl-discovery ")


@pytest.mark.parametrize(("typed", "hint"), [("meta_train", "did you mean 'meta-train'? "), ("--json", "")])
def test_unknown_command_exits_2_with_the_closest(capsys, typed, hint):
    assert cli.main([typed]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: unknown command {typed!r}: {hint}`rl-discovery --help` lists them\n"
    assert captured.out == ""


def test_command_gets_its_arguments_and_gives_the_status(command):
    command(lambda argv: len(argv))
    assert cli.main(["fake", "--a", "b", "c"]) == 3


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OurError("the disk\nis full"), 1, "error: the disk is full\n"),
        (OurUsageError("no such preset"), 2, "error: no such preset\n"),
        (PermissionError(13, "Permission denied", "/no/x"), 1, "error: /no/x: Permission denied\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_error_for_the_user_is_one_line(command, capsys, error, status, line):
    command(raising(error))
    assert cli.main(["fake"]) == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), OSError(5, "a bug")])
def test_bug_keeps_its_traceback(command, error):
    command(raising(error))
    with pytest.raises(type(error)):
        cli.main(["fake"])


@pytest.mark.parametrize(
    ("arguments", "devices"),
    [
        (["--devices", "4"], 4),
        (["--seed", "1", "--devices=2"], 2),
        (["--devices", "many"], None),
        (["--devices", "0"], None),
        (["--devices"], None),
        (["--seed", "1"], None),
    ],
)
def test_devices_are_known_before_jax_is_imported(arguments, devices):
    assert cli.devices_asked_for(arguments) == devices


def test_flags_of_the_user_stay():
    given = "--xla_force_host_platform_device_count=7 --xla_cpu_enable_fast_math=false"
    ours = {"xla_force_host_platform_device_count": 2, "xla_cpu_prefer_vector_width": 512}
    assert runtime.with_flags(given, ours) == f"{given} --xla_cpu_prefer_vector_width=512"


def test_configuring_after_jax_is_refused():
    import jax  # noqa: F401 - that it has been imported is the point

    with pytest.raises(RuntimeError, match="before JAX is imported"):
        runtime.configure()


def test_unwritable_cache_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert runtime.cache_dir() is None


# What only a process of its own can show. One start for all of it: each costs seconds.
PROGRAM = """
import os, sys, time
began = time.perf_counter()
from rl_discovery.scripts import cli
cli.main(["--help"])
assert not {"jax", "numpy", "rich", "tyro"} & sys.modules.keys(), "--help is slow"
seconds = time.perf_counter() - began

class Stop(Exception): ...
def main(argv):
    import jax
    assert len(jax.devices()) == 3, jax.devices()
    assert jax.config.jax_compilation_cache_dir.startswith(os.environ["XDG_CACHE_HOME"])
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5
    return 5
import types
sys.modules["rl_discovery.scripts.fake"] = types.SimpleNamespace(main=main)
cli.COMMANDS["fake"] = cli.Command("fake", "")
assert cli.main(["fake", "--devices", "3"]) == 5

reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, sys.stdout.fileno())
sys.exit(cli.main(["--help"]))  # whoever read this has left
"""


def test_fresh_process_starts_fast_configures_jax_and_survives_a_closed_pipe(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XLA_", "JAX_"))}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        cwd=tmp_path,
    )
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE

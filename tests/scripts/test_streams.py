"""Whatever the standard streams are connected to, finished work is whole, and not told as failed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import contextlib, os, sys, types
from rl_discovery.scripts import cli, output

def main(argv):
    with open("work", "w") as file:
        print("progress – \\udcff", file=sys.stderr, flush=True)
        file.write("who")
        with output.of_finished_work() if argv == ["kept"] else contextlib.nullcontext():
            output.results().print("result – \\u22121 B\\u00fcro \\udcff")
            output.results().print("." * 300_000, soft_wrap=True)
            sys.stdout.flush()
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                os.write(descriptor, b"from a library")  # which must not end in our file
        file.write("le")
    return 0

sys.modules["rl_discovery.scripts.fake"] = types.SimpleNamespace(main=main)
cli.COMMANDS["fake"] = cli.Command("fake", "")
sys.exit(cli.main(["fake", *sys.argv[1:]]))
"""

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is full")


def started(folder, redirection="", *arguments, **options):
    """The program in a shell, with its streams redirected."""
    words = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-P", "-c", PROGRAM, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("environment", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(words, env=environment, cwd=folder, **pipes)


def finished(process, folder):
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        assert (folder / "work").read_text() == "whole"
    return process.returncode, (out or b"").decode(), (err or b"").decode()


@pytest.mark.parametrize("kept", [(), ("kept",)])
@pytest.mark.parametrize(
    "redirection",
    [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", pytest.param("2>/dev/full", marks=needs_full)],
)
def test_closed_streams_and_lost_progress_are_no_failure(tmp_path, redirection, kept):
    assert finished(started(tmp_path, redirection, *kept), tmp_path)[0] == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_cannot_be_printed_are_replaced_and_a_minus_sign_stays_one(tmp_path, encoding):
    process = started(tmp_path, environment={"PYTHONIOENCODING": encoding})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    expected = {
        "ascii": "result ? -1 B?ro ?",
        "latin-1": "result ? -1 Büro ?",
        "utf-8": "result – −1 Büro ?",
    }
    assert out.decode(encoding).splitlines()[0] == expected[encoding]
    assert err.startswith(b"progress ")


@needs_full
def test_results_that_find_no_room_are_an_error_unless_they_are_in_files(tmp_path):
    status, _, err = finished(started(tmp_path, ">/dev/full"), tmp_path)
    assert status == 1
    assert err.splitlines()[1:] == ["error: standard output: No space left on device"]
    status, _, err = finished(started(tmp_path, ">/dev/full", "kept"), tmp_path)
    assert status == 0
    assert err.splitlines()[1:] == [
        "standard output: No space left on device; all files are written",
        "from a library",
    ]


@pytest.mark.parametrize(("kept", "status"), [((), 141), (("kept",), 0)])
def test_a_reader_that_leaves_ends_what_only_prints(tmp_path, kept, status):
    process = started(tmp_path, "", *kept)
    process.stdout.close()
    process.stdout = None
    found, _, err = finished(process, tmp_path)
    assert found == status
    assert "rror" not in err


def test_a_reader_of_progress_that_leaves_ends_nothing(tmp_path):
    process = started(tmp_path)
    process.stderr.close()
    process.stderr = None
    status, out, _ = finished(process, tmp_path)
    assert (status, len(out.splitlines()[1])) == (0, 300_000)


def test_a_full_pipe_that_does_not_block_loses_nothing(tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = started(tmp_path, stdout=writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        out = pipe.read()
    assert finished(process, tmp_path)[0] == 0
    assert len(out.splitlines()[1]) == 300_000

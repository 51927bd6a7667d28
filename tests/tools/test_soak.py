import subprocess
import sys

import numpy as np
import pytest

from rl_discovery.scripts.cli import guarded
from tools.soak import main, sample, summary, watch


def samples(rss=lambda hours: 700.0, threads=lambda hours: 30, files=lambda hours: 12):
    """An hour of a process, looked at every 20 seconds, whose memory wanders."""
    random = np.random.default_rng(0)
    return [
        {"seconds": 3600 * h, "rss_mib": rss(h) + random.normal(0, 10), "threads": threads(h)}
        | {"files": files(h)}
        for h in np.arange(0, 1, 20 / 3600)
    ]


def test_what_wanders_or_comes_and_goes_does_not_grow():
    assert summary(samples())["grew"] == []
    now_and_then = lambda hours: 12 + 9 * (round(180 * hours) % 7 == 0)  # noqa: E731
    found = summary(samples(files=now_and_then, threads=now_and_then))
    assert found["grew"] == []
    assert (found["files"]["lowest"], found["files"]["highest"]) == (12, 21)
    assert summary(samples(rss=lambda hours: 700 - 50 * hours))["grew"] == []


@pytest.mark.parametrize(
    ("name", "course"),
    [
        ("rss_mib", lambda hours: 700 + 20 * hours),
        ("threads", lambda hours: 30 + round(2 * hours)),
        ("files", lambda hours: 12 + int(2 * hours)),
    ],
)
def test_what_grows_is_named(name, course):
    assert summary(samples(**{name.removesuffix("_mib"): course}))["grew"] == [name]


HOLDER = """
import sys, threading
held = bytearray(b"x") * ({mib} << 20)
files = [open("/dev/null") for _ in range({files})]
for _ in range({threads}):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""


def holding(mib, threads, files):
    """A sample of a process of its own that has so much more than it needs."""
    code = HOLDER.format(mib=mib, threads=threads, files=files)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        return sample(process.pid)
    finally:
        process.communicate("")


def test_a_sample_is_what_the_process_has():
    before, after = holding(0, 0, 0), holding(40, 3, 2)
    assert after["threads"] - before["threads"] == 3
    assert after["files"] - before["files"] == 2
    assert after["rss_mib"] - before["rss_mib"] == pytest.approx(40, abs=4)


def test_watching_ends_with_the_process():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    found = watch(process, 60.0, 0.05)
    assert len(found) >= 2
    assert [row["seconds"] for row in found] == sorted(row["seconds"] for row in found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--minutes", "1", "--warm-up", "2"], "must be above 0, each longer than the last"),
        (["--every", "0"], "must be above 0"),
        ([], "exists: a soak starts a new run"),
    ],
)
def test_a_soak_that_cannot_tell_anything_is_refused_with_one_line(tmp_path, capsys, arguments, words):
    assert guarded(lambda: main(["--run-dir", str(tmp_path), *arguments])) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_run_that_ends_by_itself_is_one_line_with_its_last_words(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tools.soak.child.COMMAND", (sys.executable, "-c", "import sys; sys.exit('no disk')"))
    arguments = [
        "--run-dir",
        str(tmp_path / "run"),
        "--every",
        "0.05",
        "--warm-up",
        "0.01",
        "--minutes",
        "0.02",
    ]
    assert guarded(lambda: main(arguments)) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: the run ended after ")
    assert err.endswith("status 1: no disk\n")

"""Checkpoints in folders of every name: they come back, or are refused before anything is in them."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rl_discovery.checkpoints import plain_paths
from rl_discovery.checkpoints.errors import RunCheckpointError
from rl_discovery.checkpoints.runs import RunCheckpoints

NAMES = [
    *("a[b]", "[1]", "s*", "q?", "back\\slash", "gs:", "c:d", "new\nline", "sp ace", "%20", "#1", "{c}"),
    *("üñ", "日本", "\udcff", "$HOME", "~", "-x", "1", "'\"", "x.orbax-checkpoint-tmp", "ocdbt.process_0"),
]
STATE = {"x": np.arange(1000.0)}


def inside(directory):
    return sorted(path.name for path in directory.iterdir())


def left_open(folder, seconds=20):
    """What this process keeps open in a folder, on Linux. Orbax may keep open what is elsewhere.

    TensorStore's threads close a file a moment after it has been read.
    """
    end = time.monotonic() + seconds
    while (found := open_in(folder)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def open_in(folder):
    targets = []
    for link in list(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else []:
        with contextlib.suppress(FileNotFoundError):  # another thread has closed it
            targets.append(str(link.readlink()))
    return [target for target in targets if target.startswith(str(folder))]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_checkpoints_come_back_whatever_the_folder_is_called(tmp_path, name):
    (tmp_path / "sX").mkdir()  # which `s*` matches
    (tmp_path / "qX").mkdir()
    directory = tmp_path / name / "checkpoints"
    run = RunCheckpoints(directory, keep=2)
    for generation in range(1, 5):
        run.save(generation, STATE, {"generation": generation}, best=1)
    run.close()
    run = RunCheckpoints(directory, keep=2)
    restored = run.restore(STATE)
    run.close()
    assert (restored.generation, restored.facts, restored.damaged) == (4, {"generation": 4}, ())
    np.testing.assert_array_equal(restored.state["x"], STATE["x"])
    assert inside(directory) == ["1", "3", "4"]
    assert inside(tmp_path) == sorted({"sX", "qX", name})
    assert left_open(tmp_path) == []


IN_A_LOCALE = """
import sys
from pathlib import Path
import numpy as np
from rl_discovery.checkpoints.runs import RunCheckpoints
assert sys.getfilesystemencoding() != "utf-8"
state = {"x": np.arange(1000.0)}
run = RunCheckpoints(Path(sys.argv[1]))
run.save(1, state, {})
run.close()
run = RunCheckpoints(Path(sys.argv[1]))
assert run.restore(state).damaged == ()
run.close()
"""


def test_checkpoints_come_back_where_the_locale_is_not_utf_8(tmp_path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "JAX_PLATFORMS": "cpu"}
    directory = tmp_path / "ü" / "checkpoints"
    command = [sys.executable, "-c", IN_A_LOCALE, str(directory)]
    environment = os.environ | locale | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert inside(directory) == ["1"]
    assert inside(tmp_path) == ["ü"]


@pytest.mark.parametrize("name", ["a[b]", "gs:", "\udcff"], ids=ascii)
def test_where_there_is_no_other_name_such_a_path_is_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(plain_paths, "DESCRIPTORS", tmp_path / "absent")
    with pytest.raises(RunCheckpointError, match="which only works on Linux: choose another path") as caught:
        RunCheckpoints(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / name).iterdir())

"""What a command prints can be pasted: it is one word, and means the path that was meant."""

import shlex
from pathlib import Path

import pytest

from rl_discovery.checkpoints import spelling
from rl_discovery.checkpoints.loading import find_path

PATHS = [
    *("ta-lpg", "a2c", "mine", "-x", "-x/run", "--json", ".", "..", ".x"),
    *("~", "~/x", "~root", "~nobody-here/x"),
    *("with space", "m[/x]", "br[seed=1]", "a;b", "$HOME", "it's", "a\nb", "*", "!!", "Büro/run", "/tmp/run"),
    *("shipped:ta-lpg", "shipped:ta-lpg/run", "runs/quickstart", "a.safetensors"),
]


@pytest.mark.parametrize("path", PATHS)
def test_a_printed_command_means_the_path_that_was_meant(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not Path(path).is_absolute():
        Path(path).mkdir(parents=True, exist_ok=True)
    *program, word = shlex.split(spelling.command("evaluate", Path(path)))
    assert program == ["rl-discovery", "evaluate"]
    assert not word.startswith("-")
    for meant in (find_path(word), spelling.path_of(word)):
        assert meant == Path(path)


def test_home_that_nobody_has_is_refused():
    with pytest.raises(spelling.HomeError, match="nobody here is called ~nobody-here"):
        spelling.path_of("~nobody-here/x")

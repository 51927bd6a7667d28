"""Files are replaced whole or not at all."""

import os
from pathlib import Path

import pytest

from rl_discovery.checkpoints.atomic import replace_file
from rl_discovery.checkpoints.errors import CheckpointError


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    replace_file(path, b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*results\.json: .*No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_permissions_of_an_ordinary_one(tmp_path):
    replace_file(tmp_path / "ours", b"")
    Path(tmp_path / "ordinary").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode

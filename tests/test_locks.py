"""What is installed is what was locked: pinned, with hashes, from whatever registry the installer uses."""

import re
from pathlib import Path

import pytest

LOCKS = sorted((Path(__file__).parent.parent / "requirements").glob("*.lock"))

PINNED = r"[\w.-]+(\[[a-z0-9,-]+\])?==[^\s;]+( ; .+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*"


def entries(path):
    """Every requirement with the lines that belong to it, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_one_version_and_hashes(path):
    assert entries(path)
    for entry in entries(path):
        assert re.fullmatch(PINNED, entry), entry[:120]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_no_lock_names_an_address_or_another_registry(path):
    assert not re.search(r"://|^\s*-|@ ", "\n".join(entries(path)), re.M)

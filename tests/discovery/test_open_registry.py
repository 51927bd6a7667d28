"""What comes from outside: entry points, `module:name`, and what is broken of them."""

import sys
from importlib import metadata

import pytest

from rl_discovery.discovery.registry import (
    PLUGINS,
    BrokenPluginError,
    Registry,
    UnknownNameError,
    load_plugin,
)

MODULE = """
GOOD = 7
WRONG = "seven"
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with a module, in which we stand; it is not on Python's path."""
    (tmp_path / "numbers_of_mine.py").write_text(MODULE)
    (tmp_path / "broken_of_mine.py").write_text("import no_such_package_anywhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("numbers_of_mine", "broken_of_mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    PLUGINS.clear()


@pytest.fixture
def entry_points(outside, monkeypatch):
    """An installed package that declares entry points, one of which is good."""
    monkeypatch.syspath_prepend(outside)
    points = {
        "seven": "numbers_of_mine:GOOD",
        "text": "numbers_of_mine:WRONG",
        "missing": "numbers_of_mine:MISSING",
        "unimportable": "broken_of_mine:GOOD",
        "one": "numbers_of_mine:GOOD",  # a name of ours
    }
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    folder = outside / "somebody-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: somebody\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[rl_discovery.numbers]\n{lines}")
    assert len(metadata.entry_points(group="rl_discovery.numbers")) == len(points)


def numbers():
    return Registry("number", "numbers", int, {"one": 1, "two": 2})


def test_ours_come_first_and_then_those_of_entry_points(entry_points):
    registry = numbers()
    assert dict(registry) == {"one": 1, "two": 2, "seven": 7}
    assert registry.find("seven") == 7


def test_what_is_broken_is_skipped_and_says_why_where_it_is_asked_for(entry_points):
    registry = numbers()
    assert {*registry.broken} == {"text", "missing", "unimportable", "one"}
    assert registry.broken["one"].endswith("another number is called 'one' already")
    assert registry.find("one") == 1
    reasons = {
        "text": "it is a str, not a builtins.int",
        "missing": "AttributeError",
        "unimportable": "No module named 'no_such_package_anywhere'",
    }
    for name, words in reasons.items():
        with pytest.raises(BrokenPluginError, match=f"number '{name}' cannot be used: .*{words}") as caught:
            registry.find(name)
        assert "\n" not in str(caught.value)


def test_a_place_names_a_thing_of_a_module_that_is_loaded(outside):
    load_plugin("numbers_of_mine")
    assert numbers().find("numbers_of_mine:GOOD") == 7


def test_a_name_alone_which_may_be_of_a_file_imports_nothing(outside):
    with pytest.raises(BrokenPluginError, match="not loaded: give --plugin numbers_of_mine"):
        numbers().find("numbers_of_mine:GOOD")
    assert "numbers_of_mine" not in sys.modules


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("numbers_of_mine:WRONG", "it is a str, not a builtins.int"),
        ("numbers_of_mine:MISSING", "has no attribute 'MISSING'"),
        ("no_module_of_mine:GOOD", "not loaded"),
        (":GOOD", "not loaded"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line(outside, place, words):
    load_plugin("numbers_of_mine")
    with pytest.raises(BrokenPluginError, match=words) as caught:
        numbers().find(place)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_answered_with_the_closest_one():
    with pytest.raises(UnknownNameError) as caught:
        numbers().find("tow")
    expected = "unknown number 'tow': did you mean 'two'? `rl-discovery list numbers` shows them all"
    assert str(caught.value) == expected


def test_what_is_registered_in_python_is_found_and_no_name_is_taken_twice():
    registry = numbers()
    registry.register("three", 3)
    registry.register("three", 3)  # a module that is imported again
    assert registry.find("three") == 3
    with pytest.raises(ValueError, match="another number is called 'one' already"):
        registry.register("one", 11)
    with pytest.raises(TypeError, match=r"it is a str, not a builtins\.int"):
        registry.register("four", "4")


def test_ours_are_collected_when_they_are_first_needed():
    calls = []
    registry = Registry("number", "numbers", int, lambda: calls.append(1) or {"one": 1})
    assert not calls
    assert len(registry) == len(registry) == 1
    assert calls == [1]

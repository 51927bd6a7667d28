"""An objective is found by what a person would call it, and not finding it says what there is."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rl_discovery import checkpoints
from rl_discovery.checkpoints import (
    AmbiguousObjectiveError,
    ObjectiveFileError,
    UnknownObjectiveError,
    load_objective,
    loading,
    save_objective,
)
from rl_discovery.checkpoints.objective_file import is_learned
from rl_discovery.discovery.objectives.base import TrainedObjective
from rl_discovery.discovery.objectives.registry import RULES, make_objective


def trained(name, seed=0):
    rule = make_objective(name, width=4)
    shapes = jax.eval_shape(rule.init, jax.eval_shape(lambda: jax.random.key(0)))
    return TrainedObjective(
        rule, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), {"seed": seed}
    )


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Ships `ta-lpg` alone, and works in an empty folder."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    save_objective(folder / "ta-lpg.safetensors", trained("ta-lpg", seed=77))
    (folder / "README.md").write_text("not an objective")
    monkeypatch.setattr(loading, "_folder", lambda: folder)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def test_shipped_objective_is_loaded_by_its_name(shelf):
    assert load_objective("ta-lpg").card["seed"] == 77


def test_shipped_lists_names_with_cards(shelf):
    assert {name: card["seed"] for name, card in checkpoints.shipped().items()} == {"ta-lpg": 77}


def test_everything_that_is_really_shipped_loads():
    for name, card in checkpoints.shipped().items():
        loaded = load_objective(name)
        assert is_learned(loaded.rule)
        assert (loaded.name, dict(loaded.card)) == (name, card)


def test_package_without_shipped_objectives_works(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_folder", lambda: tmp_path / "absent")
    assert checkpoints.shipped() == {}
    assert load_objective("a2c").name == "a2c"


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_file_and_run_directory_are_loaded_by_path(shelf, kind):
    (shelf / "run").mkdir()
    save_objective(shelf / "run" / "objective.safetensors", trained("lpg", seed=5))
    for path in (shelf / "run", shelf / "run" / "objective.safetensors"):
        loaded = load_objective(kind(path))
        assert (loaded.name, loaded.card["seed"]) == ("lpg", 5)


@pytest.mark.parametrize("name", [name for name in RULES if not is_learned(make_objective(name))])
def test_hand_written_objective_needs_no_parameters(shelf, name):
    loaded = load_objective(name)
    assert (loaded.name, jax.tree.leaves(loaded.meta_params)) == (name, [])


NAMES = ["ta-lpg", *(name for name in RULES if not is_learned(make_objective(name)))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_name_of_both_an_objective_and_something_here_is_refused_with_both_spellings(shelf, name, kind):
    (shelf / "run").mkdir()
    save_objective(shelf / "run" / "objective.safetensors", trained("lpg", seed=6))
    (shelf / "run" if kind == "folder" else shelf / "run" / "objective.safetensors").rename(shelf / name)
    with pytest.raises(AmbiguousObjectiveError) as caught:
        load_objective(name)
    assert f"./{name} for the {kind} or shipped:{name} for the objective" in str(caught.value)
    for path in (f"./{name}", Path(name)):
        assert load_objective(path).card["seed"] == 6
    named = load_objective(f"shipped:{name}")
    assert (named.name, named.card.get("seed")) == (name, 77 if name == "ta-lpg" else None)


def test_shipped_before_a_name_that_is_not_says_what_there_is(shelf):
    (shelf / "mine").mkdir()
    for name, words in (
        ("ta_lpg", "did you mean 'ta-lpg'"),
        ("lpg", "no trained objective"),
        ("mine", "unknown objective 'mine'"),
    ):
        with pytest.raises(UnknownObjectiveError, match=words):
            load_objective(f"shipped:{name}")


def test_home_is_home_and_a_folder_called_so_is_spelled_out(shelf, monkeypatch):
    monkeypatch.setenv("HOME", str(shelf / "home"))
    for place, seed in ((shelf / "home" / "run", 1), (shelf / "~" / "run", 2)):
        place.mkdir(parents=True)
        save_objective(place / "objective.safetensors", trained("lpg", seed=seed))
    assert load_objective("~/run").card["seed"] == 1
    assert load_objective("./~/run").card["seed"] == 2


def test_run_directory_named_as_an_unshipped_rule_is_found(shelf):
    (shelf / "lpg").mkdir()
    save_objective(shelf / "lpg" / "objective.safetensors", trained("lpg", seed=8))
    assert load_objective("lpg").card["seed"] == 8


def test_learned_rule_without_parameters_says_so(shelf):
    with pytest.raises(
        UnknownObjectiveError, match="'lpg' is a learned rule of which no trained objective is shipped"
    ):
        load_objective("lpg")


def test_unknown_name_lists_what_there_is_with_the_closest(shelf):
    with pytest.raises(UnknownObjectiveError) as caught:
        load_objective("ta_lpg")
    message = str(caught.value)
    assert message.startswith(
        "unknown objective 'ta_lpg': did you mean 'ta-lpg'? `rl-discovery list objectives` shows"
    )
    assert " lpg," not in message, "offers what it would refuse"


@pytest.mark.parametrize("path", ["absent.safetensors", "runs/absent"])
def test_missing_path_is_called_a_path(shelf, path):
    with pytest.raises(UnknownObjectiveError, match=f"no file or run directory {path};"):
        load_objective(path)


def test_directory_without_an_objective_says_so(shelf):
    with pytest.raises(
        UnknownObjectiveError, match=r"has no objective\.safetensors: it is not a run directory, or"
    ):
        load_objective(shelf)


def test_damaged_objective_of_a_run_is_an_error(shelf):
    (shelf / "objective.safetensors").write_bytes(b"half")
    with pytest.raises(ObjectiveFileError, match=r"objective\.safetensors is not an exported objective"):
        load_objective(shelf)


def test_import_of_the_package_is_free_of_orbax():
    program = "import rl_discovery.checkpoints, sys; sys.exit('orbax.checkpoint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0

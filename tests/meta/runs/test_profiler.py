import io

import pytest
from rich.console import Console

from rl_discovery.meta.runs.meta_train import meta_train
from rl_discovery.meta.runs.profiler import Tracer
from tests.meta.processes import metrics
from tests.meta.tiny import tiny


def run(path, **options):
    text = io.StringIO()
    meta_train(tiny(generations=3), path, Console(file=text, width=500), **options)
    return text.getvalue()


@pytest.fixture
def traced(tmp_path):
    path = tmp_path / "run"
    return path, run(path, profile=True)


@pytest.mark.slow
def test_a_profile_of_the_second_generation_is_written_once_and_changes_nothing(traced, tmp_path):
    path, text = traced
    assert list((path / "profile").rglob("*.xplane.pb"))
    (line,) = (line for line in text.splitlines() if "profile of" in line)
    assert line.startswith(
        f"profile of generation 1 in {path / 'profile'}: open its *.trace.json.gz in Perfetto"
    )
    assert list((path / "profile").rglob("*.trace.json.gz")), "what the line speaks of"
    run(tmp_path / "other")
    assert metrics(path) == metrics(tmp_path / "other")
    assert (path / "config.json").read_bytes() == (tmp_path / "other" / "config.json").read_bytes()
    assert not (tmp_path / "other" / "profile").exists()


@pytest.mark.parametrize(("turns", "said"), [(1, 1), (2, 0)])
def test_a_call_of_one_generation_says_that_it_is_not_profiled(tmp_path, turns, said):
    lines = []
    Tracer(tmp_path / "profile", lines.append).check(turns)
    Tracer(None, lines.append).check(turns)
    assert len(lines) == said


@pytest.mark.parametrize(("turn", "alone"), [(0, True), (1, True), (2, False)])
def test_no_other_generation_runs_while_one_is_traced(tmp_path, turn, alone):
    assert Tracer(tmp_path, print).needs_alone(turn) is alone
    assert not Tracer(None, print).needs_alone(turn)

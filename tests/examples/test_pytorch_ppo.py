"""The PPO in PyTorch trains, where PyTorch and Gymnasium are installed."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "pytorch"


@pytest.mark.needs("torch")
@pytest.mark.needs("gymnasium")
def test_the_loop_trains_with_the_exported_drift(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    # The random policy balances the pole for 22 steps.
    assert runpy.run_path(str(FOLDER / "ppo.py"))["main"](12) > 60

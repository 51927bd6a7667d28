import pytest

from rl_discovery.meta.config import CheckpointConfig
from rl_discovery.meta.runs.saver import due

BOTH = CheckpointConfig(every=50, minutes=10)


@pytest.mark.parametrize(
    ("done", "seconds", "config", "expected"),
    [
        (50, 0.0, BOTH, True),
        (100, 0.0, BOTH, True),
        (49, 599.9, BOTH, False),
        (49, 600.0, BOTH, True),
        (51, 1e9, CheckpointConfig(every=50, minutes=None), False),
        (1, 3.1, CheckpointConfig(every=50, minutes=0.05), True),
    ],
)
def test_a_checkpoint_is_due_by_generations_or_by_minutes(done, seconds, config, expected):
    assert due(done, seconds, config) is expected

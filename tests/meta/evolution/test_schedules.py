import jax
import numpy as np
import pytest

from meta.config import EvolutionConfig
from meta.evolution import schedules


def test_a_decay_of_one_is_constant_and_not_the_floor():
    # optax.exponential_decay takes a rate of 1 for growth and clips to its end value from above.
    config = EvolutionConfig(
        learning_rate=0.1, learning_rate_decay=1.0, learning_rate_min=1e-3, sigma=0.2, sigma_decay=1.0
    )
    for schedule, value in zip(schedules(config), (0.1, 0.2), strict=True):
        assert [float(schedule(n)) for n in (0, 1, 10_000)] == pytest.approx([value] * 3)


def test_decay_is_exponential_in_generations_down_to_the_floor():
    config = EvolutionConfig(
        learning_rate=1.0,
        learning_rate_decay=0.5,
        learning_rate_min=0.1,
        sigma=0.4,
        sigma_decay=0.9,
        sigma_min=0.3,
    )
    learning_rate, sigma = schedules(config)
    np.testing.assert_allclose([learning_rate(n) for n in range(5)], [1.0, 0.5, 0.25, 0.125, 0.1])
    np.testing.assert_allclose([sigma(n) for n in range(5)], [0.4, 0.36, 0.324, 0.3, 0.3], rtol=1e-6)


def test_schedules_take_the_traced_generation_of_a_compiled_program():
    learning_rate, sigma = schedules(EvolutionConfig(sigma_decay=0.99))
    rates = jax.jit(lambda n: (learning_rate(n), sigma(n)))(np.int32(100))
    np.testing.assert_allclose(rates, (1e-2 * 0.999**100, 0.1 * 0.99**100), rtol=1e-5)


def test_the_papers_schedule_ends_where_it_says():
    learning_rate, sigma = schedules(EvolutionConfig())
    assert float(learning_rate(2500)) == pytest.approx(1e-2 * 0.999**2500, rel=1e-4)
    assert float(learning_rate(100_000)) == pytest.approx(1e-5)
    assert float(sigma(2500)) == pytest.approx(0.1)

import jax
import numpy as np
import pytest

from rl_discovery.meta.config import EvolutionConfig
from rl_discovery.meta.evolution import schedules


def test_a_decay_of_one_is_constant_and_not_the_floor():
    # optax.exponential_decay takes a rate of 1 for growth and clips to its end value from above.
    config = EvolutionConfig(
        learning_rate=0.1, learning_rate_decay=1.0, learning_rate_min=1e-3, sigma=0.2, sigma_decay=1.0
    )
    for schedule, value in zip(schedules(config, 100), (0.1, 0.2), strict=True):
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
    learning_rate, sigma = schedules(config, 100)
    np.testing.assert_allclose([learning_rate(n) for n in range(5)], [1.0, 0.5, 0.25, 0.125, 0.1])
    np.testing.assert_allclose([sigma(n) for n in range(5)], [0.4, 0.36, 0.324, 0.3, 0.3], rtol=1e-6)


def test_schedules_take_the_traced_generation_of_a_compiled_program():
    learning_rate, sigma = schedules(EvolutionConfig(sigma_decay=0.99), 100)
    rates = jax.jit(lambda n: (learning_rate(n), sigma(n)))(np.int32(100))
    np.testing.assert_allclose(rates, (1e-2 * 0.999**100, 0.1 * 0.99**100), rtol=1e-5)


def test_the_papers_schedule_ends_where_it_says():
    learning_rate, sigma = schedules(EvolutionConfig(), 100)
    assert float(learning_rate(2500)) == pytest.approx(1e-2 * 0.999**2500, rel=1e-4)
    assert float(learning_rate(100_000)) == pytest.approx(1e-5)
    assert float(sigma(2500)) == pytest.approx(0.1)


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.55), ("cosine", 0.55)], ids=["linear", "cosine"])
def test_linear_and_cosine_schedules_end_at_the_minimum_with_the_run(shape, middle):
    config = EvolutionConfig(learning_rate=1.0, learning_rate_schedule=shape, learning_rate_min=0.1)
    rate, _ = schedules(config, 40)
    np.testing.assert_allclose([rate(n) for n in (0, 20, 40, 60)], [1.0, middle, 0.1, 0.1], rtol=1e-5)
    assert all(rate(n + 1) < rate(n) for n in range(40))


def test_the_cosine_is_flat_at_both_ends_where_the_line_is_not():
    line, cosine = (
        schedules(EvolutionConfig(learning_rate_schedule=shape, learning_rate_min=0.0), 100)[0]
        for shape in ("linear", "cosine")
    )
    assert cosine(0) - cosine(1) < 0.1 * (line(0) - line(1))


def test_warm_up_rises_to_the_schedule_and_leaves_it_alone_afterwards():
    plain, _ = schedules(EvolutionConfig(), 100)
    warmed, _ = schedules(EvolutionConfig(warmup=4), 100)
    np.testing.assert_allclose(
        [warmed(n) for n in range(6)], [min(1.0, (n + 1) / 5) * plain(n) for n in range(6)], rtol=1e-6
    )

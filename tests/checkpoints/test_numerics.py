import re

import jax
import pytest

from rl_discovery.checkpoints import numerics
from tests.checkpoints.switches import switched

INDIFFERENT = re.compile(
    r"jax2tf_.*|check_vma|mock_num_gpu_processes"
    r"|jax_(log|dump|debug|distributed|compilation_cache|persistent_cache|transfer_guard|mock|error_checking"
    r"|pallas|pgle|cpu|cross_host|share_binary|export|traceback|platform|array_garbage|backend|bcoo|captured"
    r"|hlo_source|include|num_cpu|ragged|rocm|cuda|oneapi|serialization|tracer_error|xla_backend)(_.*|s)?"
    r"|jax_(allow_f16_reductions|auto_pcast|check_.*|compiler_detailed_logging_min_ops|default_device"
    r"|disable_(bwd_checks|vmap_shmap_error)|disallow_mesh_context_manager"
    r"|enable_(checks|compilation_cache|preemption_service|recoverability)"
    r"|experimental_unsafe_xla_runtime_errors|explain_cache_misses|force_dcn_cross_host_transfers"
    r"|legacy_prng_key|mosaic_allow_hlo|mutable_array_checks|no_execution|no_tracing|numpy_rank_promotion"
    r"|pjrt_client_create_options|pprint_use_color|raise_persistent_cache_errors|refs_to_pins"
    r"|remove_.*|send_traceback_to_runtime|sort_devices_by_process_index|source_url_schema|thread_guard"
    r"|logging_level|use_(emit_pipeline_primitive|magma))"
)
"""Switches that say where, how loudly or how carefully JAX works, and decide no number of ours."""


def known(names):
    return [name for name in names if name in jax.config.values]


@pytest.mark.parametrize("name", sorted(jax.config.values))
def test_of_every_switch_of_jax_it_is_known_whether_it_decides_numbers(name):
    assert (name in numerics.IDENTITY + numerics.ROUNDING) != bool(INDIFFERENT.fullmatch(name))


@pytest.mark.parametrize("name", known(numerics.IDENTITY))
def test_a_switch_that_makes_another_run_shows(name):
    before = numerics.identity()
    with switched(name):
        after = numerics.identity()
    assert [key for key in before if before[key] != after[key]] == [name]
    assert numerics.identity() == before


@pytest.mark.parametrize("name", known(numerics.ROUNDING))
def test_a_switch_that_makes_another_program_shows(name):
    before = numerics.rounding()
    with switched(name):
        after = numerics.rounding()
    assert [key for key in before if before[key] != after[key]] == [name]


def test_a_switch_that_is_set_by_a_context_manager_shows():
    with jax.default_prng_impl("rbg"):
        assert numerics.identity()["jax_default_prng_impl"] == "rbg"


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        ("", ""),
        ("--xla_force_host_platform_device_count=8 --xla_dump_to=x", ""),
        ("--xla_b=2 --xla_cpu_collective_call_warn_stuck_timeout_seconds=9 --xla_a", "--xla_a --xla_b=2"),
    ],
)
def test_flags_of_xla_that_decide_numbers_show_in_a_fixed_order(monkeypatch, flags, shown):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert numerics.rounding()["xla_flags"] == shown

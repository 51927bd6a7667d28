"""How programs are compiled in the tests' own processes: fast, because most of the suite's time is XLA's."""

XLA_FLAGS = "--xla_cpu_use_fusion_emitters=false"
"""Fusion emitters double the time that compilation takes."""

ENVIRONMENT = {"XLA_FLAGS": XLA_FLAGS, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
"""For a process whose numbers must be those of the tests' own."""

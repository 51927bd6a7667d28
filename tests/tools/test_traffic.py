import subprocess
import sys

import pytest

from tests.meta.processes import ROOT, environment
from tests.quick import ENVIRONMENT
from tools.traffic import Collective, collectives, total_bytes

DEVICES = 8
FLOAT = 4
SCRIPT = """
import sys
import jax
from rl_discovery.meta.build import compile_step, make_program
from tests.tools.test_traffic import CASES
from tests.meta.tiny import tiny
for name, changes in CASES.items():
    program = make_program(tiny(devices=8, **changes))
    state = program.place(jax.jit(program.init)())
    open(f"{sys.argv[1]}/{name}", "w").write(compile_step(program, state).as_text())
size = sum(leaf.size for leaf in jax.tree.leaves(program.meta_params(state)))
open(f"{sys.argv[1]}/size", "w").write(str(size))
"""
LIVING = {"trainer": "meta_gradient", "block_size": 2}
CASES = {
    "es": {"es": {"pairs": 8}, "block_size": 2},
    "es, three times the steps": {"es": {"pairs": 8}, "block_size": 2, "agent": {"rollout_steps": 12}},
    "es, twice the lanes": {"es": {"pairs": 16}, "block_size": 2},
    "living": LIVING | {"meta_gradient": {"lanes": 16, "updates": 2}},
    "living, six times the steps": LIVING
    | {"meta_gradient": {"lanes": 16, "updates": 4}, "agent": {"rollout_steps": 12}},
    "living, twice the lanes": LIVING | {"meta_gradient": {"lanes": 32, "updates": 2}},
}


@pytest.fixture(scope="module")
def crossing(tmp_path_factory):
    """What crosses the devices in each case, and the number of meta-parameters."""
    folder = tmp_path_factory.mktemp("programs")
    flags = f"{ENVIRONMENT['XLA_FLAGS']} --xla_force_host_platform_device_count={DEVICES}"
    subprocess.run(
        [sys.executable, "-c", SCRIPT, folder],
        env=environment(**(ENVIRONMENT | {"XLA_FLAGS": flags})),
        cwd=ROOT,
        check=True,
    )
    found = {name: collectives((folder / name).read_text()) for name in CASES}
    return found, int((folder / "size").read_text())


@pytest.mark.slow
def test_evolution_sends_a_number_per_candidate_and_sums_of_the_size_of_the_meta_parameters(crossing):
    found, size = crossing
    padded = -(-size // DEVICES) * DEVICES
    for name, pairs in (("es", 8), ("es, three times the steps", 8), ("es, twice the lanes", 16)):
        fitness = [collective for collective in found[name] if collective.kind == "all-reduce"]
        assert total_bytes(fitness) == FLOAT * 2 * pairs, name
        # Partial sums, pairs / devices of them on each, cut into slices; then the whole sum on each.
        assert total_bytes(found[name]) - total_bytes(fitness) == FLOAT * padded * (pairs // DEVICES + 1), (
            name
        )


@pytest.mark.slow
def test_living_lanes_send_their_levels_and_results_but_no_agents_and_no_steps(crossing):
    found, size = crossing
    assert found["living"] == found["living, six times the steps"]
    more = total_bytes(found["living, twice the lanes"]) - total_bytes(found["living"])
    padded = -(-size // DEVICES) * DEVICES
    assert 0 < more - FLOAT * padded < 16 * 200, "bytes per lane that are no partial sum"


@pytest.mark.slow
def test_nothing_crosses_devices_inside_a_loop(crossing):
    for name, instructions in crossing[0].items():
        assert instructions, name
        assert not [collective for collective in instructions if collective.repeated], name


def test_collectives_of_a_program_written_by_hand():
    program = """HloModule hand

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%inner (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %r = f32[4]{0} all-reduce(%x), replica_groups={}, to_apply=%add
}

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %c = (s32[], f32[4]) call(%p), to_apply=%inner
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]) while(%t), condition=%cond, body=%body
  %g = (bf16[2,8]{1,0}, pred[3]{0}) all-gather-start(%y, %z), dimensions={0}
  ROOT %t = f32[4]{0} add(%x, %x)
}
"""
    assert collectives(program) == [Collective("all-reduce", 16, True), Collective("all-gather", 35, False)]
